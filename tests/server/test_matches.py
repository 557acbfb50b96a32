"""What matches is found, by the right user's functions: cases that random schemas do not come to."""

from __future__ import annotations

from random import Random
from typing import Any

import psycopg
import pytest

from cluster import VERSION
from server.attributes import SETUP_ICU
from server.oracle import INDEX_ONLY, NO_INDEX, Connection, counters, index_scans


def column(connection: Connection, query: str) -> list[Any]:
    return [row[0] for row in connection.execute(query).fetchall()]


@pytest.mark.parametrize("condition", ["m > 'a'", "m <> 'a'", "m >= 'b'"])
def test_value_added_to_an_enum_meanwhile(connection: Connection, dsn: str, condition: str) -> None:
    """A session that has its tables locked already hears of the value in time."""
    connection.execute("CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE t (id integer, m mood, e vector(3))")
    connection.execute("INSERT INTO t SELECT i, 'b', ARRAY[i, i, i]::real[]::vector FROM generate_series(1, 50) i")
    connection.execute("CREATE INDEX ON t USING winnow (e vector_l2_ops, m)")
    connection.commit()
    with psycopg.connect(dsn) as reader, psycopg.connect(dsn, autocommit=True) as writer:
        reader.execute(INDEX_ONLY)
        reader.execute("SET plan_cache_mode = force_generic_plan")
        reader.execute(f"PREPARE p AS SELECT id FROM t WHERE {condition} ORDER BY e <-> '[0,0,0]' LIMIT 3")
        assert column(reader, "EXECUTE p") == [1, 2, 3]
        writer.execute("ALTER TYPE mood ADD VALUE 'c'")
        writer.execute("INSERT INTO t VALUES (99, 'c', '[0,0,0]')")
        assert column(reader, "EXECUTE p") == [99, 1, 2]


@pytest.mark.parametrize("zone", [100, -100, 167, -167, 0])
@pytest.mark.parametrize("operator", ["<", ">="])
def test_time_zone_days_from_utc(connection: Connection, zone: int, operator: str) -> None:
    connection.execute("CREATE TABLE t (id integer, at timestamp, day date, e vector(2))")
    connection.execute(
        "INSERT INTO t SELECT i, '2024-01-01'::timestamp + i * interval '5 hours', '2024-01-01'::date + i / 5,"
        " ARRAY[i, 1]::real[]::vector FROM generate_series(1, 200) i"
    )
    connection.execute("CREATE INDEX ON t USING winnow (e vector_l2_ops, at, day)")
    connection.execute(f"SET timezone = {zone}")
    for name in ("at", "day"):
        condition = f"{name} {operator} '2024-01-20 00:00+00'::timestamptz"
        connection.execute(INDEX_ONLY)
        found = column(connection, f"SELECT id FROM t WHERE {condition} ORDER BY e <-> '[0,0]'")
        connection.execute("SET enable_seqscan = on; SET enable_indexscan = off")
        expected = column(connection, f"SELECT id FROM t WHERE {condition} ORDER BY id")
        assert found == expected
        connection.execute("RESET enable_indexscan")


@pytest.mark.parametrize("query", ["SELECT DISTINCT {d} FROM t ORDER BY 1", "SELECT {d} FROM t GROUP BY 1 ORDER BY 1"])
def test_equal_distances_are_one_under_a_limit(connection: Connection, query: str) -> None:
    """Who drops repetitions needs rows in perfect order, however few are wanted."""
    connection.execute("CREATE TABLE t (e vector(4))")
    connection.execute(
        "INSERT INTO t SELECT ARRAY[i * 7 % 40, i * 11 % 40, i * 13 % 40, i % 40]::real[]::vector"
        " FROM generate_series(1, 2000) i"
    )
    connection.execute("CREATE INDEX ON t USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    statement = query.format(d="e <-> '[3,3,3,3]'") + " LIMIT 25"
    connection.execute(f"{INDEX_ONLY}; SET enable_hashagg = off; SET winnow.recall = 0.5")
    plan = "\n".join(map(str, column(connection, f"EXPLAIN (COSTS OFF) {statement}")))
    assert "Index Scan" in plan
    assert "Sort" not in plan
    found = column(connection, statement)
    assert found == sorted(set(found), key=lambda distance: float(str(distance)))
    assert len(found) == 25


@pytest.mark.skipif(VERSION < 17, reason="the search path of such functions can be restricted from 17 on")
def test_a_split_runs_the_index_expression_as_the_owner(connection: Connection, dsn: str) -> None:
    """Who may only insert does not see, by a function of his own, the rows that are split."""
    connection.execute(
        "CREATE FUNCTION embed(body text) RETURNS vector(2) IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE NOTICE '% % %', current_user, current_setting('search_path'), body;"
        " RETURN ARRAY[length(body), ascii(body)]::real[]::public.vector; END $$"
    )
    connection.execute("CREATE TABLE t (body text)")
    connection.execute("CREATE INDEX ON t USING winnow ((embed(body)::vector(2)) vector_l2_ops) WITH (list_size = 8)")
    connection.execute("CREATE ROLE writer LOGIN; GRANT INSERT ON t TO writer; GRANT USAGE ON SCHEMA public TO writer")
    connection.execute("INSERT INTO t SELECT 'secret ' || i FROM generate_series(1, 9) i")
    connection.commit()
    try:
        with psycopg.connect(f"{dsn} options='-c role=writer'", autocommit=True) as writer:
            notices: list[str] = []
            writer.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
            for number in range(8):
                writer.execute("INSERT INTO t VALUES (%s)", [f"mine {number}"])
        seen = [notice for notice in notices if "secret" in notice]
        assert seen, "nothing was split"
        assert all(not notice.startswith("writer") for notice in seen)
        assert all("pg_catalog, pg_temp" in notice for notice in seen)
    finally:
        connection.execute("DROP TABLE t; DROP OWNED BY writer; DROP ROLE writer")
        connection.commit()


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


WORDS = ["a", "A", "b", "B", "ab", "aB ", "AB", "é", "É", "", "  ", "zz"]


@pytest.mark.parametrize("column_type", ["char(6)", "varchar(8)", "text", "text COLLATE regardless"])
def test_words_that_count_as_equal(connection: Connection, seed: int, column_type: str) -> None:
    """Blanks at the end, and letters that a collation does not tell apart, are equal under every operator."""
    if "regardless" in column_type:
        try:
            connection.execute(
                "CREATE COLLATION regardless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("the server is built without ICU")
    random = Random(seed)
    connection.execute(f"CREATE TABLE t (id integer, w {column_type}, e vector(2))")
    rows = [(i, random.choice([None, *WORDS]), f"[{random.random()},{random.random()}]") for i in range(600)]
    connection.cursor().executemany("INSERT INTO t VALUES (%s, %s, %s)", rows)
    connection.execute("CREATE INDEX ON t USING winnow (e vector_l2_ops, w) WITH (list_size = 32)")
    for operator in ("=", "<>", "IN", "NOT IN", "IS DISTINCT FROM"):
        for word in WORDS:
            value = f"('{word}', '{random.choice(WORDS)}')" if operator.endswith("IN") else f"'{word}'"
            for limit in (10, 600):
                query = f"SELECT id FROM t WHERE w {operator} {value} ORDER BY e <-> '[.5,.5]' LIMIT {limit}"
                connection.execute("SET enable_indexscan = off; SET enable_seqscan = on; SET winnow.recall = 1")
                expected = column(connection, query)
                connection.execute("SET enable_indexscan = on")
                connection.execute(INDEX_ONLY)
                assert column(connection, query) == expected, query
                connection.execute("SET winnow.recall = 0.95")
                assert len(set(column(connection, query))) == len(expected), query


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


def test_columns_that_a_search_does_not_name_are_not_evaluated(connection: Connection) -> None:
    """Expressions of the index are somebody's code, which the reader may not be allowed to run."""
    connection.execute(
        "CREATE FUNCTION refuse(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS"
        " $$ BEGIN IF current_setting('test.refuse', true) = 'on' THEN RAISE 'asked'; END IF; RETURN $1; END $$;"
        " CREATE TABLE items (id integer, a integer, t text, n numeric, e vector(3));"
        " INSERT INTO items SELECT i, i % 50, 't' || i % 9, i, ARRAY[i % 7, i % 11, i % 13]::real[]::vector"
        " FROM generate_series(1, 2000) i;"
        " CREATE INDEX ON items USING winnow (e, refuse(a), t, (n + 1)); ANALYZE items"
    )
    connection.execute(INDEX_ONLY)
    connection.execute("SET test.refuse = on")
    for condition, matching in (("t = 't3'", 222), ("n + 1 < 101 AND t <> 't3'", 88)):
        found = connection.execute(f"SELECT id FROM items WHERE {condition} ORDER BY e <-> '[0,0,0]'").fetchall()
        assert len(found) == matching


def test_blanks_at_the_end_of_char_n(connection: Connection) -> None:
    """Under a collation that is not deterministic PostgreSQL's extended hash function does not ignore them."""
    if connection.execute("SELECT FROM pg_collation WHERE collname = 'und-x-icu'").rowcount == 0:
        pytest.skip("the server has no ICU")
    connection.execute(
        SETUP_ICU
        + "; CREATE TABLE items (id integer, c char(6) COLLATE folded, a char(6)[] COLLATE folded, e vector(2));"
        " INSERT INTO items SELECT i, x, ARRAY[x], ARRAY[i, 1]::real[]::vector"
        " FROM (SELECT i, CASE i % 2 WHEN 0 THEN 'ab' ELSE 'AB' END x FROM generate_series(1, 500) i) s;"
        " CREATE INDEX ON items USING winnow (e, c, a); ANALYZE items"
    )
    connection.execute(INDEX_ONLY)
    for condition in ("c = 'ab'", "c IN ('aB', 'x')", "(c = 'ab') IS TRUE OR id < 0", "a && '{ab}'", "'Ab' = ANY (a)"):
        found = connection.execute(f"SELECT id FROM items WHERE {condition} ORDER BY e <-> '[1,1]'").fetchall()
        assert len(found) == 500, condition


def test_a_date_that_is_no_timestamp(connection: Connection) -> None:
    """The operator compares them; a cast of the date would fail."""
    connection.execute(
        "CREATE TABLE items (id integer, days timestamptz[], e vector(3));"
        " INSERT INTO items SELECT i, ARRAY['2020-01-01'::timestamptz], ARRAY[i, 1, 1]::real[]::vector"
        " FROM generate_series(1, 500) i;"
        " CREATE INDEX ON items USING winnow (e, days); ANALYZE items"
    )
    connection.execute(INDEX_ONLY)
    for day, matching in (("5874897-12-31", 0), ("2020-01-01", 3)):
        found = connection.execute(
            f"SELECT id FROM items WHERE '{day}'::date = ANY (days) ORDER BY e <-> '[0,0,0]' LIMIT 3"
        ).fetchall()
        assert len(found) == matching


def test_a_domain_over_vectors(connection: Connection) -> None:
    connection.execute(
        "CREATE DOMAIN place AS vector(3) CHECK (VALUE <> '[9,9,9]');"
        " CREATE TABLE items (id integer, e place);"
        " INSERT INTO items SELECT i, ARRAY[i, 1, 1]::real[]::vector FROM generate_series(1, 500) i;"
        " CREATE INDEX items_search ON items USING winnow (e); ANALYZE items"
    )
    connection.execute(INDEX_ONLY)
    search = "SELECT id FROM items ORDER BY e <-> '[100,1,1]' LIMIT 1"
    [[plan]] = column(connection, f"EXPLAIN (FORMAT JSON) {search}")
    assert "items_search" in index_scans(plan["Plan"])
    assert column(connection, search) == [100]
