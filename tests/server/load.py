"""Mixed load on a table, by several connections at once, with a record of what was committed.

The table is ``items (id bigint, bucket integer, label text, e vector(DIMS))``, with an index over all but the id.
Every writer works on ids of its own, so that what the table must hold can be told from what the writers were told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import psycopg

from server.oracle import INDEX_ONLY, NO_INDEX, Connection, complaint, matching_rows, rows_of

DIMS = 24
NEAREST = "e <-> '[" + ",".join(["0.25"] * DIMS) + "]'"


def vector(rng: Random) -> str:
    """Around one of a few centres."""
    centre = rng.randrange(8)
    return "[" + ",".join(f"{centre * (i % 3) + rng.gauss(0, 1):.4f}" for i in range(DIMS)) + "]"


def create_table(connection: Connection, *, list_size: int = 8, kind: str = "", width: int = 1) -> None:
    """Make the table and its index.

    :param list_size: of the index; a small one makes lists split all the time
    :param kind: UNLOGGED, or nothing
    :param width: how often the index has the label, to make the rows of inner nodes wide
    """
    labels = ', label COLLATE "C"' * width
    connection.execute(f"CREATE {kind} TABLE items (id bigint, bucket integer, label text, e vector({DIMS}))")
    connection.execute(
        f"CREATE INDEX items_index ON items USING winnow (bucket, e vector_l2_ops{labels})"
        f" WITH (list_size = {list_size})"
    )
    connection.execute("CREATE INDEX items_id ON items (id)")


def cancelled(connection: Connection, milliseconds: int, sql: str) -> bool:
    """Run a statement with a time limit; whether it was cancelled."""
    insist(connection, f"SET statement_timeout = {milliseconds}")
    try:
        connection.execute(sql)
    except psycopg.errors.QueryCanceled:
        return True
    finally:
        insist(connection, "SET statement_timeout = 0")
    return False


def insist(connection: Connection, sql: str) -> None:
    """Run a statement that begins or ends a time limit, which on a busy machine may meet the limit itself."""
    while True:
        try:
            connection.execute(sql)
        except psycopg.errors.QueryCanceled:
            continue
        return


def fill(connection: Connection, count: int, first: int = 0) -> None:
    """Add rows with the ids from ``first``."""
    rng = Random(first)
    with connection.cursor().copy("COPY items FROM STDIN") as copy:
        for number in range(first, first + count):
            copy.write_row((number, number % 50, f"label {number % 17}", vector(rng)))


# Of a server that dies: connection lost, terminating connection, shutting down
SERVER_DIED = (None, "57P01", "57P02", "57P03")


@dataclass
class Worker:
    """A thread with a connection of its own, which works until it is stopped or the server dies."""

    dsn: str
    runs: int = 0
    failure: Exception | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                while not self.stop.is_set():
                    self.work(connection)
                    self.runs += 1
        except Exception as error:
            self.failure = error

    def work(self, connection: Connection) -> None:
        raise NotImplementedError


@dataclass
class Repeater(Worker):
    """Repeats a statement, such as VACUUM."""

    sql: str = ""
    pause: float = 0.0

    def work(self, connection: Connection) -> None:
        connection.execute(self.sql)
        self.stop.wait(self.pause)


@dataclass
class Writer(Worker):
    """Inserts, copies, updates, deletes and rolls back.

    ``committed`` are the ids of its rows that must be there.  After a crash ``added`` and ``removed`` say what the last
    transaction did, whose COMMIT may or may not have been carried out.
    """

    rng: Random = field(default_factory=Random)
    next_id: int = 0
    committed: set[int] = field(default_factory=set)
    added: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)

    def work(self, connection: Connection) -> None:
        self.added, self.removed = set(), set()
        connection.execute("BEGIN")
        for _ in range(self.rng.randint(1, 4)):
            self._change(connection)
        if self.rng.random() < 0.15:
            self.added, self.removed = set(), set()
            connection.execute("ROLLBACK")
        else:
            connection.execute("COMMIT")
        self.committed = (self.committed | self.added) - self.removed
        self.added, self.removed = set(), set()

    def _change(self, connection: Connection) -> None:
        rng = self.rng
        mine = sorted((self.committed | self.added) - self.removed)
        form = rng.random()
        if form < 0.5 or len(mine) < 20:
            self._insert(connection)
        elif form < 0.75:
            # Sometimes nearly all: lists become small, and VACUUM merges them.
            ids = rng.sample(mine, len(mine) - 5 if form < 0.52 else rng.randint(1, 15))
            connection.execute("DELETE FROM items WHERE id = ANY (%s)", [ids])
            self.removed |= set(ids)
        elif form < 0.9:
            ids = rng.sample(mine, rng.randint(1, 10))
            connection.execute("UPDATE items SET e = %s WHERE id = ANY (%s)", [vector(rng), ids])
        else:
            ids = rng.sample(mine, rng.randint(1, 10))
            connection.execute("UPDATE items SET bucket = bucket + 1 WHERE id = ANY (%s)", [ids])

    def _insert(self, connection: Connection) -> None:
        rng = self.rng
        ids = range(self.next_id, self.next_id + rng.randint(1, 40))
        self.next_id = ids.stop
        records = [(number, rng.randint(0, 50), f"label {number % 17}", vector(rng)) for number in ids]
        if rng.random() < 0.5:
            connection.cursor().executemany("INSERT INTO items VALUES (%s, %s, %s, %s)", records)
        else:
            with connection.cursor().copy("COPY items FROM STDIN") as copy:
                for record in records:
                    copy.write_row(record)
        self.added |= set(ids)


class Load:
    """Workers at work, within a ``with`` statement; a worker's failure is raised at its end.

    ``killed`` is for who kills the server: lost connections are no failures then.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers
        self.killed = False
        self._threads = [threading.Thread(target=worker.run) for worker in workers]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.stop.set()
        for thread in self._threads:
            thread.join()
        for worker in self.workers:
            if worker.failure is not None and not (self.killed and _server_died(worker.failure)):
                raise worker.failure

    def wait_for(self, transactions: int) -> None:
        """Wait until the writers have ended so many transactions more, or a worker has failed."""
        writers = [worker for worker in self.workers if isinstance(worker, Writer)]
        wanted = sum(worker.runs for worker in writers) + transactions
        while sum(worker.runs for worker in writers) < wanted and all(thread.is_alive() for thread in self._threads):
            time.sleep(0.005)


def _server_died(error: Exception) -> bool:
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate in SERVER_DIED or "lost connection to parallel worker" in str(error)


def writers(dsn: str, rng: Random, count: int) -> list[Writer]:
    """Writers with ids of their own."""
    return [Writer(dsn, rng=Random(rng.getrandbits(64)), next_id=number * 10_000_000) for number in range(1, count + 1)]


@dataclass
class Reader(Worker):
    """Compares, within one snapshot, what the index finds with what a sequential scan finds."""

    rng: Random = field(default_factory=Random)

    def work(self, connection: Connection) -> None:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        exact = self.rng.random() < 0.5
        connection.execute(f"SET LOCAL winnow.recall = {1 if exact else 0.95}")
        if self.rng.random() < 0.5:
            self._compare_all(connection)
        else:
            self._compare_answers(connection, exact)
        connection.execute("COMMIT")

    def _compare_all(self, connection: Connection) -> None:
        """Every row that is there, exactly once."""
        sql = f"SELECT count(*), count(DISTINCT id), sum(id) FROM (SELECT id FROM items ORDER BY {NEAREST} OFFSET 0) s"
        records = []
        for settings in (INDEX_ONLY, NO_INDEX):
            connection.execute(settings)
            records.append(connection.execute(sql).fetchone())
        assert records[0] == records[1], f"the index has (rows, ids, sum) {records[0]}, the table {records[1]}"

    def _compare_answers(self, connection: Connection, exact: bool) -> None:
        where = self.rng.choice(
            ["true", "bucket < 10", "bucket = 7", "label = 'label 3'", "label > 'label 5' AND bucket > 40"]
        )
        limit = self.rng.choice([None, 1, 10, 100]) if where != "true" else 100
        matching = matching_rows(connection, f"SELECT id, {NEAREST} FROM items WHERE {where}")
        connection.execute(INDEX_ONLY)
        sql = f"SELECT id, {NEAREST} FROM items WHERE {where} ORDER BY {NEAREST}"
        sql += f" LIMIT {limit}" if limit else ""
        found = rows_of(connection.execute(sql).fetchall())
        wrong = complaint(found, matching, limit=limit, exact=exact, ordered=exact)
        assert wrong is None, f"{sql}\n{wrong}"
