"""What it is like to live with an index: rows that come singly or in bulk, updates, idle VACUUMs, searches meanwhile.

Everything is measured on each side's table with all its indexes, one side at a time. WAL is what the whole server
writes, the heap's part included.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from pgwinnow.bench.datasets import Dataset
from pgwinnow.bench.filters import identifier
from pgwinnow.bench.measure import ServerContestant, latencies
from pgwinnow.bench.prepared import BINARY, TEXT, check
from pgwinnow.bench.rivals import Side
from pgwinnow.bench.tables import fill, mark_changed
from pgwinnow.bench.truth import Exact
from pgwinnow.bench.workloads import make_workloads
from pgwinnow.bench.writes import neighbours, new_rows, plain, wal_position

Progress = Callable[[], None]
Connect = Callable[[], psycopg.Connection[Any]]
Row = tuple[bytes | None, ...]

NOISE = 0.02
POOL = 20_000  # rows that single inserts are taken from, made before they are timed
SEARCHED, SEARCHED_ELSE = "bucket 1 %", "none"  # without a column of buckets
FIRST_ID = 1_000_000_000  # of the rows that are added here

STEPS = 6
"""How often ``upkeep`` reports progress for each side."""


@dataclass(frozen=True)
class UpkeepCost:
    """Some rows changed in one way."""

    side: str
    task: str
    clients: int
    rows: int
    seconds: float
    wal_bytes: int

    @property
    def rows_per_second(self) -> float:
        """All clients together."""
        return self.rows / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class BusySearch:
    """Times of a search, in milliseconds, with and without clients that insert rows."""

    side: str
    workload: str
    idle: dict[str, float]
    busy: dict[str, float]
    writers: int

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """How much of everything is done."""

    seconds: float = 5.0  # of single inserts
    copied: int = 100_000
    updated: int = 2_000
    writers: int = 2
    seed: int = 7


class Writer:
    """A connection that inserts single rows, each in a transaction of its own."""

    def __init__(self, connection: psycopg.Connection[Any], table: str, width: int) -> None:
        places = ", ".join(f"${n}" for n in range(1, width + 1))
        self._statement = f"INSERT INTO {table} VALUES ({places})"  # noqa: S608 (the name is ours)
        self._link = connection.pgconn
        self._formats = [*[TEXT] * (width - 1), BINARY]
        connection.execute("DEALLOCATE ALL")
        check(self._link.prepare(b"bench_write", self._statement.encode()), self._statement)

    def insert(self, row: Row) -> None:
        """Insert one row and commit."""
        # NULL is None, which libpq takes and the annotation forgets.
        done = self._link.exec_prepared(b"bench_write", row, self._formats, TEXT)  # type: ignore[arg-type]
        check(done, self._statement)


class Crowd:
    """Clients that insert rows without end, which all of them share, until they are told to stop."""

    def __init__(self, writers: Sequence[Writer], rows: Iterator[Row]) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failures: list[Exception] = []
        self.done = 0
        self._threads = [threading.Thread(target=self._work, args=(writer,)) for writer in writers]

    def _work(self, writer: Writer) -> None:
        done = 0
        try:
            while not self._stop.is_set():
                with self._lock:
                    row = next(self._rows)
                writer.insert(row)
                done += 1
        except Exception as error:  # raised again by the caller's thread
            self._failures.append(error)
        with self._lock:
            self.done += done

    def run(self, seconds: float) -> float:
        """Work for some time, or until all have failed; return how long it took."""
        start = time.perf_counter()
        with self.working():
            for thread in self._threads:
                thread.join(max(0.0, start + seconds - time.perf_counter()))
        return time.perf_counter() - start

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work as long as the context lasts."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        if self._failures:
            raise self._failures[0]


def upkeep(
    pairs: Sequence[tuple[Side, psycopg.Connection[Any]]],
    dataset: Dataset,
    connect: Connect,
    plan: Plan,
    progress: Progress = lambda: None,
) -> tuple[list[UpkeepCost], list[BusySearch]]:
    """Measure everything on every side, and leave the new rows in the tables."""
    costs: list[UpkeepCost] = []
    searches: list[BusySearch] = []
    for side, connection in pairs:
        mark_changed(connection, side)
        rng = np.random.default_rng([plan.seed, 1])
        fresh = endless_rows(dataset, rng, FIRST_ID)
        for clients in (1, 2):
            costs.append(single_inserts(side, connection, connect, fresh, clients, plan.seconds))
            progress()
        costs.append(copied_rows(side, connection, dataset, rng, min(plan.copied, len(dataset.base))))
        progress()
        costs += updates(side, connection, dataset, rng, plan.updated)
        progress()
        costs.append(idle_vacuum(side, connection))
        progress()
        more = endless_rows(dataset, rng, FIRST_ID * 2)
        searches += busy_search(side, connection, dataset, connect, more, plan)
        progress()
    return costs, searches


def endless_rows(dataset: Dataset, rng: np.random.Generator, first_id: int) -> Iterator[Row]:
    """New rows, each with an id of its own, from ``first_id`` on.

    Those of the pool come first, which is made at once; then each again and again, slightly moved, as the same rows
    would be duplicates, which some indexes keep more cheaply.
    """
    pool = new_rows(dataset, rng, min(POOL, len(dataset.base)), first_id=first_id)
    # Of a stream of their own, so that what is drawn later does not depend on how many were inserted.
    again = (
        neighbours(pool, np.random.default_rng([first_id, turn]), first_id + turn * len(pool))
        for turn in itertools.count(1)
    )
    return itertools.chain(pool, itertools.chain.from_iterable(again))


def single_inserts(
    side: Side,
    connection: psycopg.Connection[Any],
    connect: Connect,
    rows: Iterator[Row],
    clients: int,
    seconds: float,
) -> UpkeepCost:
    """Each row in a transaction of its own, by one client or several."""
    first = next(rows)
    with ExitStack() as stack:
        writers = [Writer(stack.enter_context(connect()), side.table, len(first)) for _ in range(clients)]
        for writer, row in zip(writers, itertools.chain([first], rows), strict=False):
            writer.insert(row)  # opens what a connection opens once
        crowd = Crowd(writers, rows)
        before = wal_position(connection)
        took = crowd.run(seconds)
        written = wal_position(connection) - before
    return UpkeepCost(side.name, "INSERT, a transaction each", clients, crowd.done, took, written)


def copied_rows(
    side: Side,
    connection: psycopg.Connection[Any],
    dataset: Dataset,
    rng: np.random.Generator,
    count: int,
) -> UpkeepCost:
    """COPY into the table with its indexes. The rows are made ready in a table without any."""
    places = np.sort(rng.choice(len(dataset.base), count, replace=False))
    vectors = dataset.base[places] + rng.standard_normal((count, dataset.dimensions), dtype=np.float32) * NOISE
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ready = replace(dataset, base=vectors, attributes=dataset.attributes.take(places))
    connection.execute(f"DROP TABLE IF EXISTS {plain(side)}")
    connection.execute(side.table_sql(dataset, plain(side)))
    fill(connection, side, ready, plain(side), range(count))
    columns = ", ".join(map(identifier, [*dataset.attributes.schema.names, "embedding"]))
    rows = f"SELECT id + {FIRST_ID * 3}, {columns} FROM {plain(side)}"  # noqa: S608
    with connection.cursor().copy(f"COPY ({rows}) TO STDOUT (FORMAT BINARY)") as copy:
        blocks = list(copy)
    connection.execute(f"DROP TABLE {plain(side)}")
    before = wal_position(connection)
    start = time.perf_counter()
    with connection.cursor().copy(f"COPY {side.table} (id, {columns}) FROM STDIN (FORMAT BINARY)") as copy:
        for block in blocks:
            copy.write(block)
    seconds = time.perf_counter() - start
    return UpkeepCost(side.name, "COPY", 1, count, seconds, wal_position(connection) - before)


def updates(
    side: Side, connection: psycopg.Connection[Any], dataset: Dataset, rng: np.random.Generator, count: int
) -> list[UpkeepCost]:
    """UPDATE of an indexed number, and of a column that no index has; one statement each."""
    count = min(count, len(dataset.base))
    wanted = [
        ("UPDATE of an indexed column", dataset.roles.bucket),
        ("UPDATE of another column", dataset.roles.residual),
    ]
    costs = []
    for task, column in wanted:
        if column is None:
            continue
        # The name may hold a %, which a statement with parameters must not.
        statement = sql.SQL("UPDATE {table} SET {column} = {column} + {step} WHERE id = ANY ({ids})").format(
            table=sql.Identifier(side.table),
            column=sql.Identifier(column),
            step=sql.SQL(step_of(dataset.attributes.schema.field(column).type)),
            ids=sql.Literal(rng.choice(len(dataset.base), count, replace=False).tolist()),
        )
        before = wal_position(connection)
        start = time.perf_counter()
        connection.execute(statement)
        seconds = time.perf_counter() - start
        costs.append(UpkeepCost(side.name, task, 1, count, seconds, wal_position(connection) - before))
    return costs


def step_of(kind: pa.DataType) -> str:
    """What is added to a number or time to change it, as SQL."""
    return "interval '1 day'" if pa.types.is_timestamp(kind) else "1"


def idle_vacuum(side: Side, connection: psycopg.Connection[Any]) -> UpkeepCost:
    """A VACUUM right after another."""
    connection.execute(f"VACUUM {side.table}")
    connection.execute(f"VACUUM {side.table}")
    before = wal_position(connection)
    start = time.perf_counter()
    connection.execute(f"VACUUM {side.table}")
    seconds = time.perf_counter() - start
    return UpkeepCost(side.name, "VACUUM, nothing dead", 1, 1, seconds, wal_position(connection) - before)


def busy_search(
    side: Side,
    connection: psycopg.Connection[Any],
    dataset: Dataset,
    connect: Connect,
    rows: Iterator[Row],
    plan: Plan,
) -> list[BusySearch]:
    """Times of a search while nothing else goes on, and while clients insert as quickly as they can."""
    searched = SEARCHED if dataset.roles.bucket is not None else SEARCHED_ELSE
    workloads = make_workloads(dataset, seed=plan.seed, patterns=[searched])
    searches = []
    for workload in workloads:
        contestant = ServerContestant(side, connection)
        contestant.prepare(workload, Exact(dataset, 10, metric=side.metric))
        contestant.apply(contestant.effort)
        times_of(contestant)
        idle = times_of(contestant)
        with ExitStack() as stack:
            first = next(rows)
            writers = [Writer(stack.enter_context(connect()), side.table, len(first)) for _ in range(plan.writers)]
            with Crowd(writers, rows).working():
                busy = times_of(contestant)
        searches.append(BusySearch(side.name, workload.name, idle, busy, plan.writers))
    return searches


def times_of(contestant: ServerContestant) -> dict[str, float]:
    """Latencies of all its queries, each asked once."""
    return latencies([contestant.ask(query)[1] for query in range(contestant.queries)])
