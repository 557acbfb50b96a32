"""Pages of replaced nodes are used again: the file of an index stays near the size of a fresh one."""

from __future__ import annotations

from random import Random

import psycopg
import pytest

from cluster import temporary_server
from pgwinnow.server import Server
from server.load import NEAREST, create_table, fill, vector
from server.oracle import INDEX_ONLY, Connection, check_exact, check_indexes
from server.test_standby import caught_up, make_standby

ROWS = 4000
ROUNDS = 50


@pytest.fixture
def churning(connection: Connection) -> Connection:
    connection.autocommit = True
    create_table(connection, list_size=16)
    return connection


def pages(connection: Connection, index: str = "items_index") -> int:
    record = connection.execute("SELECT pg_relation_size(%s::regclass) / 8192", [index]).fetchone()
    assert record is not None
    return int(str(record[0]))


def info(connection: Connection, column: str) -> int:
    record = connection.execute(f"SELECT {column} FROM winnow_index_info('items_index')").fetchone()
    assert record is not None
    return int(str(record[0]))


def test_size_under_churn(churning: Connection, seed: int) -> None:
    """A tenth of the rows is replaced and the table vacuumed, time and again.

    A list takes two pages at least: smaller lists, or fewer, would tell more of that than of the churn.
    """
    rng = Random(f"{seed}-churn")
    rows = 4 * ROWS
    churning.execute("DROP TABLE items")
    create_table(churning, list_size=128)
    fill(churning, rows)
    churning.execute("REINDEX INDEX items_index")
    ids = set(range(rows))
    first = rows
    for _ in range(ROUNDS):
        doomed = set(rng.sample(sorted(ids), rows // 10))
        churning.execute("DELETE FROM items WHERE id = ANY (%s)", [sorted(doomed)])
        fill(churning, len(doomed), first)
        ids = ids - doomed | set(range(first, first + len(doomed)))
        first += len(doomed)
        churning.execute("VACUUM (INDEX_CLEANUP ON) items")
    churned = pages(churning)
    check_indexes(churning)
    check_exact(churning, NEAREST, "items", ids=ids)
    churning.execute("REINDEX INDEX items_index")
    assert churned <= 1.5 * pages(churning)


def test_everything_is_deleted(churning: Connection) -> None:
    """The tree becomes small again, and its pages serve the next rows."""
    fill(churning, ROWS)
    lists = info(churning, "lists")
    churning.execute("VACUUM items")
    grown = pages(churning)
    for turn in range(1, 6):
        churning.execute("DELETE FROM items")
        churning.execute("VACUUM (INDEX_CLEANUP ON) items")
        check_indexes(churning)
        assert info(churning, "lists") < lists / 8
        fill(churning, ROWS, turn * ROWS)
        churning.execute("VACUUM items")
    check_indexes(churning)
    check_exact(churning, NEAREST, "items", ids=set(range(5 * ROWS, 6 * ROWS)))
    assert pages(churning) <= 1.5 * grown


def test_small_lists_are_merged(churning: Connection) -> None:
    """Of what is left after most rows have gone, lists are as full as others."""
    fill(churning, ROWS)
    lists = info(churning, "lists")
    churning.execute("DELETE FROM items WHERE id % 20 > 0")
    churning.execute("VACUUM (INDEX_CLEANUP ON) items")
    check_indexes(churning)
    check_exact(churning, NEAREST, "items", ids=set(range(0, ROWS, 20)))
    assert info(churning, "lists") < lists / 8


def test_summaries_become_narrower(churning: Connection) -> None:
    """Lists that have lost the rows that match are left out again."""
    fill(churning, ROWS)
    churning.execute("INSERT INTO items SELECT id + 1000000, 999, label, e FROM items WHERE id % 3 = 0")

    def probed() -> int:
        churning.execute(INDEX_ONLY)
        churning.execute(f"SELECT id FROM items WHERE bucket = 999 ORDER BY {NEAREST}").fetchall()
        record = churning.execute("SELECT value FROM winnow_last_scan() WHERE counter = 'lists_probed'").fetchone()
        assert record is not None
        return int(str(record[0]))

    assert probed() > 50
    churning.execute("DELETE FROM items WHERE bucket = 999 AND id <> 1000000")
    churning.execute("VACUUM (INDEX_CLEANUP ON) items")
    assert probed() == 1
    check_indexes(churning)


def test_an_old_snapshot_keeps_pages(churning: Connection, dsn: str) -> None:
    """What a cursor may still read is not reused; it is when the cursor has been closed."""
    fill(churning, ROWS)
    churning.execute("VACUUM items")
    with psycopg.connect(dsn) as reader:
        reader.execute(INDEX_ONLY)
        reader.execute(f"DECLARE rows CURSOR FOR SELECT id FROM items ORDER BY {NEAREST}")
        found = [int(str(row[0])) for row in reader.execute("FETCH 3 FROM rows").fetchall()]
        for turn in range(1, 4):
            fill(churning, ROWS, turn * ROWS)
            churning.execute("VACUUM items")
        unused = info(churning, "unused_pages")
        grown = pages(churning)
        found += [int(str(row[0])) for row in reader.execute("FETCH ALL FROM rows").fetchall()]
        assert sorted(found) == list(range(ROWS))
    churning.execute("DELETE FROM items WHERE id % 50 = 0")
    churning.execute("VACUUM (INDEX_CLEANUP ON) items")
    fill(churning, ROWS, 5 * ROWS)
    assert unused > grown / 4
    assert pages(churning) <= 1.02 * grown
    check_indexes(churning)


def test_vacuum_without_dead_rows_writes_nothing(churning: Connection) -> None:
    def wal() -> int:
        record = churning.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        assert record is not None
        return int(str(record[0]))

    fill(churning, ROWS)
    churning.execute("VACUUM (FREEZE) items")
    # until lists of rows that have come one by one have been clustered anew, and the old ones' pages are free
    for _ in range(4):
        churning.execute("SELECT txid_current()")
        churning.execute("VACUUM (INDEX_CLEANUP ON) items")
    before = wal()
    churning.execute("VACUUM (INDEX_CLEANUP ON) items")
    assert wal() - before < 200


def test_cursor_on_a_standby(seed: int) -> None:
    """Replay of page reuse does not wait for a standby's cursor.

    Rows that were never committed make lists split and merge without that PostgreSQL itself has a conflict with the
    cursor.
    """
    rng = Random(f"{seed}-standby-cursor")
    with temporary_server() as primary, psycopg.connect(primary.dsn(), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION winnow")
        create_table(connection, list_size=16)
        # A B-tree has conflicts when its pages are reused, and a file that shrinks has one.
        connection.execute("DROP INDEX items_id")
        connection.execute("ALTER TABLE items SET (vacuum_truncate = off)")
        fill(connection, ROWS)
        connection.execute("VACUUM (FREEZE) items")
        with make_standby(primary, hot_standby_feedback="off", max_standby_streaming_delay="-1") as standby:
            read_while_reused(primary, standby, connection, rng)


def read_while_reused(primary: Server, standby: Server, connection: Connection, rng: Random) -> None:
    caught_up(primary, standby)
    with psycopg.connect(standby.dsn()) as reader:
        reader.execute(INDEX_ONLY)
        reader.execute(f"DECLARE rows CURSOR FOR SELECT id FROM items ORDER BY {NEAREST}")
        found = [int(str(row[0])) for row in reader.execute("FETCH 3 FROM rows").fetchall()]
        for turn in range(3):
            churn_in_vain(connection, rng)
            caught_up(primary, standby)
            found += [int(str(row[0])) for row in reader.execute(f"FETCH {5 + 100 * turn} FROM rows").fetchall()]
        found += [int(str(row[0])) for row in reader.execute("FETCH ALL FROM rows").fetchall()]
        assert sorted(found) == list(range(ROWS))
        reader.execute("CLOSE rows")
        record = reader.execute("SELECT value FROM winnow_last_scan() WHERE counter = 'restarts'").fetchone()
        assert record is not None
        assert int(str(record[0])) > 0, "no page was reused under the cursor: the test shows nothing"
        check_indexes(reader)
    with psycopg.connect(standby.dsn(), autocommit=True) as reader:
        check_exact(reader, NEAREST, "items", ids=set(range(ROWS)))


def churn_in_vain(connection: Connection, rng: Random) -> None:
    for _ in range(4):
        with connection.transaction(force_rollback=True), connection.cursor().copy("COPY items FROM STDIN") as copy:
            for number in range(ROWS):
                copy.write_row((-number, number % 50, f"label {number % 17}", vector(rng)))
        connection.execute("VACUUM (INDEX_CLEANUP ON) items")
