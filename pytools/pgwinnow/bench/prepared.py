"""Prepared statements driven through libpq, so that a timing holds the query and next to nothing of Python.

The query vector travels as a binary parameter, filter values in text form, and ids come back in binary.
"""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import pq

from pgwinnow.errors import WinnowError
from pgwinnow.types import to_binary

TEXT, BINARY = 0, 1
CANCEL_SECONDS = 5.0  # that a request to cancel may take
_names = itertools.count()


class BenchError(WinnowError):
    """The server refused something the benchmark asked of it."""


@dataclass(frozen=True)
class Call:
    """The parameters of one execution: the vector first, then the filter's values."""

    parameters: tuple[bytes, ...]
    formats: tuple[int, ...]


def vector_call(vector: npt.NDArray[np.float32], values: Sequence[str] = ()) -> Call:
    """The parameters of a search: the vector in the binary form that both vector types share, values as text."""
    parameters = (to_binary(vector), *(value.encode() for value in values))
    return Call(parameters, (BINARY, *(TEXT for _ in values)))


class Statement:
    """One prepared statement on one connection.

    Ctrl-C while it runs cancels it on the server, and then is a KeyboardInterrupt as anywhere; the connection can be
    used (to roll back, say), or is closed where the server did not answer.
    """

    def __init__(self, connection: psycopg.Connection, sql: str) -> None:
        self._connection = connection
        self._link = connection.pgconn
        self._name = f"bench_{next(_names)}".encode()
        self.sql = sql
        check(self._link.prepare(self._name, sql.encode()), sql)

    def run(self, call: Call) -> tuple[npt.NDArray[np.int64], float]:
        """Execute once, where the result is one column of bigint ids: the ids in order, and the seconds it took."""
        result, seconds = self.execute(call)
        ids = b"".join(result.get_value(row, 0) or b"" for row in range(result.ntuples))
        return np.frombuffer(ids, dtype=">i8").astype(np.int64), seconds

    def execute(self, call: Call) -> tuple[pq.abc.PGresult, float]:
        """Execute once: the result, its values in binary, and the seconds from sending to having all of it."""
        try:
            start = time.perf_counter()
            self._link.send_query_prepared(self._name, call.parameters, call.formats, BINARY)
            result = receive(self._link)
            seconds = time.perf_counter() - start
        except BaseException:
            self._cancel()
            raise
        check(result, self.sql)
        return result, seconds

    def explain(self, call: Call, *, analyze: bool = True) -> str:
        """The plan in JSON; with ``analyze``, also buffer counts, from executing the same query."""
        options = b"ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON" if analyze else b"FORMAT JSON"
        sql = b"EXPLAIN (" + options + b") " + self.sql.encode()
        try:
            self._link.send_query_params(sql, call.parameters, None, call.formats, TEXT)
            result = receive(self._link)
        except BaseException:
            self._cancel()
            raise
        check(result, self.sql)
        return (result.get_value(0, 0) or b"[]").decode()

    def _cancel(self) -> None:
        """End what runs, if anything does. Never raises, as it is called while something else is raised."""
        try:
            if self._link.transaction_status == pq.TransactionStatus.ACTIVE:
                self._connection.cancel_safe(timeout=CANCEL_SECONDS)
                receive(self._link)
        except BaseException:  # such as Ctrl-C again; the server rolls back what a closed connection has begun
            self._link.finish()


def receive(link: pq.abc.PGconn) -> pq.abc.PGresult:
    """Wait for the result of the one query sent; unlike libpq's own waiting, it ends with a signal's exception."""
    while link.flush():
        select.select((link.socket,), (link.socket,), ())
        link.consume_input()
    last: pq.abc.PGresult | None = None
    while True:
        while link.is_busy():
            select.select((link.socket,), (), ())
            link.consume_input()
        result = link.get_result()
        if result is None:
            break
        last = result
    if last is None:
        raise psycopg.OperationalError(link.get_error_message())
    return last


def check(result: pq.abc.PGresult, sql: str) -> None:
    """Raise BenchError unless the result is one of success."""
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        raise BenchError(f"{result.get_error_message().strip()}, in: {sql}")
