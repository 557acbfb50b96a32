"""Prepared statements driven through libpq, so that a timing holds the query and next to nothing of Python.

The query vector travels as a binary parameter, filter values in text form, and ids come back in binary.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import pq

from pgwinnow._errors import WinnowError
from pgwinnow.types import to_binary

TEXT, BINARY = 0, 1
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
    """One prepared statement on one connection."""

    def __init__(self, connection: psycopg.Connection, sql: str) -> None:
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
        start = time.perf_counter()
        result = self._link.exec_prepared(self._name, call.parameters, call.formats, BINARY)
        seconds = time.perf_counter() - start
        check(result, self.sql)
        return result, seconds

    def explain(self, call: Call) -> str:
        """The plan with buffer counts in JSON, from executing the same query with the same parameters."""
        sql = b"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + self.sql.encode()
        result = self._link.exec_params(sql, call.parameters, None, call.formats, TEXT)
        check(result, self.sql)
        return (result.get_value(0, 0) or b"[]").decode()


def check(result: pq.abc.PGresult, sql: str) -> None:
    """Raise BenchError unless the result is one of success."""
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        raise BenchError(f"{result.get_error_message().strip()}, in: {sql}")
