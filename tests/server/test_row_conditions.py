"""Conditions on columns that the index does not have: a search tests them on the rows that it fetches."""

from __future__ import annotations

import json
import random
from typing import Any

import psycopg
import pytest

from server.oracle import INDEX_ONLY, Connection, complaint, counters, matching_rows, rows_of

ROWS = 4000
DIMS = 8
LIMIT = 10

FUNCTIONS = """
    CREATE FUNCTION is_small(integer) RETURNS boolean STABLE COST 10 LANGUAGE plpgsql
        AS $$ BEGIN RETURN $1 < 100; END $$;
    CREATE FUNCTION is_slow(integer) RETURNS boolean STABLE COST 1000 LANGUAGE plpgsql
        AS $$ BEGIN RETURN $1 < 100; END $$;
    CREATE FUNCTION no_error(integer) RETURNS boolean STABLE COST 10 LANGUAGE plpgsql
        AS $$ BEGIN RETURN 1 / ($1 % 10) IS NOT NULL; EXCEPTION WHEN division_by_zero THEN RETURN false; END $$;
    CREATE FUNCTION nearest_is_small(vector) RETURNS boolean STABLE COST 10 LANGUAGE sql SET winnow.recall = 1
        AS $$ SELECT id < 2000 FROM items ORDER BY e <-> $1 LIMIT 1 OFFSET 1 $$;
    CREATE FUNCTION told(integer) RETURNS boolean IMMUTABLE COST 0.0001 LANGUAGE plpgsql
        AS $$ BEGIN RAISE NOTICE '%', $1; RETURN $1 % 2 = 0; END $$;
"""


@pytest.fixture
def items(connection: Connection, seed: int) -> Connection:
    """Rows with columns that are not in the index, and long values out of line."""
    rng = random.Random(seed)
    connection.execute(
        f"CREATE TABLE items (id integer, e vector({DIMS}), a integer, other integer, document jsonb, long text)"
    )
    connection.execute("ALTER TABLE items ALTER COLUMN long SET STORAGE EXTERNAL")
    with connection.cursor() as cursor, cursor.copy("COPY items FROM STDIN") as copy:
        for row in range(ROWS):
            vector = json.dumps([round(rng.gauss(row % 5, 1), 3) for _ in range(DIMS)])
            other = rng.randint(0, 999)
            long = str(other) * 2000 if row % 100 == 0 else None
            copy.write_row((row, vector, rng.randint(0, 9), other, json.dumps({"other": other}), long))
    connection.execute(FUNCTIONS)
    connection.execute("CREATE INDEX items_search ON items USING winnow (e, a) WITH (list_size = 64)")
    connection.execute("ANALYZE items")
    connection.commit()
    return connection


def query_vector(seed: int) -> str:
    rng = random.Random(seed + 1)
    return json.dumps([round(rng.gauss(2, 2), 3) for _ in range(DIMS)])


def search(connection: Connection, condition: str, seed: int, limit: int = LIMIT) -> dict[str, int]:
    """Compare with the sequential scan, exactly and at a target; the counters of the latter search."""
    query = query_vector(seed)
    full = f"SELECT id, e <-> '{query}' FROM items WHERE {condition}"
    matching = matching_rows(connection, full)
    connection.execute(INDEX_ONLY)
    for recall in (1, 0.95):
        connection.execute(f"SET winnow.recall = {recall}")
        found = rows_of(connection.execute(f"{full} ORDER BY e <-> '{query}' LIMIT {limit}").fetchall())
        wrong = complaint(found, matching, limit=limit, exact=recall == 1, ordered=recall == 1)
        assert wrong is None, f"{condition}\n{wrong}"
    return counters(connection)


@pytest.mark.parametrize(
    "condition",
    [
        "other < 500",
        "other < 20",
        "other = 7 AND a < 5",
        "a < 5 AND (document->>'other')::integer % 3 = 0",
        "is_small(other)",
        "no_error(other)",
        "length(long) > 1000",
        "ctid < '(20,1)' AND other < 300",
        "tableoid = 'items'::regclass AND other < 300",
        "items.* IS NOT NULL",
        "e <-> '[0,0,0,0,0,0,0,0]' < 4",
        "a = 3 OR other < 100",
    ],
)
def test_rows_that_do_not_pass_are_not_what_a_search_looks_for(items: Connection, seed: int, condition: str) -> None:
    found = search(items, condition, seed)
    assert found["rounds"] == 1
    assert found["rechecked_out"] > 0


def test_a_condition_may_search(items: Connection, seed: int) -> None:
    """The answer alone is compared: which of the searches was the last depends on the plan."""
    search(items, "nearest_is_small(e)", seed)


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("list_size", [8, 64])
@pytest.mark.parametrize("recall", [0.95, 1])
def test_searches_that_go_on(items: Connection, seed: int, bits: int, list_size: int, recall: float) -> None:
    """Rows of a list in which none passed at first are found when more are wanted."""
    items.execute(f"ALTER INDEX items_search SET (bits = {bits}, list_size = {list_size})")
    items.execute("REINDEX INDEX items_search")
    query = query_vector(seed)
    full = f"SELECT id, e <-> '{query}' FROM items WHERE other < 300 AND long IS NULL"
    matching = matching_rows(items, full)
    items.execute(INDEX_ONLY)
    items.execute(f"SET winnow.recall = {recall}")
    items.execute(f"DECLARE c CURSOR FOR {full} ORDER BY e <-> '{query}'")
    found = []
    for count in (3, 10, 30, 100, 300, 10_000):
        found += rows_of(items.execute(f"FETCH {count} FROM c").fetchall())
    assert complaint(found, matching, exact=recall == 1, ordered=recall == 1) is None
    assert counters(items)["rounds"] > 1
    assert counters(items)["rechecked_out"] > 0


def test_rows_that_pass_are_far_away(items: Connection, seed: int) -> None:
    """That none of the nearest rows passes does not mean that few do: not all of them are fetched."""
    items.execute(
        "CREATE TABLE line (id integer, e vector(2), other integer);"
        " INSERT INTO line SELECT i, ARRAY[i, 0]::vector, (i > 8000)::integer FROM generate_series(1, 20000) i;"
        " CREATE INDEX line_search ON line USING winnow (e) WITH (list_size = 64); ANALYZE line"
    )
    items.execute(INDEX_ONLY)
    found = items.execute("SELECT id FROM line WHERE other = 1 ORDER BY e <-> '[0,0]' LIMIT 10").fetchall()
    assert [row[0] for row in found] == list(range(8001, 8011))
    assert counters(items)["reranked"] < 12_000


@pytest.mark.parametrize("limit", [1, 10, 100, ROWS])
def test_few_rows_pass(items: Connection, seed: int, limit: int) -> None:
    """Whatever is asked for, the search knows at once that there is no more."""
    items.execute("UPDATE items SET other = 5000 WHERE id IN (17, 1800, 3999)")
    found = search(items, "other = 5000", seed, limit)
    assert found["rounds"] <= 2
    assert found["returned"] == min(limit, 3)


@pytest.mark.parametrize(
    "condition",
    [
        "other < 100 + random() * 0",
        "other IN (SELECT generate_series(0, 300)) OR other = -1",
        "is_slow(other)",
    ],
)
def test_what_is_volatile_or_slow_or_has_a_subplan_is_the_executors_alone(
    items: Connection, seed: int, condition: str
) -> None:
    found = search(items, condition, seed)
    assert found["rechecked_out"] == 0
    assert found["returned"] > LIMIT


def test_parameters_and_rescans(items: Connection, seed: int) -> None:
    """A condition's parameters are those of each rescan."""
    query = query_vector(seed)
    bounds = (900, 10, 100)
    items.execute(INDEX_ONLY)
    items.execute("SET winnow.recall = 1; SET plan_cache_mode = force_generic_plan")
    lateral = items.execute(
        "SELECT bound, id FROM (VALUES (900), (10), (100)) AS bounds(bound), LATERAL"
        f" (SELECT id FROM items WHERE other < bound ORDER BY e <-> '{query}' LIMIT 5) found"
    ).fetchall()
    assert counters(items)["searches"] == len(bounds)
    assert counters(items)["rechecked_out"] > 0
    items.execute(
        f"PREPARE below(integer) AS SELECT $1, id FROM items WHERE other < $1 ORDER BY e <-> '{query}' LIMIT 5"
    )
    prepared = [row for bound in bounds for row in items.execute(f"EXECUTE below({bound})").fetchall()]
    assert counters(items)["rechecked_out"] > 0
    expected = []
    for bound in bounds:
        every = matching_rows(items, f"SELECT id, e <-> '{query}' FROM items WHERE other < {bound}")
        nearest = sorted(every.values(), key=lambda row: row.distances)[:5]
        expected += [(bound, row.id) for row in nearest]
    assert lateral == expected
    assert prepared == expected


@pytest.mark.parametrize("list_size", [8, 32])
def test_refinement_codes_are_those_of_the_row(items: Connection, seed: int, list_size: int) -> None:
    """Also of rows that are left of a list in which none passed, when a search goes on from there."""
    items.execute(f"ALTER INDEX items_search SET (bits = 4, list_size = {list_size})")
    items.execute("REINDEX INDEX items_search")
    items.execute("SET winnow.recall = 0.9")  # at 1 all lists are read before a search goes on
    for turn in range(25):
        query = query_vector(seed + turn)
        full = f"SELECT id, e <-> '{query}' FROM items WHERE other < 600"
        matching = matching_rows(items, full)
        items.execute(INDEX_ONLY)
        items.execute(f"DECLARE c CURSOR FOR {full} ORDER BY e <-> '{query}'")
        found = rows_of(items.execute("FETCH 320 FROM c").fetchall())
        assert complaint(found, matching, limit=320, exact=False, ordered=False) is None
        assert counters(items)["refined"] > 0
        items.execute("CLOSE c")


def test_policies_come_first(items: Connection, seed: int) -> None:
    """A condition that tells what it sees sees no row that a policy hides."""
    items.execute(
        "DROP ROLE IF EXISTS winnow_told; CREATE ROLE winnow_told; GRANT SELECT ON items TO winnow_told;"
        " ALTER TABLE items ENABLE ROW LEVEL SECURITY;"
        " CREATE POLICY visible ON items TO winnow_told USING (other < 300)"
    )
    hidden = {row[0] for row in items.execute("SELECT id FROM items WHERE other >= 300").fetchall()}
    items.execute(INDEX_ONLY)
    seen: list[int] = []
    items.add_notice_handler(lambda notice: seen.append(int(notice.message_primary or "-1")))
    items.execute("SET ROLE winnow_told")
    rows = items.execute(
        f"SELECT id FROM items WHERE told(id) ORDER BY e <-> '{query_vector(seed)}' LIMIT {LIMIT}"
    ).fetchall()
    assert counters(items)["rechecked_out"] > 0
    assert len(rows) == LIMIT
    assert len(seen) >= LIMIT
    assert not hidden & set(seen)


@pytest.mark.parametrize("condition", ["n >= {}", "tags && '{{x{}}}'", "n >= {} OR a < 0"])
def test_counters_tell_nothing_of_hidden_rows(connection: Connection, condition: str) -> None:
    """What is not leakproof is not tested on rows that a policy hides: how many pass could be seen."""
    connection.execute(
        "CREATE TABLE pay (id integer, who text, a integer, n numeric, tags text[], e vector(3));"
        " INSERT INTO pay SELECT i, 'u' || i, i % 5, i, ARRAY['x' || i % 10],"
        " ARRAY[i % 7, i % 11, i % 13]::real[]::vector FROM generate_series(1, 500) i;"
        " CREATE INDEX ON pay USING winnow (e, who, a, n, tags); ANALYZE pay;"
        " DROP ROLE IF EXISTS winnow_nobody; CREATE ROLE winnow_nobody; GRANT SELECT ON pay TO winnow_nobody;"
        " ALTER TABLE pay ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON pay USING (who = current_user)"
    )
    connection.execute(INDEX_ONLY)
    connection.execute("SET ROLE winnow_nobody")
    seen = set()
    for value in (3, 400, 9999):
        search = f"SELECT id FROM pay WHERE {condition.format(value)} ORDER BY e <-> '[0,0,0]' LIMIT 5"
        assert connection.execute(search).fetchall() == []
        explained: Any = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {search}").fetchone()
        scan = explained[0][0]["Plan"]["Plans"][0]
        assert scan["Node Type"] == "Index Scan"
        seen.add((tuple(counters(connection).items()), scan.get("Rows Removed by Filter")))
    assert len(seen) == 1


def test_errors_leave_nothing_behind(items: Connection, seed: int) -> None:
    items.execute(INDEX_ONLY)
    items.commit()
    condition = "other < 500 OR 1 / (other / 2000) > 5"
    for _ in range(20):
        with pytest.raises(psycopg.errors.DivisionByZero):
            items.execute(f"SELECT id FROM items WHERE {condition} ORDER BY e <-> '{query_vector(seed)}' LIMIT 5")
        items.rollback()
    search(items, "other < 100", seed)


def test_explain_counts_the_rows_removed(items: Connection, seed: int) -> None:
    items.execute(INDEX_ONLY)
    row: Any = items.execute(
        "EXPLAIN (ANALYZE, FORMAT json)"
        f" SELECT id FROM items WHERE other < 300 ORDER BY e <-> '{query_vector(seed)}' LIMIT {LIMIT}"
    ).fetchone()
    scan = row[0][0]["Plan"]["Plans"][0]
    assert scan["Node Type"] == "Index Scan"
    assert scan["Rows Removed by Filter"] == counters(items)["rechecked_out"] > 0


def test_an_index_scan_is_the_better_guess(connection: Connection) -> None:
    """Without statistics a search is preferred, which takes about as long whatever passes; with them it depends."""
    connection.execute("CREATE TABLE guesses (e vector(3), a integer) WITH (autovacuum_enabled = off)")
    connection.execute("CREATE INDEX guesses_search ON guesses USING winnow (e, a)")
    connection.execute(
        "INSERT INTO guesses SELECT ARRAY[i % 97, i % 89, i % 83]::vector, i FROM generate_series(1, 20000) i"
    )
    connection.execute("CREATE INDEX guesses_a ON guesses (a)")

    def index(condition: str, limit: int = 10) -> str:
        plan: Any = connection.execute(
            f"EXPLAIN (FORMAT json) SELECT a FROM guesses WHERE {condition} ORDER BY e <-> '[1,2,3]' LIMIT {limit}"
        ).fetchone()
        text = json.dumps(plan[0])
        return "guesses_search" if "guesses_search" in text else "guesses_a" if "guesses_a" in text else text

    conditions = ("a = 5", "a BETWEEN 5 AND 6", "a < 3", "a < 19000")
    assert [index(condition) for condition in conditions] == ["guesses_search"] * 4
    # More than the planner guesses that there are: it expects to need all of them.
    assert [index(condition, 1000) for condition in conditions] == ["guesses_search"] * 4
    connection.execute("ANALYZE guesses")
    assert [index(condition) for condition in conditions] == ["guesses_a"] * 3 + ["guesses_search"]
