"""Lists in which a value does not occur are passed over, and none in which it does.

Ten thousand rows whose values have nothing to do with their vectors, so that summaries rule out next to no list.  What
is found is compared with a sequential scan; how many lists were read for it, with how many there are.
"""

from __future__ import annotations

import pytest

from server.oracle import INDEX_ONLY, NO_INDEX, Connection, check_indexes, counters, matching_rows, rows_of

DIMS = 6
NEAREST = "e <-> '[0.1,0.2,0.3,0.4,0.5,0.6]'"
CONDITIONS = {
    "integer": "number = 4321",
    "in": "number IN (17, 4321)",
    "smallint": "small = 77",
    "text": "word = 'word 1234'",
    "text-in": "word = ANY ('{word 1234,word 8}')",
    "uuid": "key = md5('1234')::uuid",
    "range": "price BETWEEN 2000 AND 2004",
    "float": "ratio >= 0.3 AND ratio < 0.3005",
    "negative": "signed BETWEEN -3 AND -1",
    "across-zero": "signed BETWEEN -1 AND 1",
    "not-above": "signed <= -5000",
    "date": "day = '1999-12-31' OR day = '2000-01-02'",
    "dates": "day BETWEEN '1999-12-31' AND '2000-01-02'",
    "timestamp": "at >= '2024-05-05 10:00+00' AND at < '2024-05-05 12:00+00'",
    "above": "number > 10000",
    "below": "small < 2",
    "recent": "at > '2024-12-13 10:00+00'",
    "or": "number = 4321 OR word = 'word 1234'",
    "and": "number < 9000 AND word = 'word 1234' AND at > '2024-01-01'",
}
WIDE = {"timestamp", "recent", "negative", "across-zero", "dates"}
"""Conditions that three values and more satisfy."""

ROWS = """
SELECT i, i * 7919 % 10007, i * 31 % 997, 'word ' || i * 613 % 5003, md5((i * 613 % 5003)::text)::uuid,
    (i * 4049 % 10007) / 2.0, (i * 2503 % 10007) / 10007.0,
    i * 4723 % 10007 - 5003, '2000-01-01'::date + i * 6007 % 10007 - 5003,
    '2024-01-01 00:00+00'::timestamptz + (i * 877 % 10007) * interval '50 minutes',
    (SELECT array_agg(sin(i * 1.7 * (d + 1)) + cos(i * 0.3 * d)) FROM generate_series(1, 6) d)::real[]::vector
FROM generate_series({}, {}) AS i
"""


@pytest.fixture
def items(connection: Connection) -> Connection:
    connection.execute(
        "CREATE TABLE items (id bigint, number integer, small smallint, word text, key uuid, price numeric,"
        f" ratio double precision, signed integer, day date, at timestamptz, e vector({DIMS}))"
    )
    connection.execute("INSERT INTO items " + ROWS.format(1, 10_000))
    connection.commit()
    connection.autocommit = True
    connection.execute("SET timezone = 'UTC'")
    return connection


def create_index(connection: Connection, list_size: int = 64) -> None:
    connection.execute(
        "CREATE INDEX items_index ON items USING winnow"
        f" (e vector_l2_ops, number, small, word, key, price, ratio, signed, day, at) WITH (list_size = {list_size})"
    )


def lists_read(connection: Connection, condition: str) -> float:
    """The share of all lists that are read for all rows that match, which are the right ones."""
    sql = f"SELECT id, {NEAREST} FROM items WHERE {condition}"
    expected = matching_rows(connection, sql)
    connection.execute(f"{INDEX_ONLY}; SET winnow.recall = 1")
    found = rows_of(connection.execute(f"{sql} ORDER BY {NEAREST} LIMIT 10000").fetchall())
    read = counters(connection)["lists_probed"]
    connection.execute(f"{NO_INDEX}; RESET winnow.recall")
    assert {row.id for row in found} == set(expected)
    assert len(found) == len(expected)
    record = connection.execute("SELECT lists FROM winnow_index_info('items_index')").fetchone()
    assert record is not None
    lists = int(str(record[0]))
    assert lists > 10
    return read / lists


def test_values_without_relation_to_the_vector(items: Connection) -> None:
    create_index(items)
    shares = {name: lists_read(items, condition) for name, condition in CONDITIONS.items()}
    # 40 rows in a list of 128 cells: a third of the lists have another value in the cell.
    assert max(shares.values()) < 0.6, shares
    assert shares["text"] < 0.25, shares
    assert lists_read(items, "number < 9000") == 1


def test_rows_that_come_and_go(items: Connection) -> None:
    """The rows are inserted one by one, into an index without a row; then most are deleted."""
    items.execute("ALTER TABLE items RENAME TO old; CREATE TABLE items (LIKE old)")
    create_index(items)
    items.execute("INSERT INTO items SELECT * FROM old")
    shares = {name: lists_read(items, condition) for name, condition in CONDITIONS.items()}
    # The index was empty, so nothing was known of where values are dense.  The fullest lists have 80 rows in 128 cells:
    # .47 of them have another value in a cell, .72 in one of two.
    few = {name: share for name, share in shares.items() if name not in WIDE}
    assert max(few.values()) < 0.8, few
    items.execute("UPDATE items SET number = number + 1, word = word || '0' WHERE id % 3 = 0")
    for condition in CONDITIONS.values():
        lists_read(items, condition)
    check_indexes(items)
    items.execute("DELETE FROM items WHERE number = 4321 OR id % 16 > 0")
    items.execute("VACUUM (INDEX_CLEANUP ON) items")
    check_indexes(items)
    assert lists_read(items, "number = 4321") < 0.3
    items.execute("INSERT INTO items " + ROWS.format(20_001, 30_000))
    for condition in CONDITIONS.values():
        lists_read(items, condition)
    check_indexes(items)


def test_tree_shrinks_while_its_pages_are_used_again(items: Connection) -> None:
    """A slot that has lost its child may name the block of another child by now."""
    create_index(items, list_size=8)
    for percent in range(5, 100, 5):
        items.execute("DELETE FROM items WHERE id * 7919 %% 10007 %% 100 < %s", [percent])
        items.execute("VACUUM (INDEX_CLEANUP ON) items")
        check_indexes(items)


def test_values_that_grow_for_ever(items: Connection) -> None:
    """Cells chosen by the rows of last year serve those of this year."""
    create_index(items)
    items.execute("UPDATE items SET at = at + interval '3 years', number = number + 1000000")
    items.execute("VACUUM (INDEX_CLEANUP ON) items")
    assert lists_read(items, "at >= '2027-05-05 10:00+00' AND at < '2027-05-05 12:00+00'") < 0.75
    assert lists_read(items, "number = 1004321") < 0.6
    check_indexes(items)


def test_prepared_statement_asks_anew(items: Connection) -> None:
    """What is asked of imprints depends on the parameters of each execution."""
    create_index(items)
    items.execute(f"{INDEX_ONLY}; SET plan_cache_mode = force_generic_plan; SET winnow.recall = 1")
    items.execute(
        f"PREPARE p (integer[], integer) AS SELECT number FROM items WHERE number = ANY ($1) AND number < $2"
        f" ORDER BY {NEAREST} LIMIT 20000"
    )
    assert items.execute("EXECUTE p ('{5}', 100)").fetchall() == [(5,)]
    few = counters(items)["lists_probed"]
    every = "{" + ",".join(map(str, range(10_007))) + "}"
    assert len(items.execute(f"EXECUTE p ('{every}', 20000)").fetchall()) == 10_000
    assert counters(items)["lists_probed"] > 2 * few
    assert sorted(items.execute("EXECUTE p ('{6,5}', 100)").fetchall()) == [(5,), (6,)]
