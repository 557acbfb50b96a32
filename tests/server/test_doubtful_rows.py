"""Rows that seem not to match, by a hash of their value: looked at when there are too few others."""

from __future__ import annotations

import pytest

from server.oracle import INDEX_ONLY, Connection, column, counters

COLLIDING_TYPE = """
    CREATE TYPE label;
    CREATE FUNCTION label_in(cstring) RETURNS label LANGUAGE internal IMMUTABLE STRICT AS 'byteain';
    CREATE FUNCTION label_out(label) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'byteaout';
    CREATE TYPE label (INPUT = label_in, OUTPUT = label_out, LIKE = bytea);
    CREATE FUNCTION label_eq(label, label) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'byteaeq';
    CREATE FUNCTION label_ne(label, label) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'byteane';
    CREATE FUNCTION label_hash(label) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT 1';
    CREATE FUNCTION label_hash(label, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS 'SELECT 1::bigint';
    CREATE OPERATOR = (FUNCTION = label_eq, LEFTARG = label, RIGHTARG = label, COMMUTATOR = =, NEGATOR = <>, HASHES);
    CREATE OPERATOR <> (FUNCTION = label_ne, LEFTARG = label, RIGHTARG = label, COMMUTATOR = <>, NEGATOR = =);
    CREATE OPERATOR CLASS label_ops DEFAULT FOR TYPE label USING hash AS
        OPERATOR 1 =, FUNCTION 1 label_hash(label), FUNCTION 2 label_hash(label, bigint);
    CREATE OPERATOR CLASS label_ops DEFAULT FOR TYPE label USING winnow AS
        OPERATOR 3 =, FUNCTION 2 winnow_bpchar_column(internal);
"""
"""A type whose values all have the same hash."""


@pytest.fixture
def labelled(connection: Connection) -> Connection:
    """A thousand rows on a line, every tenth with another label than the rest."""
    connection.execute(COLLIDING_TYPE)
    connection.execute("CREATE TABLE t (id integer, l label, s text, e vector(2))")
    connection.execute(
        "INSERT INTO t SELECT i, (CASE WHEN i % 10 = 0 THEN 'b' ELSE 'a' END)::label,"
        " CASE WHEN i <= 900 THEN 'near' WHEN i % 10 = 0 THEN NULL ELSE 'far' END, ARRAY[i, 1]::real[]::vector"
        " FROM generate_series(1, 1000) i"
    )
    connection.execute("CREATE INDEX ON t USING winnow (e vector_l2_ops, l, s) WITH (list_size = 16)")
    connection.execute("ANALYZE t")
    connection.execute(INDEX_ONLY)
    return connection


@pytest.mark.parametrize("recall", [0.95, 1])
@pytest.mark.parametrize("limit", [1, 10, 100, 1000])
def test_values_of_the_same_hash_are_not_equal(labelled: Connection, recall: float, limit: int) -> None:
    """Rows that are set apart because of their hash are looked at when there are no others."""
    labelled.execute(f"SET winnow.recall = {recall}")
    found = column(labelled, f"SELECT id FROM t WHERE l <> 'a' ORDER BY e <-> '[0,1]' LIMIT {limit}")
    assert len(found) == len(set(found)) == min(limit, 100)
    if recall == 1:
        assert found == list(range(10, 10 * min(limit, 100) + 1, 10))


def test_cursor_comes_to_rows_set_apart(labelled: Connection) -> None:
    labelled.execute("DECLARE c CURSOR FOR SELECT id FROM t WHERE l <> 'a' ORDER BY e <-> '[0,1]'")
    found = [row for _ in range(120) for row in column(labelled, "FETCH 1 FROM c")]
    assert sorted(found) == list(range(10, 1001, 10))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("s <> 'near'", [*range(901, 910), 911]),
        ("NOT s = 'near'", [*range(901, 910), 911]),
        ("'near' <> s", [*range(901, 910), 911]),
        ("s NOT IN ('near', 'elsewhere')", [*range(901, 910), 911]),
        ("s <> 'near' AND id % 2 = 0", [902, 904, 906, 908, 912, 914, 916, 918, 922, 924]),
        ("s IS DISTINCT FROM 'near'", [*range(901, 911)]),
        ("s <> 'near' OR s = 'near'", [*range(1, 11)]),
        ("s <> 'near' OR id = 5", [5, *range(901, 910)]),
    ],
)
def test_unequal_neighbours(labelled: Connection, condition: str, expected: list[int]) -> None:
    """All rows near the query have the value that is not wanted."""
    query = f"SELECT id FROM t WHERE {condition} ORDER BY e <-> '[0,1]' LIMIT 10"
    labelled.execute("SET winnow.recall = 0.95")
    assert len(set(column(labelled, query))) == 10
    labelled.execute("SET winnow.recall = 1")
    assert column(labelled, query) == expected


@pytest.mark.parametrize("condition", ["s <> 'near'", "s NOT IN ('near', 'elsewhere')", "l = 'a' AND NOT s = 'near'"])
def test_unequal_neighbours_are_not_fetched(labelled: Connection, condition: str) -> None:
    labelled.execute("SET winnow.recall = 0.95")
    column(labelled, f"SELECT id FROM t WHERE {condition} ORDER BY e <-> '[0,1]' LIMIT 10")
    assert counters(labelled)["reranked"] <= 100
