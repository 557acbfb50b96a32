"""Conditions and plans of many shapes: LIMIT is filled, no row is wrong, and the index has its part where it should.

Every answer is compared with that of a sequential scan, at ``winnow.recall = 1``.
"""

from __future__ import annotations

import json
import random
from typing import Any

import psycopg
import pytest

from server.oracle import INDEX_ONLY, NO_INDEX, Connection, complaint, counters, index_scans, matching_rows, rows_of

ROWS = 3000
DIMS = 6
LIMIT = 20

CREATE = f"""
    CREATE TABLE items (
        id integer PRIMARY KEY,
        e vector({DIMS}) NOT NULL,
        a integer,
        f double precision,
        t text COLLATE "C",
        b boolean,
        tags text[],
        numbers bigint[],
        day timestamptz,
        n numeric,
        other integer
    )
"""
INDEX = "CREATE INDEX items_search ON {} USING winnow (e, a, f, t, b, tags, numbers, day, n) WITH (list_size = 64)"

INSIDE, BOTH, OUTSIDE = (True, False), (True, True), (False, True)
"""Where a condition is tested: as an ``Index Cond``, as a ``Filter``."""

CONDITIONS = {
    "a = 3": INSIDE,
    "3 = a": INSIDE,
    "a = 3 AND t = 'm' AND b": INSIDE,
    "a BETWEEN 3 AND 5": INSIDE,
    "NOT a < 10": INSIDE,
    "(a, f) >= (10, 0.5)": OUTSIDE,
    "(a, t) = (3, 'm')": INSIDE,
    "a IN (3, 5, 7)": INSIDE,
    "a = ANY ('{3,NULL,5}')": INSIDE,
    "a = ANY ('{NULL}')": INSIDE,
    "a = ANY ('{}')": INSIDE,
    "a < ANY ('{3,NULL,5}')": INSIDE,
    "a > ANY ('{15,17}') AND f < 0.5": INSIDE,
    "a = 3 OR a = 5": INSIDE,
    "a = 3 OR 5 = a OR a = 7": INSIDE,
    "t = 'm' OR t = 'x'": INSIDE,
    "a < 2 OR a < 4": INSIDE,
    "(a = 3 OR a = 5) AND (t = 'm' OR t = 'x1')": INSIDE,
    "b": INSIDE,
    "NOT b": INSIDE,
    "b IS TRUE": INSIDE,
    "b IS FALSE": INSIDE,
    "b = false": INSIDE,
    "b <> true": INSIDE,
    "b IS NOT NULL AND a = 1": INSIDE,
    "b IS UNKNOWN": OUTSIDE,
    "b IS NOT TRUE": OUTSIDE,
    "b IS NOT FALSE": OUTSIDE,
    "(a < 3) IS NOT TRUE": OUTSIDE,
    "(a < 3) IS TRUE": OUTSIDE,
    "t LIKE 'x%'": BOTH,
    "t LIKE 'x_'": BOTH,
    "t LIKE 'xy'": BOTH,
    "t LIKE '%1'": OUTSIDE,
    "t ^@ 'x'": BOTH,
    "t ~ '^x'": BOTH,
    "t ILIKE 'X%'": OUTSIDE,
    "NOT t LIKE 'x%'": OUTSIDE,
    "tags @> '{red}'": INSIDE,
    "tags && '{red,blue}'": INSIDE,
    "'red' = ANY (tags)": INSIDE,
    "'red' = ANY (tags) AND 'blue' = ANY (tags)": INSIDE,
    "NULL = ANY (tags)": None,
    "'red' <> ANY (tags)": OUTSIDE,
    "'red' = ALL (tags)": OUTSIDE,
    "NOT 'red' = ANY (tags)": OUTSIDE,
    "tags[1] = 'red'": OUTSIDE,
    "7::bigint = ANY (numbers)": INSIDE,
    "7 = ANY (numbers)": INSIDE,
    "7::smallint = ANY (numbers)": INSIDE,
    "7::numeric = ANY (numbers)": OUTSIDE,
    "7 < ANY (numbers)": OUTSIDE,
    "a <> 3": INSIDE,
    "NOT a = 3": INSIDE,
    "a <> 3 AND a <> 5 AND f <> 0.5": INSIDE,
    "a <> 3::bigint OR a <> 3::bigint": INSIDE,
    "a <> ANY ('{3}')": INSIDE,
    "a <> ANY ('{3,5}')": INSIDE,
    "a <> NULL": None,
    "day <> '2004-01-01'": INSIDE,
    "day <> '2004-01-01'::date": INSIDE,
    "b <> (SELECT true)": INSIDE,
    "t <> 'x'": OUTSIDE,
    "n <> 3": OUTSIDE,
    "a IS DISTINCT FROM 3": OUTSIDE,
    "a IS NOT DISTINCT FROM 3": OUTSIDE,
    "a IS DISTINCT FROM NULL": INSIDE,
    "a NOT IN (3, 5)": OUTSIDE,
    "a NOT IN (3, NULL)": None,
    "a BETWEEN SYMMETRIC 5 AND 3": OUTSIDE,
    "a NOT BETWEEN 3 AND 15": OUTSIDE,
    "a = 3 OR t = 'm'": OUTSIDE,
    "a = 3 OR a IS NULL": OUTSIDE,
    "a < 3 OR a > 15": OUTSIDE,
    "a = 3 OR a = 5.0": OUTSIDE,
    "(a = 3 AND t = 'm') OR (a = 5 AND b)": OUTSIDE,
    "a = 3 AND (t = 'm' OR b)": BOTH,
    "a % 7 = 3": OUTSIDE,
    "a = other": OUTSIDE,
    "a = 3 AND other < 100": BOTH,
    "other = 5": OUTSIDE,
    "day > now() - interval '100 years'": INSIDE,
    "n > 3": INSIDE,
    "n = 3 OR n = 4": INSIDE,
    "a = (SELECT 3)": INSIDE,
    "a = ANY (SELECT generate_series(3, 5))": None,
    "a = random()::integer AND a <> a": OUTSIDE,
}

PRE_TESTED = (
    "a = 3 OR t = 'm'",
    "a = 3 OR a IS NULL",
    "a < 3 OR a > 15",
    "(a = 3 AND t = 'm') OR (a = 5 AND b)",
    "a = 3 AND (t = 'm' OR b)",
    "a NOT IN (3, 5)",
    "a NOT IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)",
    "a IS DISTINCT FROM 3",
    "a IS NOT DISTINCT FROM 3",
    "a NOT BETWEEN 3 AND 15",
    "a BETWEEN SYMMETRIC 5 AND 3",
    "b IS UNKNOWN",
    "b IS NOT TRUE",
    "b IS NOT FALSE",
    "(a < 3) IS NOT TRUE",
    "(a < 3 AND b) IS UNKNOWN",
    "NOT (a < 3 AND b)",
    "a < ALL ('{7,9}')",
    "day < '2003-01-01' OR NOT b",
    "a = 3 OR (now() > '2000-01-01' AND b)",
    "a = (SELECT 3) OR ((SELECT NULL::integer) IS NULL AND t = 'm')",
)
"""Conditions of the executor's that the index has decided before it sees a row."""


def fill(connection: Connection, seed: int, table: str = "items") -> None:
    """Rows in which every condition has something to decide, NULLs among them."""
    rng = random.Random(seed)

    def some(value: object) -> object:
        return None if rng.random() < 0.05 else value

    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in range(ROWS):
            vector = [round(rng.gauss(row % 7, 1), 3) for _ in range(DIMS)]
            tags = rng.sample(["red", "green", "blue", "black"], rng.randint(0, 3))
            numbers = [rng.randint(0, 20) for _ in range(rng.randint(0, 3))]
            copy.write_row(
                (
                    row,
                    json.dumps(vector),
                    some(rng.randint(0, 20)),
                    some(round(rng.random(), 3)),
                    some(rng.choice(["m", "x", "x1", "xy", "xyz", "y", "X", ""])),
                    some(rng.random() < 0.4),
                    some(tags),
                    some(numbers),
                    some(f"{rng.randint(2000, 2020)}-01-01"),
                    some(rng.randint(0, 8)),
                    rng.randint(0, 1000),
                )
            )


@pytest.fixture
def items(connection: Connection, seed: int) -> Connection:
    """A table of 3,000 rows with a winnow index that can be searched without a sort."""
    connection.execute(CREATE)
    fill(connection, seed)
    connection.execute(INDEX.format("items"))
    connection.execute("ANALYZE items")
    connection.execute("SET winnow.recall = 1")
    connection.commit()
    return connection


def query_vector(seed: int) -> str:
    rng = random.Random(seed + 1)
    return json.dumps([round(rng.gauss(3, 2), 3) for _ in range(DIMS)])


def plan_of(connection: Connection, sql: str) -> Any:
    row = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()
    assert row is not None
    return row[0]


def nodes(plan: Any) -> list[dict[str, Any]]:
    """All nodes of a plan, from the top."""
    found: list[dict[str, Any]] = []
    for part in plan if isinstance(plan, list) else plan.get("Plans", []):
        node = part.get("Plan", part)
        found += [node, *nodes(node)]
    return found


def compare(
    connection: Connection, select: str, full: str, limit: int | None, name: str | None
) -> list[dict[str, Any]]:
    """Assert that the answer to ``select`` is the best part of ``full``; the plan's nodes.

    :param name: what the names of the indexes that are scanned begin with; None if there may be none
    """
    matching = matching_rows(connection, full)
    connection.execute(INDEX_ONLY)
    plan = plan_of(connection, select)
    assert name is None or any(index.startswith(name) for index in index_scans(plan)), (
        f"no index scan: {json.dumps(plan)}"
    )
    found = rows_of(connection.execute(select).fetchall())
    wrong = complaint(found, matching, limit=limit, exact=True, ordered=True)
    assert wrong is None, f"{select}\n{wrong}"
    return nodes(plan)


def test_conditions(items: Connection, seed: int) -> None:
    query = query_vector(seed)
    wrong = []
    for condition, expected in CONDITIONS.items():
        full = f"SELECT id, e <-> '{query}' FROM items WHERE {condition}"
        for limit in (LIMIT, None):
            select = f"{full} ORDER BY e <-> '{query}'" + (f" LIMIT {limit}" if limit else "")
            plan = compare(items, select, full, limit, "items_search" if expected else None)
            scan = next((node for node in plan if node["Node Type"] == "Index Scan"), {})
            parts = "Index Cond" in scan, "Filter" in scan
            if expected is not None and parts != expected:
                wrong.append((condition, parts))
    assert not wrong


def test_pre_tested_conditions(items: Connection, seed: int) -> None:
    """The columns let no row pass that the executor would reject."""
    query = query_vector(seed)
    for condition in PRE_TESTED:
        full = f"SELECT id, e <-> '{query}' FROM items WHERE {condition}"
        plan = compare(items, f"{full} ORDER BY e <-> '{query}'", full, None, "items_search")
        assert "Filter" in next(node for node in plan if node["Node Type"] == "Index Scan"), condition
        found = counters(items)
        assert found["rows_passed"] == found["reranked"] == found["returned"] < ROWS, condition


@pytest.mark.parametrize("condition", ["s <> 'done'", "'done' <> s", "s NOT IN ('done', 'gone')"])
def test_rows_set_apart_cost_nothing(connection: Connection, condition: str) -> None:
    """The planner knows that rows with the hash of a value that is not wanted are not fetched."""
    connection.execute("CREATE TABLE t (s text, i integer, e vector(2))")
    connection.execute(
        "INSERT INTO t SELECT CASE WHEN i % 100 = 0 THEN 'open' ELSE 'done' END, i % 100,"
        " ARRAY[i, 1]::real[]::vector FROM generate_series(1, 5000) i"
    )
    connection.execute("CREATE INDEX ON t USING winnow (e vector_l2_ops, s, i); ANALYZE t")
    connection.execute(INDEX_ONLY)

    def cost(condition: str) -> float:
        query = f"SELECT 1 FROM t WHERE {condition} ORDER BY e <-> '[0,0]' LIMIT 10"
        plan: Any = connection.execute(f"EXPLAIN (FORMAT JSON) {query}").fetchone()
        return float(plan[0][0]["Plan"]["Total Cost"])

    assert cost(condition) < 1.5 * cost("i = 0")
    connection.execute("SET winnow.recall = 1")
    assert cost(condition) > 1.5 * cost("i = 0")


def test_pre_tested_parameters(items: Connection, seed: int) -> None:
    """A generic plan has to look at its parameters anew, and not at those that others make needless."""
    items.execute("SET plan_cache_mode = force_generic_plan")
    items.execute(
        f"PREPARE search (integer, text, integer) AS SELECT id, e <-> '{query_vector(seed)}' FROM items"
        f" WHERE ($1 IS NULL OR a = $1) AND ($2 IS NULL OR t IS DISTINCT FROM $2 OR a = 10 / $3)"
        f" ORDER BY e <-> '{query_vector(seed)}'"
    )
    for first, second, third in (("3", "'m'", "2"), ("NULL", "'m'", "10"), ("4", "NULL", "0"), ("NULL", "NULL", "0")):
        execute = f"EXECUTE search ({first}, {second}, {third})"
        matching = matching_rows(items, execute)
        items.execute("DISCARD PLANS")
        items.execute(INDEX_ONLY)
        assert "items_search" in index_scans(plan_of(items, execute))
        wrong = complaint(rows_of(items.execute(execute).fetchall()), matching, exact=True, ordered=True)
        assert wrong is None, f"{execute}: {wrong}"
        passed = counters(items)["rows_passed"]
        assert passed == len(matching) if first != "NULL" and second == "NULL" else passed >= len(matching)
        assert passed < ROWS or first == "NULL"


def test_conditions_joined_by_the_thousand(items: Connection, seed: int) -> None:
    query = query_vector(seed)
    many = " OR ".join(f"(a = {number % 23} AND f < {number / 2000})" for number in range(2000))
    deep = "a = 3" + "".join(f" OR b AND (f < 0.{number} AND t = 'm'" for number in range(10, 60)) + ")" * 50
    for condition in (many, deep):
        full = f"SELECT id, e <-> '{query}' FROM items WHERE {condition}"
        compare(items, f"{full} ORDER BY e <-> '{query}'", full, None, "items_search")
        assert counters(items)["rows_passed"] < ROWS


def test_outcomes_of_outcomes(items: Connection, seed: int) -> None:
    """Each level asks for two outcomes of the one below, which must not take 2^40 steps."""
    query = query_vector(seed)
    condition = "b"
    for number in range(40):
        condition = f"(({condition} AND a = {number % 21}) IS UNKNOWN OR f < 0.{number % 7})"
    full = f"SELECT id, e <-> '{query}' FROM items WHERE {condition}"
    compare(items, f"{full} ORDER BY e <-> '{query}'", full, None, "items_search")


def test_ties(items: Connection, seed: int) -> None:
    """Who asks for ties wants one row more, to see that it is none."""
    query = query_vector(seed)
    full = f"SELECT id, e <-> '{query}' FROM items WHERE a < 15"
    compare(items, f"{full} ORDER BY e <-> '{query}' FETCH FIRST 20 ROWS WITH TIES", full, 20, "items_search")
    assert counters(items)["rounds"] == 1


def test_all_rows_are_ranked_at_once(items: Connection, seed: int) -> None:
    """Where every row that comes out is wanted, nothing is estimated."""
    items.execute("SET winnow.recall = 0.95")
    ordered = f"FROM items WHERE a < 15 ORDER BY e <-> '{query_vector(seed)}'"
    items.execute("CREATE TABLE copied (id integer)")
    items.execute(INDEX_ONLY)
    known = (
        f"SELECT id {ordered}",
        f"SELECT count(*) FROM (SELECT id {ordered} OFFSET 0) x",
        f"INSERT INTO copied SELECT id {ordered}",
        f"SELECT id {ordered} OFFSET 100",
        f"SELECT row_number() OVER () FROM (SELECT id {ordered} OFFSET 0) x",
        f"SELECT id, (SELECT max(a) FROM labels) FROM (SELECT id {ordered} OFFSET 0) x",
        f"SELECT id {ordered} LIMIT {ROWS}",
    )
    items.execute("CREATE TABLE labels AS SELECT 1 AS a")
    for sql in known:
        items.execute(sql)
        found = counters(items)
        assert found["rounds"] == 1, sql
        assert found["codes_estimated"] < found["returned"] / 2, sql
        assert found["rows_passed"] <= found["returned"] * 1.4, sql
    unknown = (
        f"SELECT (SELECT id FROM (SELECT id {ordered} OFFSET 0) x LIMIT 1)",
        f"SELECT id {ordered} LIMIT 5",
        f"SELECT * FROM (SELECT id, row_number() OVER (ORDER BY e <-> '{query_vector(seed)}') AS n"
        " FROM items WHERE a < 15) x WHERE n < 5",
    )
    for sql in unknown:
        items.execute(sql)
        found = counters(items)
        assert found["returned"] < 20
        assert found["codes_estimated"] > 0, sql
    items.execute(f"DECLARE c CURSOR FOR SELECT id {ordered}")
    items.execute("FETCH 5 FROM c")
    assert counters(items)["codes_estimated"] > 0
    items.execute("FETCH ALL FROM c")
    assert counters(items)["rounds"] == 2


def test_rows_that_match_are_far_away(connection: Connection) -> None:
    """What the lists read first tell of the number of matches is wrong: the search must not fetch all of them."""
    connection.execute("CREATE TABLE line (id integer, e vector(2), a integer)")
    connection.execute(
        "INSERT INTO line SELECT i, ARRAY[i, 0]::vector, CASE WHEN i > 10000 AND i % 3 = 0 THEN 1 ELSE i % 2 * 2 END"
        " FROM generate_series(1, 20000) i"
    )
    connection.execute("CREATE INDEX line_search ON line USING winnow (e, a) WITH (list_size = 64)")
    connection.execute("ANALYZE line")
    connection.execute(INDEX_ONLY)
    connection.execute("SET winnow.recall = 1")
    for limit, most in ((10, 1000), (5000, 5000)):
        found = connection.execute(f"SELECT id FROM line WHERE a = 1 ORDER BY e <-> '[0,0]' LIMIT {limit}").fetchall()
        assert [row[0] for row in found] == list(range(10_002, 20_001, 3))[:limit]
        assert counters(connection)["reranked"] <= most


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_prepared_statements(items: Connection, seed: int, mode: str) -> None:
    items.execute(f"SET plan_cache_mode = {mode}")
    distance = f"e <-> '{query_vector(seed)}'"
    parameters = "integer, integer[], text, boolean, text[], bigint"
    where = "a <> $1 AND a = ANY ($2) AND (t = $3 OR t = 'x') AND b = $4 AND tags && $5"
    values = "(4, '{1,2,3,4,5,6,7,NULL}', 'm', false, '{red,green}', %s)"
    items.execute(f"PREPARE full_answer ({parameters}) AS SELECT id, {distance} FROM items WHERE {where}")
    matching = matching_rows(items, "EXECUTE full_answer " + values % "NULL")
    assert len(matching) > 10
    items.execute(INDEX_ONLY)
    items.execute(
        f"PREPARE search ({parameters}, vector) AS SELECT id, {distance} FROM items WHERE {where}"
        " ORDER BY e <-> $7 LIMIT $6"
    )
    for limit in ("5", "1000", "NULL"):
        execute = f"EXECUTE search {values % limit}".replace(")", f", '{query_vector(seed)}')")
        scan = next(node for node in nodes(plan_of(items, execute)) if node["Node Type"] == "Index Scan")
        for column in ("a = ANY", "t = ANY", "tags &&", "b"):
            assert column in scan["Index Cond"]
        assert ("$2" in scan["Index Cond"]) == (mode == "force_generic_plan")
        found = rows_of(items.execute(execute).fetchall())
        wrong = complaint(found, matching, limit=None if limit == "NULL" else int(limit), exact=True, ordered=True)
        assert wrong is None, wrong


def test_null_parameters(items: Connection, seed: int) -> None:
    items.execute("SET plan_cache_mode = force_generic_plan")
    items.execute(INDEX_ONLY)
    for type_name, condition in (("integer", "a = $1"), ("integer[]", "a = ANY ($1)"), ("text", "$1 = ANY (tags)")):
        items.execute(
            f"PREPARE search ({type_name}) AS SELECT id FROM items WHERE {condition}"
            f" ORDER BY e <-> '{query_vector(seed)}'"
        )
        assert "Index Cond" in str(plan_of(items, "EXECUTE search (NULL)"))
        assert items.execute("EXECUTE search (NULL)").fetchall() == []
        items.execute("DEALLOCATE search")


def test_a_list_of_ten_thousand(items: Connection, seed: int) -> None:
    """What counts is that this ends at once; a filter that compares every row with every element would not."""
    rng = random.Random(seed)
    query = query_vector(seed)
    for column, elements in (
        ("id % 1000000", [*rng.sample(range(10**6), 10_000), 1, 2, 3]),
        ("a", [*range(5, 10**4)]),
        ("t", ["x", "y", *(f"nobody {i}" for i in range(10_000))]),
        ("n", [*range(3, 10**4)]),
    ):
        kind = {"t": "text", "n": "numeric"}.get(column, "integer")
        array = "{" + ",".join("NULL" if value == 1 else str(value).join('""') for value in elements) + "}"
        full = f"SELECT id, e <-> '{query}' FROM items WHERE {column} = ANY ('{array}'::{kind}[])"
        plan = compare(items, f"{full} ORDER BY e <-> '{query}' LIMIT {LIMIT}", full, LIMIT, "items_search")
        assert ("Index Cond" in plan[1]) == (column in ("a", "t", "n"))
        array = array.replace("NULL", "1")
        full = f"SELECT id, e <-> '{query}' FROM items WHERE {column} <> ALL ('{array}'::{kind}[])"
        compare(items, f"{full} ORDER BY e <-> '{query}'", full, None, "items_search")
        found = counters(items)
        assert column != "a" or found["rows_passed"] == found["returned"] > 0


@pytest.mark.parametrize("step", [1, 2, 3, 1000, 10**7])
@pytest.mark.parametrize("count", [7, 8, 9, 50, 1500])
def test_lists_of_all_densities(items: Connection, seed: int, step: int, count: int) -> None:
    """Lists are looked up in different ways, which depend on how many values there are in what range."""
    query = query_vector(seed)
    items.execute(f"CREATE TABLE spread AS SELECT id, e, (id - 1000) * {step}::bigint AS a FROM items")
    items.execute("CREATE INDEX spread_search ON spread USING winnow (e, a) WITH (list_size = 64); ANALYZE spread")
    some = random.Random(seed + count).sample(range(-1000, 2000), count)
    array = "{" + ",".join(str(number * step // (2 - number % 2)) for number in some) + "}"
    for condition in (f"a = ANY ('{array}')", f"a <> ALL ('{array}')"):
        full = f"SELECT id, e <-> '{query}' FROM spread WHERE {condition}"
        compare(items, f"{full} ORDER BY e <-> '{query}'", full, None, "spread_search")
        found = counters(items)
        assert found["rows_passed"] == found["returned"], condition


@pytest.mark.parametrize("strategy", ["RANGE (a)", "HASH (id)", "LIST (b)"])
def test_partitions(connection: Connection, seed: int, strategy: str) -> None:
    connection.execute(CREATE.replace("PRIMARY KEY", "").rstrip() + f" PARTITION BY {strategy}")
    parts = {
        "RANGE (a)": ["FOR VALUES FROM (MINVALUE) TO (5)", "FOR VALUES FROM (5) TO (12)", "DEFAULT"],
        "HASH (id)": [f"FOR VALUES WITH (MODULUS 3, REMAINDER {i})" for i in range(3)],
        "LIST (b)": ["FOR VALUES IN (true)", "FOR VALUES IN (false)", "DEFAULT"],
    }[strategy]
    for number, bounds in enumerate(parts):
        connection.execute(f"CREATE TABLE items_{number} PARTITION OF items {bounds}")
    fill(connection, seed)
    connection.execute(INDEX.format("items"))
    connection.execute("ANALYZE items")
    connection.execute("SET winnow.recall = 1")
    query = query_vector(seed)
    for condition in (
        "true",
        "a < 9",
        "t = 'm' AND (a = 3 OR a = 13)",
        "'red' = ANY (tags)",
        "other < 50",
        "b OR a = 3",
    ):
        full = f"SELECT id, e <-> '{query}' FROM items WHERE {condition}"
        for limit in (LIMIT, ROWS):
            plan = compare(connection, f"{full} ORDER BY e <-> '{query}' LIMIT {limit}", full, limit, "items_")
            kinds = [node["Node Type"] for node in plan]
            assert "Sort" not in kinds
            assert (
                kinds[:2] == ["Limit", "Merge Append"] or kinds[:2] == ["Limit", "Index Scan"] or kinds.count("Result")
            )


def test_partitions_search_for_the_limit(connection: Connection, seed: int) -> None:
    """The scans below a MergeAppend know the LIMIT: the last one, too, does one round."""
    connection.execute(CREATE.replace("PRIMARY KEY", "") + " PARTITION BY HASH (id)")
    for number in range(3):
        connection.execute(
            f"CREATE TABLE items_{number} PARTITION OF items FOR VALUES WITH (MODULUS 3, REMAINDER {number})"
        )
    fill(connection, seed)
    connection.execute(INDEX.format("items"))
    connection.execute(INDEX_ONLY)
    connection.execute(f"SELECT id FROM items ORDER BY e <-> '{query_vector(seed)}' LIMIT 50").fetchall()
    rounds = connection.execute("SELECT value FROM winnow_last_scan() WHERE counter = 'rounds'").fetchone()
    assert rounds == (1,)


def test_joins(items: Connection, seed: int) -> None:
    items.execute("CREATE TABLE labels AS SELECT i AS a, 'label ' || i AS name FROM generate_series(0, 20, 2) i")
    items.execute("ALTER TABLE labels ADD PRIMARY KEY (a); ANALYZE labels")
    query = query_vector(seed)
    items.execute("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off")
    full = f"SELECT id, e <-> '{query}' FROM items JOIN labels USING (a) WHERE b"
    compare(items, f"{full} ORDER BY e <-> '{query}' LIMIT {LIMIT}", full, LIMIT, "items_search")
    semi = f"SELECT id, e <-> '{query}' FROM items WHERE EXISTS (SELECT FROM labels WHERE labels.a = items.a)"
    compare(items, f"{semi} ORDER BY e <-> '{query}' LIMIT {LIMIT}", semi, LIMIT, "items_search")
    anti = f"SELECT id, e <-> '{query}' FROM items LEFT JOIN labels USING (a) WHERE labels.a IS NULL"
    compare(items, f"{anti} ORDER BY e <-> '{query}' LIMIT {LIMIT}", anti, LIMIT, "items_search")


def test_rows_that_a_join_drops_are_reckoned_with(connection: Connection) -> None:
    """The search for one row of the join is one for hundreds of the table."""
    connection.execute(
        "CREATE TABLE goods (id integer PRIMARY KEY, e vector(8));"
        " INSERT INTO goods SELECT i, (SELECT array_agg((i * j * 7919 % 1009)::real)::vector"
        " FROM generate_series(1, 8) j) FROM generate_series(1, 20000) i;"
        " CREATE TABLE stock (id integer PRIMARY KEY, qty integer);"
        " INSERT INTO stock SELECT i, i % 1000 FROM generate_series(1, 20000) i; CREATE INDEX ON stock (qty);"
        " CREATE INDEX goods_search ON goods USING winnow (e); ANALYZE goods, stock"
    )
    order = "ORDER BY e <-> '[1,2,3,4,5,6,7,8]' LIMIT 1"
    dropping = f"SELECT id FROM goods JOIN stock USING (id) WHERE qty < 2 {order}"
    assert "goods_search" not in index_scans(plan_of(connection, dropping))
    for keeping in (
        f"SELECT id FROM goods JOIN stock USING (id) {order}",
        f"SELECT id FROM goods LEFT JOIN (SELECT * FROM stock WHERE qty < 2) s USING (id) {order}",
        f"SELECT id FROM goods JOIN stock USING (id) WHERE qty > 100 {order}",
    ):
        assert "goods_search" in index_scans(plan_of(connection, keeping)), keeping


@pytest.mark.parametrize(
    "condition",
    [
        "a = asked.a",
        "a = ANY (asked.some)",
        "(a = asked.a OR a = 3)",
        "asked.tag = ANY (tags)",
        "a < 15 AND (a = asked.a OR asked.tag = ANY (tags))",
        "a < 15 AND a IS DISTINCT FROM asked.a AND NOT a = ANY (asked.some)",
        "a < 15 AND (a <> ALL (asked.some)) IS NOT TRUE",
    ],
)
def test_lateral_rescans(items: Connection, seed: int, condition: str) -> None:
    items.execute(
        "CREATE TABLE asked AS SELECT id AS q, e AS v, id % 21 AS a, ARRAY[id % 5, NULL, 7] AS some,"
        " (ARRAY['red', 'green', 'nothing', NULL])[id % 4 + 1] AS tag FROM items WHERE id < 60"
    )
    items.execute("INSERT INTO asked VALUES (1000, NULL, 3, '{3}', 'red')")
    lateral = (
        "SELECT q, found.id, d FROM asked CROSS JOIN LATERAL (SELECT id, e <-> v AS d FROM items"
        f" WHERE {condition} ORDER BY e <-> v LIMIT 5) found ORDER BY q, d, found.id"
    )
    items.execute(NO_INDEX)
    expected = items.execute(lateral).fetchall()
    items.execute(INDEX_ONLY)
    items.execute("SET enable_sort = on")
    plan = plan_of(items, lateral)
    assert "items_search" in index_scans(plan)
    assert "Index Cond" in next(node for node in nodes(plan) if node.get("Index Name") == "items_search")
    found = items.execute(lateral).fetchall()
    known = [row for row in found if row[0] != 1000]
    assert known == [row for row in expected if row[0] != 1000]
    # The order by a distance to NULL is any order.
    assert len(found) == len(expected)


def test_correlated_subquery(items: Connection) -> None:
    nearest = (
        "SELECT o.id, (SELECT i.id FROM items i WHERE i.a = o.a AND i.id <> o.id ORDER BY i.e <-> o.e LIMIT 1)"
        " FROM items o WHERE o.id < 100 ORDER BY o.id"
    )
    items.execute(NO_INDEX)
    expected = items.execute(nearest).fetchall()
    items.execute(INDEX_ONLY)
    items.execute("SET enable_sort = on")
    assert "items_search" in index_scans(plan_of(items, nearest))
    assert items.execute(nearest).fetchall() == expected


@pytest.fixture
def reader(items: Connection) -> Connection:
    """The table under row-level security, and the role that it holds for."""
    items.execute(
        "DROP ROLE IF EXISTS winnow_reader; CREATE ROLE winnow_reader; GRANT SELECT ON items TO winnow_reader;"
        " ALTER TABLE items ENABLE ROW LEVEL SECURITY"
    )
    return items


@pytest.mark.parametrize(
    ("policy", "condition", "expected"),
    [
        ("a < 10", "t = 'x'", INSIDE),
        ("a < 10", "a = 3 OR a = 5", INSIDE),
        ("a = current_setting('app.tenant')::integer", "t > 'm' AND b", INSIDE),
        ("other < 500", "a = 3", BOTH),
        ("tags && '{red}'", "a = 3", INSIDE),
        # These operators could tell what they see, so the policy comes first.
        ("other < 500", "tags && '{red}'", OUTSIDE),
        ("other < 500", "'red' = ANY (tags)", OUTSIDE),
        ("a < 10", "tags @> '{red}'", BOTH),
        ("a < 10", "t LIKE 'x%'", BOTH),
    ],
)
def test_row_level_security(
    reader: Connection, seed: int, policy: str, condition: str, expected: tuple[bool, bool]
) -> None:
    query = query_vector(seed)
    reader.execute("SET app.tenant = 3")
    matching = matching_rows(reader, f"SELECT id, e <-> '{query}' FROM items WHERE ({condition}) AND ({policy})")
    assert matching
    reader.execute(f"CREATE POLICY readers ON items TO winnow_reader USING ({policy})")
    reader.execute(INDEX_ONLY)
    reader.execute("SET ROLE winnow_reader")
    for limit in (5, ROWS):
        select = f"SELECT id, e <-> '{query}' FROM items WHERE {condition} ORDER BY e <-> '{query}' LIMIT {limit}"
        plan = nodes(plan_of(reader, select))
        scan = next(node for node in plan if node["Node Type"] == "Index Scan")
        assert ("Index Cond" in scan, "Filter" in scan) == expected, scan
        wrong = complaint(rows_of(reader.execute(select).fetchall()), matching, limit=limit, exact=True, ordered=True)
        assert wrong is None, wrong


def test_cost_of_a_distance(connection: Connection) -> None:
    """Vectors that are stored out of line cost more to compare, unless the column keeps them in line."""

    def cost(dims: int, storage: str = "EXTERNAL") -> float:
        connection.execute(f"CREATE TABLE costs (e vector({dims}))")
        connection.execute(f"ALTER TABLE costs ALTER COLUMN e SET STORAGE {storage}")
        plans = [plan_of(connection, f"SELECT {what} FROM costs c") for what in ("e <-> $$[1]$$", "e")]
        connection.execute("DROP TABLE costs")
        with_distance, without = (nodes(plan)[0]["Total Cost"] / nodes(plan)[0]["Plan Rows"] for plan in plans)
        more: float = with_distance - without
        return more

    assert cost(100) < cost(400) < cost(1500, "PLAIN") < cost(600) < cost(1500)


@pytest.mark.parametrize("recall", [0.5, 0.95, 1])
def test_costs_are_sane(connection: psycopg.Connection[Any], seed: int, recall: float) -> None:
    """From 1,000 to 100,000,000 rows: a search costs less than reading the table, and more for more rows."""
    connection.execute(CREATE)
    fill(connection, seed)
    connection.execute(INDEX.format("items"))
    connection.execute("ANALYZE items")
    connection.execute(f"SET winnow.recall = {recall}")
    query = query_vector(seed)

    def cost(where: str, limit: int, settings: str) -> float:
        connection.execute(settings)
        sql = f"SELECT id FROM items WHERE {where} ORDER BY e <-> '{query}' LIMIT {limit}"
        total: float = nodes(plan_of(connection, sql))[0]["Total Cost"]
        return total

    last = 0.0
    for rows in (10**3, 10**4, 10**5, 10**6, 10**7, 10**8):
        # Small files that claim to be large: the planner scales the counts by the pages that there are.
        connection.execute(
            "UPDATE pg_class SET reltuples = %s::real * relpages / (pg_relation_size(oid) / 8192.0)"
            " WHERE oid IN ('items'::regclass, 'items_search'::regclass)",
            [rows],
        )
        few, many = (cost("true", limit, INDEX_ONLY) for limit in (10, 500))
        assert 0 < few <= many
        assert few >= last * 0.99
        last = few
        assert cost("a = 3", 10, INDEX_ONLY) > 0
        if recall < 1:  # else nearly all rows are fetched in any case, and few of these need a distance
            assert cost("other = 3", 10, INDEX_ONLY) >= few
        if rows >= 10**5 and recall < 1:
            assert few < cost("true", 10, NO_INDEX)
