"""Rows without a vector are in no search, and in all else that orders by a distance."""

from __future__ import annotations

import pytest

from cluster import VERSION
from server.oracle import INDEX_ONLY, NO_INDEX, Connection, column, index_scans


def without_vectors(connection: Connection, kind: str = "") -> None:
    connection.execute(
        f"CREATE TABLE items (id integer PRIMARY KEY, a integer, e vector(3) {kind});"
        " INSERT INTO items SELECT i, i % 20, CASE WHEN i % 3 > 0 THEN ARRAY[i % 7, i % 11, i % 13]::real[]::vector END"
        " FROM generate_series(1, 2000) i;"
        " CREATE INDEX items_search ON items USING winnow (e, a) WITH (list_size = 64); ANALYZE items"
    )


@pytest.mark.parametrize(
    "select",
    [
        "count(*), cardinality(array_agg(id ORDER BY e <-> '[0,0,0]')) FROM items WHERE a = 7",
        "string_agg(id::text, ',' ORDER BY e <-> '[0,0,0]', id) FROM items WHERE a = 7",
        "sum(c) FROM (SELECT e <-> '[0,0,0]', count(*) c FROM items WHERE a = 7 GROUP BY 1) z",
        "max(c) FROM (SELECT e <-> '[0,0,0]', count(*) c FROM items WHERE a = 7 GROUP BY 1 ORDER BY 1 OFFSET 0) z",
        "count(*) FROM (SELECT DISTINCT e <-> '[0,0,0]' FROM items WHERE a = 7 OFFSET 0) z",
        "count(r) FROM (SELECT row_number() OVER (ORDER BY e <-> '[0,0,0]') r FROM items WHERE a = 7) z",
        "max(n) FROM (SELECT count(*) OVER () n FROM items WHERE a = 7 ORDER BY e <-> '[0,0,0]' LIMIT 5) z",
        "max(n) FROM (SELECT ntile(3) OVER (ORDER BY e <-> '[0,0,0]') n FROM items ORDER BY e <-> '[0,0,0]' LIMIT 5) z",
        "min(n) FROM (SELECT row_number() OVER (ORDER BY e <-> '[0,0,0]' DESC) n FROM items WHERE a = 7"
        " ORDER BY e <-> '[0,0,0]' LIMIT 5) z",
        "max(c) FROM (SELECT e <-> '[0,0,0]', count(*) c FROM items GROUP BY ROLLUP (1) ORDER BY 1) z",
        "max(n) FROM (SELECT count(*) OVER (PARTITION BY a) n FROM items ORDER BY e <-> '[0,0,0]' LIMIT 5) z",
    ],
)
def test_what_is_no_search_has_the_rows_without_a_vector(connection: Connection, select: str) -> None:
    without_vectors(connection)
    connection.execute(NO_INDEX)
    expected = connection.execute(f"SELECT {select}").fetchall()
    connection.execute(INDEX_ONLY)
    assert connection.execute(f"SELECT {select}").fetchall() == expected
    # With a vector in every row the index may serve it, and must not change the answer.
    connection.execute("DELETE FROM items WHERE e IS NULL; ALTER TABLE items ALTER COLUMN e SET NOT NULL")
    connection.execute(NO_INDEX)
    expected = connection.execute(f"SELECT {select}").fetchall()
    connection.execute(INDEX_ONLY)
    assert connection.execute(f"SELECT {select}").fetchall() == expected


@pytest.mark.parametrize(
    "search",
    [
        "id, rank() OVER (ORDER BY e <-> '[0,0,0]') FROM items WHERE a = 7 ORDER BY e <-> '[0,0,0]' LIMIT 5",
        "DISTINCT id, e <-> '[0,0,0]' AS d FROM items WHERE a = 7 ORDER BY d LIMIT 5",
        "array_agg(id ORDER BY e <-> '[0,0,0]') FROM items WHERE a = 7 AND e IS NOT NULL",
        "array_agg(id ORDER BY e <-> '[0,0,0]') FROM items WHERE a = 7 AND e <-> '[0,0,0]' < 100",
    ],
)
def test_searches_that_the_index_serves(connection: Connection, search: str) -> None:
    if "array_agg" in search and VERSION < 16:
        pytest.skip("aggregates are not given rows in their order before 16")
    if "DISTINCT" in search and VERSION < 17:
        pytest.skip("the planner sorts all rows by another key first before 17")
    without_vectors(connection)
    connection.execute(INDEX_ONLY)
    [[plan]] = column(connection, f"EXPLAIN (FORMAT JSON) SELECT {search}")
    assert "items_search" in index_scans(plan["Plan"])


def test_a_minimum_is_no_search(connection: Connection) -> None:
    """The planner takes min() for ORDER BY with LIMIT 1, but who asks for an aggregate expects it to be right."""
    without_vectors(connection)
    connection.execute(INDEX_ONLY)
    for table in ("items", "(SELECT * FROM items WHERE e IS NOT NULL) x"):
        [[plan]] = column(connection, f"EXPLAIN (FORMAT JSON) SELECT min(e <-> '[0,0,0]') FROM {table} WHERE a = 7")
        assert "items_search" not in index_scans(plan["Plan"])
