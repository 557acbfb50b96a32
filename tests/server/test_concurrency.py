"""Writers, readers and VACUUM at once; statements that are cancelled."""

from __future__ import annotations

import os
from random import Random

import psycopg
import pytest

from server.load import NEAREST, Load, Reader, Repeater, Worker, Writer, cancelled, create_table, fill, insist, writers
from server.oracle import INDEX_ONLY, Connection, check_exact, check_indexes

TRANSACTIONS = int(os.environ.get("WINNOW_STRESS_TRANSACTIONS", "800"))
"""Of the writers together."""

VACUUM = "VACUUM (INDEX_CLEANUP ON) items"


def test_readers_and_writers(connection: Connection, dsn: str, seed: int) -> None:
    rng = Random(f"{seed}-writers")
    connection.autocommit = True
    create_table(connection)
    crowd = writers(dsn, rng, 3)
    workers: list[Worker] = [*crowd, Repeater(dsn, sql=VACUUM, pause=0.1)]
    workers += [Reader(dsn, rng=Random(rng.getrandbits(64))) for _ in range(2)]
    with Load(workers) as load:
        load.wait_for(TRANSACTIONS)
    assert all(worker.runs > 0 for worker in workers)
    check_exact(connection, NEAREST, "items", ids=set().union(*(writer.committed for writer in crowd)))
    check_indexes(connection)
    connection.execute(VACUUM)
    check_exact(connection, NEAREST, "items")
    check_indexes(connection)


class Inserter(Writer):
    """Adds rows, and nothing else."""

    def _change(self, connection: Connection) -> None:
        self._insert(connection)


class Counter(Worker):
    """Counts what an exact scan of the whole index returns."""

    def work(self, connection: Connection) -> None:
        if self.runs == 0:
            connection.execute(f"{INDEX_ONLY}; SET winnow.recall = 1")
        record = connection.execute(
            f"SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM items ORDER BY {NEAREST} OFFSET 0) s"
        ).fetchone()
        assert record is not None
        assert record[0] == record[1], f"of {record[0]} rows {record[1]} are different"


def test_no_row_twice_while_lists_split(connection: Connection, dsn: str, seed: int) -> None:
    """The root has rows so wide that it takes many pages, and lists below it split while it is read."""
    rng = Random(f"{seed}-split")
    connection.autocommit = True
    create_table(connection, list_size=128, width=28)
    for _ in range(8):
        connection.execute("TRUNCATE items")
        crowd = [Inserter(dsn, rng=Random(rng.getrandbits(64)), next_id=i * 10_000_000) for i in range(2)]
        with Load([*crowd, *(Counter(dsn) for _ in range(3))]) as load:
            load.wait_for(200)
    check_exact(connection, NEAREST, "items", ids=set().union(*(writer.committed for writer in crowd)))
    check_indexes(connection)


def test_vectors_out_of_line(connection: Connection, dsn: str, seed: int) -> None:
    """Dead rows lose their out-of-line values while lists are split, before they leave the index."""
    rng = Random(f"{seed}-line")
    connection.autocommit = True
    create_table(connection)
    connection.execute(
        "ALTER TABLE items ADD filler text GENERATED ALWAYS AS (repeat('x', 2100)) STORED,"
        " ALTER filler SET STORAGE PLAIN, ALTER e SET STORAGE EXTERNAL"
    )
    record = connection.execute("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'items'").fetchone()
    assert record is not None
    crowd = writers(dsn, rng, 4)
    workers: list[Worker] = [*crowd, Repeater(dsn, sql=VACUUM), Repeater(dsn, sql=f"VACUUM {record[0]}")]
    with Load(workers) as load:
        load.wait_for(TRANSACTIONS)
    assert connection.execute(f"SELECT count(*) > 0 FROM {record[0]}").fetchone() == (True,)
    check_exact(connection, NEAREST, "items", ids=set().union(*(writer.committed for writer in crowd)))
    check_indexes(connection)


TIMEOUTS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""Milliseconds; whether a statement ends before its timeout is a matter of chance, and either is right."""


@pytest.fixture
def busy(connection: Connection) -> Connection:
    """A connection to a table with an index and 3000 rows."""
    connection.autocommit = True
    create_table(connection)
    fill(connection, 3000)
    return connection


def check_usable(connection: Connection) -> None:
    """No lock is left, rows can be added with splits, and the index is whole."""
    assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'object'").fetchone() == (0,)
    record = connection.execute("SELECT max(id) + 1 FROM items").fetchone()
    assert record is not None
    fill(connection, 100, first=int(str(record[0])))
    check_exact(connection, NEAREST, "items")
    check_indexes(connection)


def test_cancelled_insert(busy: Connection) -> None:
    sql = "INSERT INTO items SELECT id + 10000, bucket, label, e FROM items"
    assert [cancelled(busy, timeout, sql) for timeout in TIMEOUTS].count(True) > 0
    check_usable(busy)


def test_cancelled_insert_in_subtransaction(busy: Connection) -> None:
    outcomes = []
    for number, timeout in enumerate(TIMEOUTS, start=1):
        busy.execute("BEGIN")
        busy.execute("SAVEPOINT s")
        busy.execute(f"SET LOCAL statement_timeout = {timeout}")
        try:
            busy.execute(f"INSERT INTO items SELECT id + {number * 10000}, bucket, label, e FROM items WHERE id < 3000")
            busy.execute("SET LOCAL statement_timeout = 0")
            outcomes.append(False)
        except psycopg.errors.QueryCanceled:
            outcomes.append(True)
            insist(busy, "ROLLBACK TO s")
        fill(busy, 50, first=number * 100000)
        busy.execute("COMMIT")
    assert any(outcomes)
    check_usable(busy)


def test_cancelled_vacuum(busy: Connection) -> None:
    busy.execute("DELETE FROM items WHERE id % 3 = 0")
    # Naps make it long, also while it holds the structure lock.
    busy.execute("SET vacuum_cost_delay = 1; SET vacuum_cost_limit = 20")
    assert [cancelled(busy, timeout, VACUUM) for timeout in TIMEOUTS].count(True) > 0
    check_usable(busy)
    busy.execute("RESET vacuum_cost_delay")
    busy.execute(VACUUM)
    check_usable(busy)


def test_cancelled_scan(busy: Connection) -> None:
    busy.execute("SET enable_seqscan = off; SET enable_sort = off; SET winnow.recall = 1")
    sql = (
        "SELECT count(*) FROM (SELECT id, e FROM items LIMIT 300) p CROSS JOIN LATERAL"
        " (SELECT FROM items ORDER BY items.e <-> p.e LIMIT 10) s"
    )
    assert [cancelled(busy, timeout, sql) for timeout in TIMEOUTS].count(True) > 0
    assert busy.execute(sql).fetchone() == (3000,)
    check_usable(busy)


def test_cancelled_build(busy: Connection) -> None:
    files = (
        "SELECT count(*) FROM pg_ls_dir('base/' || (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    before = busy.execute(files).fetchone()
    build = "CREATE INDEX again ON items USING winnow (e vector_cosine_ops, label) WITH (list_size = 8)"
    assert [cancelled(busy, timeout, build) or busy.execute("DROP INDEX again") is None for timeout in TIMEOUTS].count(
        True
    ) > 0
    busy.execute("CHECKPOINT")
    assert busy.execute(files).fetchone() == before
    for number, timeout in enumerate(TIMEOUTS, start=1):
        cancelled(busy, timeout, build.replace("INDEX again", "INDEX CONCURRENTLY again"))
        # An index that was left invalid still takes rows.
        fill(busy, 20, first=number * 10000)
        busy.execute("DROP INDEX IF EXISTS again")
    cancelled(busy, 5, "REINDEX INDEX CONCURRENTLY items_index")
    check_usable(busy)
