"""Searches: the right rows, the right metric, the user's own condition, and no side effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row

from pgwinnow import create_index, search
from pgwinnow.errors import ModelMismatch, QueryError, UnknownName

from .fake import FakeModel

Connection = psycopg.Connection[Any]


@pytest.fixture
def items(connection: Connection) -> Connection:
    connection.execute(
        "CREATE TABLE items (id int PRIMARY KEY, name text, price int, embedding vector(2));"
        "INSERT INTO items SELECT n, CASE n % 2 WHEN 0 THEN 'even%' ELSE 'odd' END, n, ARRAY[n, n * n]::real[]::vector"
        " FROM generate_series(1, 500) n"
    )
    connection.commit()
    return connection


def ids(result: Any) -> list[int]:
    return [row[0] for row in result.rows]


def test_nearest_first_with_their_distances(items: Connection) -> None:
    result = search(items, [3, 9], table="items", metric="l2", limit=3)
    assert result.columns == ("id", "name", "price", "distance")
    assert ids(result) == [3, 2, 4]
    assert [row[-1] for row in result.rows] == pytest.approx([0, 26**0.5, 50**0.5])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("name LIKE 'even%'", [4, 6]),
        ("name = 'even%' AND price > 5 -- the dear ones", [6, 8]),
        ("price = 1 OR price = 2", [2, 1]),
        ("false", []),
    ],
)
def test_condition(items: Connection, where: str, expected: list[int]) -> None:
    assert ids(search(items, np.array([5, 25]), table="items", metric="l2", where=where, limit=2)) == expected


def test_search_through_the_index(items: Connection, dsn: str) -> None:
    create_index(dsn, "items", metric="l2", columns=["price"])
    result = search(items, [400, 160_000], table="items", where="price < 300", limit=3, recall=1.0, explain=True)
    assert ids(result) == [299, 298, 297]
    assert result.plan
    assert result.last_scan
    assert result.last_scan["returned"] == 3
    items.execute("CREATE TABLE others AS SELECT * FROM items")
    assert search(items, [4, 16], table="others", limit=3, explain=True).last_scan is None


def test_counters_without_the_extensions_schema_on_the_path(items: Connection, dsn: str) -> None:
    create_index(dsn, "items", metric="l2")
    items.execute("CREATE SCHEMA apart; ALTER EXTENSION winnow SET SCHEMA apart")
    result = search(items, [4, 16], table="items", metric="l2", limit=400, recall=1.0, explain=True)
    assert (result.last_scan is not None) == any("Index Scan" in line for line in result.plan or [])


def test_rows_that_the_connection_makes_into_something_else(items: Connection) -> None:
    items.row_factory = dict_row
    assert ids(search(items, [3, 9], table="items", metric="l2", limit=3)) == [3, 2, 4]
    assert items.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_columns_are_a_list(items: Connection) -> None:
    with pytest.raises(TypeError, match=r"list of names, not a string: \['price'\]"):
        search(items, [3, 9], table="items", columns="price")


def test_metric_is_that_of_the_index(items: Connection, dsn: str) -> None:
    query = [1, 30]
    assert ids(search(items, query, table="items", limit=1)) == [30]  # cosine: no index says otherwise
    create_index(dsn, "items", metric="l2")
    assert ids(search(items, query, table="items", limit=1)) == [5]
    create_index(dsn, "items", metric="ip")
    assert ids(search(items, query, table="items", limit=1)) == [30]  # two that differ: cosine
    assert ids(search(items, query, table="items", limit=1, metric="l2")) == [5]


def test_columns(items: Connection) -> None:
    assert search(items, [1, 1], table="items", columns=["price", "name"], limit=1).columns == (
        "price",
        "name",
        "distance",
    )
    assert search(items, [1, 1], table="items", columns=[], metric="l2", limit=1).rows == [(0.0,)]
    vector = search(items, [1, 1], table="items", columns=["embedding"], limit=1).rows[0][0]
    assert vector.dtype == np.float32


@pytest.mark.parametrize("where", ["true); DELETE FROM items; --", "id IN (SELECT delete_all())", "nextval('s') > 0"])
def test_condition_cannot_write(items: Connection, where: str) -> None:
    items.execute(
        "CREATE FUNCTION delete_all() RETURNS SETOF int LANGUAGE sql AS 'DELETE FROM items RETURNING id';"
        "CREATE SEQUENCE s"
    )
    items.commit()
    with pytest.raises(QueryError, match="the search failed"):
        search(items, [1, 1], table="items", where=where)
    assert items.execute("SELECT count(*) FROM items").fetchone() == (500,)


def test_leaves_an_open_transaction_as_it_was(items: Connection) -> None:
    items.execute("UPDATE items SET price = 0 WHERE id = 1")
    before = items.execute("SELECT current_setting('winnow.recall')").fetchone()
    assert ids(search(items, [1, 1], table="items", where="price = 0", recall=0.5)) == [1]
    with pytest.raises(QueryError):
        search(items, [1, 1], table="items", where="no_such_column")
    assert items.execute("SELECT current_setting('winnow.recall')").fetchone() == before
    items.execute("UPDATE items SET price = 0 WHERE id = 2")
    items.commit()
    assert items.execute("SELECT count(*) FROM items WHERE price = 0").fetchone() == (2,)


def test_type_in_a_schema_off_the_search_path(items: Connection) -> None:
    items.execute("CREATE SCHEMA away; ALTER EXTENSION winnow SET SCHEMA away")
    items.commit()
    assert ids(search(items, [3, 9], table="items", metric="l2", limit=1)) == [3]


def test_text_is_embedded_by_the_columns_model(items: Connection) -> None:
    model = FakeModel(dimensions=2)
    items.execute("COMMENT ON COLUMN items.embedding IS 'pgwinnow model: fake'")
    items.commit()
    by_text = search(items, "cats", table="items", provider=model)
    assert by_text == search(items, model.vector("cats"), table="items")
    with pytest.raises(ModelMismatch, match="'fake', not of 'other'"):
        search(items, "cats", table="items", provider=FakeModel("other", 2))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"table": "nothing"}, UnknownName, "no table nothing"),
        ({"table": "a.b.c.d"}, UnknownName, "is not a table's name"),
        ({"vector": "vec"}, UnknownName, "no column 'vec'"),
        ({"vector": "price"}, UnknownName, "is integer, not a vector"),
        ({"columns": ["colour"]}, UnknownName, "no column 'colour'"),
        ({"recall": 0.005}, ValueError, "recall is from 0.01 to 1, not 0.005"),
        ({"recall": 1.01}, ValueError, "recall is from 0.01 to 1, not 1.01"),
        ({"limit": 0}, ValueError, "limit is at least 1"),
        ({"metric": "dot"}, ValueError, "unknown metric 'dot'"),
        ({"query": [1, 2, 3]}, QueryError, "dimensions"),
        ({"query": [[1, 2]]}, ValueError, r"shape \(1, 2\)"),
    ],
)
def test_refusals(items: Connection, options: dict[str, Any], error: type[Exception], message: str) -> None:
    query = options.pop("query", [1, 2])
    with pytest.raises(error, match=message):
        search(items, query, **{"table": "items", **options})


def test_a_connection_string_is_no_connection(dsn: str) -> None:
    with pytest.raises(TypeError, match="an open connection is needed"):
        search(dsn, [1, 2], table="items")  # type: ignore[arg-type]
