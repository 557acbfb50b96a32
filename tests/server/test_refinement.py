"""Refinement codes: the same answers from fewer rows of the table, in every state of an index."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from pgwinnow.types import to_text
from server.oracle import counters

Floats = NDArray[np.float32]
OPERATORS = {"l2": "<->", "ip": "<#>", "cosine": "<=>"}


def make(connection: psycopg.Connection, vectors: Floats, metric: str, bits: int, list_size: int = 64) -> None:
    """Half the rows are there when the index is built, half come later."""
    connection.autocommit = True
    connection.execute("CREATE EXTENSION IF NOT EXISTS winnow")
    connection.execute("DROP TABLE IF EXISTS items")
    connection.execute(f"CREATE TABLE items (id int, kind int, e vector({vectors.shape[1]}))")
    half = len(vectors) // 2
    add(connection, vectors[:half], 0)
    connection.execute(
        f"CREATE INDEX items_index ON items USING winnow (e vector_{metric}_ops, kind)"
        f" WITH (list_size = {list_size}, bits = {bits})"
    )
    add(connection, vectors[half:], half)
    connection.execute("ANALYZE items; SET enable_seqscan = off; SET enable_sort = off")


def add(connection: psycopg.Connection, vectors: Floats, first: int) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY items FROM STDIN") as copy:
        for i, vector in enumerate(vectors, first):
            copy.write_row((i, i % 3, to_text(vector)))


def nearest(connection: psycopg.Connection, query: Floats, metric: str, where: str = "true", k: int = 10) -> list[int]:
    rows = connection.execute(
        f"SELECT id FROM items WHERE {where} ORDER BY e {OPERATORS[metric]} %s LIMIT {k}", [to_text(query)]
    ).fetchall()
    return [row[0] for row in rows]


def exact(connection: psycopg.Connection, query: Floats, metric: str, where: str = "true", k: int = 10) -> list[int]:
    rows = connection.execute(
        f"SELECT id FROM (SELECT id, e {OPERATORS[metric]} %s AS d FROM items WHERE {where} OFFSET 0) s"
        f" ORDER BY d LIMIT {k}",
        [to_text(query)],
    ).fetchall()
    return [row[0] for row in rows]


def as_near(connection: psycopg.Connection, query: Floats, metric: str, found: list[int], expected: list[int]) -> bool:
    """Whether they are the same rows, or as near: distances are floats, and of equal ones any may come first."""
    both = []
    for ids in (found, expected):
        rows = connection.execute(
            f"SELECT e {OPERATORS[metric]} %s FROM unnest(%s::int[]) WITH ORDINALITY AS u (id, place)"
            " JOIN items USING (id) ORDER BY place",
            [to_text(query), ids],
        ).fetchall()
        both.append(rows)
    return found == expected or (len(set(found)) == len(expected) and both[0] == both[1])


@pytest.mark.parametrize("metric", OPERATORS)
def test_fewer_rows_are_fetched(connection: psycopg.Connection, metric: str, seed: int) -> None:
    """The more bits, the fewer; with recall 1 the answer is the exact one all the same."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, 96))
    vectors = (centres[random.integers(0, 20, 4000)] + 0.5 * random.standard_normal((4000, 96))).astype(np.float32)
    queries = vectors[random.integers(0, len(vectors), 100)] + 0.2 * random.standard_normal((100, 96)).astype(
        np.float32
    )
    fetched: dict[int, int] = {}
    certain: dict[int, int] = {}
    for bits in (1, 2, 4, 8):
        make(connection, vectors, metric, bits)
        connection.execute("VACUUM items")  # calibrates the search on all rows
        fetched[bits] = certain[bits] = found = 0
        for query in queries:
            truth = exact(connection, query, metric, "kind = 1")
            connection.execute("RESET winnow.recall")
            found += len(set(truth) & set(nearest(connection, query, metric, "kind = 1")))
            work = counters(connection)
            fetched[bits] += work["reranked"]
            assert (work["refined"] > 0) == (bits > 1)
            connection.execute("SET winnow.recall = 1")
            assert as_near(connection, query, metric, nearest(connection, query, metric, "kind = 1"), truth)
            certain[bits] += counters(connection)["reranked"]
        assert found >= 0.88 * 10 * len(queries), f"{bits} bits: recall {found / 10 / len(queries)}"
        connection.execute("SELECT winnow_check('items_index', true)")
    assert fetched[8] <= fetched[4] < fetched[2] < fetched[1], fetched
    assert certain[8] < certain[4] < certain[2] < certain[1], certain
    assert fetched[4] < 0.75 * fetched[1], fetched


@pytest.mark.parametrize(("dims", "bits"), [(1, 2), (65, 3), (1900, 8), (16000, 8), (16000, 5)])
def test_records_go_on_from_page_to_page(connection: psycopg.Connection, dims: int, bits: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    count = 60 if dims > 10000 else 300
    vectors = random.standard_normal((count, dims)).astype(np.float32)
    make(connection, vectors, "l2", bits, list_size=8)
    assert connection.execute("SELECT bits FROM winnow_index_info('items_index')").fetchone() == (bits,)
    connection.execute("SELECT winnow_check('items_index', true)")
    connection.execute("DELETE FROM items WHERE id % 2 = 0")
    connection.execute("VACUUM items")
    add(connection, random.standard_normal((count // 4, dims)).astype(np.float32), count)
    connection.execute("SELECT winnow_check('items_index', true)")
    connection.execute("SET winnow.recall = 1")
    for query in vectors[:3]:
        found, expected = nearest(connection, query, "l2", k=20), exact(connection, query, "l2", k=20)
        assert as_near(connection, query, "l2", found, expected)


def test_changed_by_reindex(connection: psycopg.Connection, seed: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((500, 32)).astype(np.float32)
    make(connection, vectors, "l2", 1)
    connection.execute("REINDEX INDEX items_index")
    plain = connection.execute("SELECT pg_relation_size('items_index')").fetchone()
    connection.execute("ALTER INDEX items_index SET (bits = 4)")
    assert connection.execute("SELECT bits FROM winnow_index_info('items_index')").fetchone() == (1,)
    connection.execute("REINDEX INDEX items_index")
    assert connection.execute("SELECT bits FROM winnow_index_info('items_index')").fetchone() == (4,)
    refined = connection.execute("SELECT pg_relation_size('items_index')").fetchone()
    assert plain is not None
    assert refined is not None
    assert refined[0] > plain[0]
    for bits in (-1, 9):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"value {bits} out of bounds"):
            connection.execute(f"ALTER INDEX items_index SET (bits = {bits})")
