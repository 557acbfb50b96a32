"""What an index costs to keep: WAL and time for each inserted row, and VACUUM after deletions.

The cost of the indexes alone is the table's cost with its indexes less that of an equal table which has only its
primary key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from pgwinnow.bench.datasets import Dataset
from pgwinnow.bench.filters import array_text, scalar_text
from pgwinnow.bench.prepared import BINARY, TEXT, check
from pgwinnow.bench.rivals import Side
from pgwinnow.bench.tables import mark_changed
from pgwinnow.types import from_binary, to_binary

Progress = Callable[[], None]


@dataclass(frozen=True)
class InsertCost:
    """Single-row INSERTs, one transaction per round.

    The WAL of a round is counted from a CHECKPOINT, so it holds an image of every page touched; "again" is the WAL of
    inserting rows with almost the same vectors right afterwards, when most pages have had their image.
    """

    side: str
    rows: int
    rounds: int
    rows_per_second: float
    wal_bytes_per_row: float
    plain_rows_per_second: float  # into the table without indexes
    plain_wal_bytes_per_row: float
    wal_bytes_per_row_again: float = 0.0  # 0: not measured
    plain_wal_bytes_per_row_again: float = 0.0

    @property
    def index_wal_bytes_per_row(self) -> float:
        """WAL that the side's indexes add to a row."""
        return self.wal_bytes_per_row - self.plain_wal_bytes_per_row

    @property
    def index_wal_bytes_per_row_again(self) -> float:
        """The same without most full-page images."""
        return self.wal_bytes_per_row_again - self.plain_wal_bytes_per_row_again

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            **asdict(self),
            "index_wal_bytes_per_row": self.index_wal_bytes_per_row,
            "index_wal_bytes_per_row_again": self.index_wal_bytes_per_row_again,
        }


@dataclass(frozen=True)
class VacuumCost:
    """VACUUM after deleting rows at random, its WAL counted from a CHECKPOINT."""

    side: str
    deleted: int
    seconds: float
    wal_bytes: int
    plain_wal_bytes: int = 0  # of a table with the same rows without indexes but its key; 0: not measured

    @property
    def index_wal_bytes(self) -> int:
        """WAL that the side's indexes add."""
        return self.wal_bytes - self.plain_wal_bytes

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**asdict(self), "index_wal_bytes": self.index_wal_bytes}


def insert_costs(
    connections: Sequence[tuple[Side, psycopg.Connection]],
    dataset: Dataset,
    *,
    rows: int,
    rounds: int,
    seed: int,
    progress: Progress = lambda: None,
) -> list[InsertCost]:
    """Insert ``rounds`` x ``rows`` rows, and as many right beside them, on every side, with its indexes and without.

    The new rows are near rows of the data set, drawn with ``seed``, and stay in the tables.
    """
    rng = np.random.default_rng(seed)
    seconds: dict[str, float] = {}
    wal: dict[str, int] = {}
    again: dict[str, int] = {}
    for side, connection in connections:
        mark_changed(connection, side)
        connection.execute(f"DROP TABLE IF EXISTS {plain(side)}")
        connection.execute(side.table_sql(dataset, plain(side)))
    for turn in range(rounds):
        first_id = len(dataset.base) + 2 * turn * rows
        parameters = new_rows(dataset, rng, rows, first_id=first_id)
        copies = list(neighbours(parameters, rng, first_id=first_id + rows))
        for side, connection in connections if turn % 2 == 0 else list(reversed(connections)):
            for table in (plain(side), side.table):
                took, written = insert(connection, dataset, table, parameters)
                seconds[table] = seconds.get(table, 0.0) + took
                wal[table] = wal.get(table, 0) + written
                again[table] = again.get(table, 0) + insert(connection, dataset, table, copies, checkpoint=False)[1]
                progress()
    total = rows * rounds
    for side, connection in connections:
        connection.execute(f"DROP TABLE {plain(side)}")
    return [
        InsertCost(
            side=side.name,
            rows=rows,
            rounds=rounds,
            rows_per_second=total / seconds[side.table],
            wal_bytes_per_row=wal[side.table] / total,
            plain_rows_per_second=total / seconds[plain(side)],
            plain_wal_bytes_per_row=wal[plain(side)] / total,
            wal_bytes_per_row_again=again[side.table] / total,
            plain_wal_bytes_per_row_again=again[plain(side)] / total,
        )
        for side, _ in connections
    ]


def plain(side: Side) -> str:
    """Name of the side's table that has no indexes but its key."""
    return f"{side.name}_plain"


def new_rows(dataset: Dataset, rng: np.random.Generator, count: int, first_id: int) -> list[tuple[bytes | None, ...]]:
    """Parameters of INSERTs: rows of the data set with slightly turned vectors and new ids."""
    places = np.sort(rng.choice(len(dataset.base), count, replace=False))
    vectors = dataset.base[places] + rng.standard_normal((count, dataset.dimensions), dtype=np.float32) * 0.02
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = [column.to_pylist() for column in dataset.attributes.take(places).columns]
    return [
        (str(first_id + place).encode(), *(encoded(value) for value in values), to_binary(vector))
        for place, (vector, *values) in enumerate(zip(vectors, *columns, strict=True))
    ]


def neighbours(
    rows: Sequence[tuple[bytes | None, ...]], rng: np.random.Generator, first_id: int
) -> Iterator[tuple[bytes | None, ...]]:
    """Rows that go to the same pages, but are not duplicates, which some indexes keep more cheaply."""
    for place, (_, *values, vector) in enumerate(rows):
        near = from_binary(vector or b"")
        near = near + rng.standard_normal(len(near), dtype=np.float32) * 0.001
        yield (str(first_id + place).encode(), *values, to_binary(near))


def encoded(value: Any) -> bytes | None:
    """An attribute as a text parameter."""
    if value is None:
        return None
    if isinstance(value, list):
        return array_text(value).encode()
    return scalar_text(value).encode()


def insert(
    connection: psycopg.Connection,
    dataset: Dataset,
    table: str,
    rows: Sequence[tuple[bytes | None, ...]],
    *,
    checkpoint: bool = True,
) -> tuple[float, int]:
    """Insert rows one statement each in one transaction, after a CHECKPOINT by default: seconds and WAL bytes."""
    width = len(dataset.attributes.column_names) + 2
    formats = [*[TEXT] * (width - 1), BINARY]
    places = ", ".join(f"${n}" for n in range(1, width + 1))
    statement = f"INSERT INTO {table} VALUES ({places})"  # noqa: S608 (the name is ours)
    link = connection.pgconn
    connection.execute("DEALLOCATE ALL")
    check(link.prepare(b"bench_insert", statement.encode()), statement)
    if checkpoint:
        connection.execute("CHECKPOINT")
    before = wal_position(connection)
    start = time.perf_counter()
    with connection.transaction():
        for row in rows:
            # NULL is None, which libpq takes and the annotation forgets.
            check(link.exec_prepared(b"bench_insert", row, formats, TEXT), statement)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    return seconds, wal_position(connection) - before


def vacuum_costs(
    connections: Sequence[tuple[Side, psycopg.Connection]],
    dataset: Dataset,
    *,
    share: float,
    seed: int,
    progress: Progress = lambda: None,
) -> list[VacuumCost]:
    """Delete a share of the rows at random on every side, with its indexes and without, then VACUUM, timed."""
    count = round(len(dataset.base) * share)
    doomed = np.random.default_rng(seed).choice(len(dataset.base), count, replace=False).tolist()
    costs = []
    for side, connection in connections:
        mark_changed(connection, side)
        connection.execute(f"DROP TABLE IF EXISTS {plain(side)}")
        connection.execute(side.table_sql(dataset, plain(side)))
        connection.execute(f"ALTER TABLE {plain(side)} SET (autovacuum_enabled = off)")
        connection.execute(f"INSERT INTO {plain(side)} SELECT * FROM {side.table}")  # noqa: S608 (the names are ours)
        _, plain_wal = vacuum(connection, plain(side), doomed)
        connection.execute(f"DROP TABLE {plain(side)}")
        seconds, wal = vacuum(connection, side.table, doomed)
        costs.append(VacuumCost(side.name, count, seconds, wal, plain_wal))
        progress()
    return costs


def vacuum(connection: psycopg.Connection, table: str, doomed: Sequence[int]) -> tuple[float, int]:
    """Delete the rows with these ids, then VACUUM: seconds and WAL bytes of that alone."""
    connection.execute(f"VACUUM {table}")
    connection.execute(sql.SQL("DELETE FROM {} WHERE id = ANY (%s)").format(sql.Identifier(table)), (doomed,))
    connection.execute("CHECKPOINT")
    before = wal_position(connection)
    start = time.perf_counter()
    connection.execute(f"VACUUM (INDEX_CLEANUP ON) {table}")
    return time.perf_counter() - start, wal_position(connection) - before


def wal_position(connection: psycopg.Connection) -> int:
    """Bytes of WAL written since the server was created."""
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(row[0]) if row else 0
