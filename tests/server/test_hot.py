"""An UPDATE that touches no indexed column leaves the index alone."""

from __future__ import annotations

from server.load import NEAREST, create_table
from server.oracle import Connection, check_exact, check_indexes

ROWS = 500


def test_hot_updates_do_not_reach_the_index(connection: Connection) -> None:
    connection.autocommit = True
    create_table(connection, list_size=32)
    connection.execute("ALTER TABLE items ADD seen integer, ADD seen_at timestamptz")
    connection.execute("ALTER TABLE items SET (fillfactor = 40)")
    connection.execute(
        "INSERT INTO items SELECT i, i % 50, 'label ' || i % 17,"
        " (SELECT array_agg(sin(i * 31 + j)) FROM generate_series(1, 24) AS j)::vector"
        f" FROM generate_series(0, {ROWS - 1}) AS i"
    )
    before = index_state(connection)
    for turn in range(3):
        connection.execute("UPDATE items SET seen = %s", [turn])
    connection.execute("SELECT pg_stat_force_next_flush()")
    record = connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'items'"
    ).fetchone()
    assert record is not None
    updated, hot = map(int, map(str, record))
    assert updated == 3 * ROWS
    assert hot == updated
    assert index_state(connection) == before
    check_indexes(connection)
    check_exact(connection, NEAREST, "items", ids=set(range(ROWS)))

    connection.execute("UPDATE items SET bucket = bucket + 1 WHERE id < 100")
    assert index_state(connection) != before
    check_indexes(connection)
    check_exact(connection, NEAREST, "items", ids=set(range(ROWS)))


def index_state(connection: Connection) -> tuple[object, ...] | None:
    """Lists, rows and pages of the index."""
    return connection.execute("SELECT lists, rows, pages FROM winnow_index_info('items_index')").fetchone()
