"""Each side's table: made, filled, indexed, and recognised again in a later run.

What a table holds and how an index was built is kept as a comment on the table or index itself, so that a run with
``--reuse`` takes over exactly what is really there.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from pgwinnow.bench.datasets import Dataset, postgres_type
from pgwinnow.bench.filters import identifier
from pgwinnow.bench.rivals import Index, Side
from pgwinnow.psycopg import register

BATCH = 10_000
BUILD_SETTINGS = ("maintenance_work_mem", "max_parallel_maintenance_workers")
CHANGED = "changed"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where PostgreSQL keeps its segments)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Build:
    """One index as it was built."""

    side: str
    index: str
    seconds: float
    settings: Mapping[str, str]
    peak_bytes: int | None  # private memory of the building processes and their shared segments; None: not seen
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def ready_table(
    connection: psycopg.Connection, side: Side, dataset: Dataset, *, reuse: bool, progress: Progress
) -> bool:
    """Make the side's table hold the data set's rows; return whether it was filled anew (and has no indexes)."""
    mark = dataset.fingerprint()
    if reuse and comment_on(connection, side.table) == mark:
        return False
    connection.execute(f"DROP TABLE IF EXISTS {side.table}")
    connection.execute(side.table_sql(dataset, side.table))
    fill(connection, side, dataset, side.table, range(len(dataset.base)), progress)
    connection.execute(f"VACUUM (FREEZE, ANALYZE) {side.table}")
    set_comment(connection, "TABLE", side.table, mark)
    return True


def mark_changed(connection: psycopg.Connection, side: Side) -> None:
    """Note that the table no longer holds the data set as loaded, so that no later run takes it for that."""
    set_comment(connection, "TABLE", side.table, CHANGED)


def fill(
    connection: psycopg.Connection,
    side: Side,
    dataset: Dataset,
    table: str,
    rows: range,
    progress: Progress = lambda done, total: None,
) -> None:
    """COPY some rows of the data set into a table in binary; row i gets the id i."""
    schema = dataset.attributes.schema
    types: list[int | str] = [
        "bigint",
        *(postgres_type(column.type) for column in schema),
        know_vector(connection, side),
    ]
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(types)
        for start in range(rows.start, rows.stop, BATCH):
            count = min(BATCH, rows.stop - start)
            columns = [column.to_pylist() for column in dataset.attributes.slice(start, count).columns]
            for row in zip(range(start, start + count), *columns, dataset.base[start : start + count], strict=True):
                copy.write_row(row)
            progress(start + count - rows.start, len(rows))


def know_vector(connection: psycopg.Connection, side: Side) -> int:
    """Teach the connection the side's vector type, and return its oid."""
    register(connection, f"{side.schema}.vector")
    row = connection.execute("SELECT %s::regtype::oid", (f"{side.schema}.vector",)).fetchone()
    return int(row[0]) if row else 0


def ready_indexes(
    connection: psycopg.Connection,
    side: Side,
    dataset: Dataset,
    *,
    rebuild: bool,
    progress: Callable[[str], None] = lambda name: None,
) -> list[Build]:
    """Build the side's indexes, or take over those that are there and the same, unless told to rebuild."""
    builds = []
    for index in side.indexes(dataset):
        progress(index.name)
        kept = json.loads((None if rebuild else comment_on(connection, identifier(index.name))) or "{}")
        if kept.pop("sql", None) == index.sql:
            builds.append(Build(**kept))
        else:
            builds.append(build(connection, side, index))
    return builds


def build(connection: psycopg.Connection, side: Side, index: Index) -> Build:
    """Build one index in place of an older one, timed and watched for memory."""
    name = identifier(index.name)
    connection.execute(f"DROP INDEX IF EXISTS {name}")
    shown = {name: setting(connection, name) for name in BUILD_SETTINGS}
    with MemoryWatch(connection) as watch:
        start = time.perf_counter()
        connection.execute(index.sql)
        seconds = time.perf_counter() - start
    done = Build(side.name, index.name, seconds, shown, watch.peak, relation_size(connection, name))
    set_comment(connection, "INDEX", index.name, json.dumps({"sql": index.sql, **done.as_json()}))
    return done


class MemoryWatch:
    """Samples the private memory of a backend and its parallel workers, and the server's shared segments.

    Reads /proc and /dev/shm, hence sees only a server on this machine; ``peak`` is None elsewhere. Shared buffers
    do not count. Other servers' segments would, so run nothing else beside it.
    """

    INTERVAL = 0.05

    def __init__(self, connection: psycopg.Connection) -> None:
        self._pid = connection.info.backend_pid
        self._local = Path(f"/proc/{self._pid}/comm").exists() and bool(
            Path(f"/proc/{self._pid}/comm").read_text().startswith("postgres")
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._before = 0
        self.peak: int | None = None

    def __enter__(self) -> MemoryWatch:
        if self._local:
            self._postmaster = parent_of(self._pid)
            self._before = shared_segments()
            self.peak = 0
            self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self._local:
            self._stop.set()
            self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(self.INTERVAL):
            pids = [self._pid, *parallel_workers(self._postmaster)]
            used = sum(private_memory(pid) for pid in pids) + shared_segments() - self._before
            self.peak = max(self.peak or 0, used)


def parent_of(pid: int) -> int:
    """Process id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def parallel_workers(postmaster: int) -> list[int]:
    """Process ids of the parallel workers that a postmaster has now."""
    found = []
    try:
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for child in children:
            if b"parallel worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    except OSError:  # a process ended between the two readings
        pass
    return found


def private_memory(pid: int) -> int:
    """Bytes of memory that only this process holds; 0 when it has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def shared_segments() -> int:
    """Bytes in PostgreSQL's dynamic shared memory segments."""
    total = 0
    for segment in SHARED_MEMORY.glob("PostgreSQL.*"):
        try:
            total += segment.stat().st_blocks * 512
        except OSError:
            continue
    return total


def setting(connection: psycopg.Connection, name: str) -> str:
    """A server setting as the server shows it."""
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""


def relation_size(connection: psycopg.Connection, name: str) -> int:
    """Bytes of a relation on disk, all forks; its name is as in SQL."""
    row = connection.execute("SELECT pg_total_relation_size(%s::regclass)", (name,)).fetchone()
    return int(row[0]) if row else 0


def comment_on(connection: psycopg.Connection, name: str) -> str | None:
    """The comment on a table or index, its name as in SQL; None without one or without the relation."""
    row = connection.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", (name,)).fetchone()
    return row[0] if row else None


def set_comment(connection: psycopg.Connection, kind: str, name: str, text: str) -> None:
    """Set the comment on a table or index."""
    connection.execute(sql.SQL("COMMENT ON {} {} IS {}").format(sql.SQL(kind), sql.Identifier(name), sql.Literal(text)))
