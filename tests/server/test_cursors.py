"""Cursors that stay open while the tree below them becomes another one; pages they may still need, and those they need
no longer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import psycopg
import pytest

from server.load import NEAREST, Load, Repeater, Worker, create_table, fill, writers
from server.oracle import INDEX_ONLY, Connection, check_exact, check_indexes, complaint, rows_of
from server.oracle import matching_rows as matching

# The table cannot be truncated while a cursor is open; VACUUM would try for seconds.
VACUUM = "VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) items"


class OpenCursor:
    """A cursor over all rows, nearest first, in a transaction of its own; it knows what it has to return."""

    def __init__(self, dsn: str, recall: float) -> None:
        self.recall = recall
        self.connection: Connection = psycopg.connect(dsn)
        self.records: list[tuple[object, ...]] = []
        self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        sql = f"SELECT id, {NEAREST} FROM items"
        self.expected = matching(self.connection, sql)
        self.connection.execute(f"{INDEX_ONLY}; SET winnow.recall = {recall}")
        self.connection.execute(f"DECLARE c CURSOR FOR {sql} ORDER BY {NEAREST}")

    def fetch(self, count: int) -> bool:
        """Fetch some rows; are there more?"""
        records = self.connection.execute(f"FETCH {count} FROM c").fetchall()
        self.records += records
        return len(records) == count

    def close(self) -> None:
        """Fetch the rest and compare all with what was there when the cursor was opened."""
        while self.fetch(1000):
            pass
        # A closed connection's snapshot lives on for a moment.
        self.connection.rollback()
        self.connection.close()
        wrong = complaint(rows_of(self.records), self.expected, exact=True, ordered=self.recall == 1)
        assert wrong is None, f"at recall {self.recall}: {wrong}"


def pages(connection: Connection) -> tuple[int, int]:
    """Pages of the index, and those of them that the tree does not have."""
    record = connection.execute("SELECT pages, unused_pages FROM winnow_index_info('items_index')").fetchone()
    assert record is not None
    return int(str(record[0])), int(str(record[1]))


@pytest.mark.parametrize("recall", [1, 0.05])
def test_between_fetches(connection: Connection, dsn: str, recall: float) -> None:
    """Lists are split, emptied, merged and dropped, and pages reused, between any two fetches."""
    connection.autocommit = True
    create_table(connection)
    fill(connection, 600)
    connection.execute("DELETE FROM items WHERE id % 3 = 0")
    cursors = [OpenCursor(dsn, recall)]
    for turn in itertools.count():
        more = [cursor.fetch(25) for cursor in cursors]
        fill(connection, 60, first=1000 + 60 * turn)
        connection.execute("DELETE FROM items WHERE id %% 11 = %s", [turn % 11])
        connection.execute("UPDATE items SET bucket = bucket + 1 WHERE id %% 13 = %s", [turn % 13])
        connection.execute(VACUUM)
        cursors.append(OpenCursor(dsn, recall))
        if not more[0]:
            break
    assert turn > 10
    check_exact(connection, NEAREST, "items")
    check_indexes(connection)
    for number, cursor in enumerate(cursors):
        cursor.close()
        connection.execute("DELETE FROM items WHERE id % 5 = 0")
        connection.execute(VACUUM)
        fill(connection, 40, first=10_000 + 40 * number)
    check_exact(connection, NEAREST, "items")
    check_indexes(connection)


def test_beside_writers(connection: Connection, dsn: str, seed: int) -> None:
    """The same by chance, at once."""
    connection.autocommit = True
    create_table(connection)
    fill(connection, 400)
    rng = Random(f"{seed}-cursors")
    workers: list[Worker] = [*writers(dsn, rng, 2), Repeater(dsn, sql=VACUUM)]
    with Load(workers) as load:
        cursors = [OpenCursor(dsn, recall) for recall in (1, 0.9, 0.1)]
        for _ in range(10):
            load.wait_for(15)
            cursors[rng.randrange(3)].fetch(rng.randint(1, 60))
            cursors.append(OpenCursor(dsn, rng.choice([1, 0.5])))
        for cursor in cursors:
            cursor.close()
    check_exact(connection, NEAREST, "items")
    check_indexes(connection)


def merging(connection: Connection) -> None:
    """Lists become small."""
    connection.execute("DELETE FROM items WHERE id % 10 <> 0")


def splitting(connection: Connection) -> None:
    """Lists become two."""
    fill(connection, 600, first=1000)


@pytest.mark.parametrize("change", [merging, splitting])
def test_pages_that_a_cursor_may_need(connection: Connection, dsn: str, change: Callable[[Connection], None]) -> None:
    """While it is open the pages of nodes that have been replaced stay; then they are reused."""
    connection.autocommit = True
    create_table(connection)
    fill(connection, 600)
    connection.execute("REINDEX INDEX items_index")
    assert pages(connection)[1] == 0
    if change is merging:
        change(connection)
    cursor = OpenCursor(dsn, 0.05)
    cursor.fetch(1)
    if change is splitting:
        change(connection)
    connection.execute(VACUUM)
    _, retired = pages(connection)
    assert retired > 50
    fill(connection, 300, first=5000)
    connection.execute(VACUUM)
    assert pages(connection)[1] >= retired, "pages of retired nodes are in use again"
    cursor.close()

    connection.execute("DELETE FROM items WHERE id % 100 = 7")
    connection.execute(VACUUM)
    size, free = pages(connection)
    fill(connection, 20, first=8000)
    assert pages(connection)[0] == size, "the index has grown, though it has free pages"
    assert pages(connection)[1] < free
    # In the long run as many pages become free as are taken into use.
    sizes = []
    for turn in range(12):
        fill(connection, 300, first=10_000 * turn + 20_000)
        connection.execute("DELETE FROM items WHERE id >= 20000")
        connection.execute(VACUUM)
        sizes.append(pages(connection)[0])
    assert sizes[-1] < 1.1 * sizes[5], sizes
    check_exact(connection, NEAREST, "items")
    check_indexes(connection)
