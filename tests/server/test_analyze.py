"""CREATE INDEX collects statistics of a table that has none, and of no other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest

from server.oracle import Connection, check_indexes

ROWS = 3000
CREATE = "CREATE INDEX {} items_search ON items USING winnow (e, a, lower(s))"


@pytest.fixture
def items(connection: Connection) -> Connection:
    """A table that autovacuum leaves alone: ``a`` is below 100 in a tenth of the rows, ``b`` is not in the index."""
    connection.autocommit = True
    connection.execute("CREATE TABLE items (e vector(3), a integer, b integer, s text) WITH (autovacuum_enabled = off)")
    return connection


def fill(items: Connection, first: int = 1, last: int = ROWS) -> None:
    items.execute(
        "INSERT INTO items SELECT ARRAY[i % 97, i % 89, i % 83]::vector, i % 1000, i % 2, 'S' || i % 5"
        f" FROM generate_series({first}, {last}) AS i"
    )


def columns_seen(items: Connection, table: str = "items") -> set[str]:
    """Columns, of the table and of the index's expressions, that have statistics."""
    records = items.execute("SELECT attname FROM pg_stats WHERE tablename IN (%s, 'items_search')", [table]).fetchall()
    return {str(record[0]) for record in records}


def rows_expected(items: Connection, condition: str) -> float:
    """What the planner believes."""
    record = items.execute(f"EXPLAIN (FORMAT json) SELECT FROM items WHERE {condition}").fetchone()
    assert record is not None
    return float(record[0][0]["Plan"]["Plan Rows"])  # type: ignore[index]


@pytest.mark.parametrize("how", ["", "CONCURRENTLY"])
def test_first_index_of_a_table(items: Connection, how: str) -> None:
    fill(items)
    assert rows_expected(items, "b = 1") < ROWS / 10
    items.execute(CREATE.format(how))
    assert columns_seen(items) >= {"e", "a", "b", "s"}
    assert rows_expected(items, "b = 1") == pytest.approx(ROWS / 2, rel=0.1)
    assert rows_expected(items, "a < 100") == pytest.approx(ROWS / 10, rel=0.1)
    check_indexes(items)


def test_nothing_but_columns(items: Connection) -> None:
    """Expressions that are no part of the index are not evaluated: they may fail where it is made."""
    function = "CREATE OR REPLACE FUNCTION f(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN {}; END'"
    items.execute(function.format("RETURN $1"))
    items.execute("CREATE INDEX ON items (f(b))")
    fill(items)
    items.execute(function.format("RAISE EXCEPTION ''not now''"))
    items.execute(CREATE.format(""))
    assert columns_seen(items) == {"e", "a", "b", "s"}


def test_extended_statistics(items: Connection) -> None:
    fill(items)
    items.execute("CREATE STATISTICS ratios ON (1 / (a - 5)), s FROM items")
    items.execute(CREATE.format(""))
    assert columns_seen(items) == set()


def test_children(items: Connection, dsn: str) -> None:
    """What others do with a table that inherits from this one does not matter."""
    fill(items)
    items.execute("CREATE TABLE child () INHERITS (items)")
    items.execute("SET lock_timeout = '1s'")
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE child IN ACCESS EXCLUSIVE MODE")
        items.execute(CREATE.format(""))
    assert columns_seen(items) == set()


def test_what_is_known_stays(items: Connection) -> None:
    fill(items, last=10)
    items.execute("ANALYZE items (a)")
    before = items.execute("SELECT * FROM pg_stats WHERE tablename = 'items'").fetchall()
    fill(items, first=11)
    items.execute(CREATE.format(""))
    assert items.execute("SELECT * FROM pg_stats WHERE tablename = 'items'").fetchall() == before


def test_nothing_is_known_of_no_rows(items: Connection) -> None:
    items.execute(CREATE.format(""))
    fill(items)
    assert columns_seen(items) == set()


@pytest.mark.parametrize(
    "rewrite",
    [
        "REINDEX INDEX items_search",
        "REINDEX TABLE items",
        "VACUUM FULL items",
        "CLUSTER items USING items_a",
        "REINDEX TABLE CONCURRENTLY items",
        "ALTER TABLE items ALTER a TYPE bigint",
        "TRUNCATE items",
    ],
)
def test_indexes_made_anew(items: Connection, rewrite: str) -> None:
    """While the indexes of a table are out of use there is no ANALYZE; afterwards all is as it should be."""
    items.execute(CREATE.format("") + "; CREATE INDEX items_a ON items (a)")
    fill(items)
    items.execute(rewrite)
    known = "CONCURRENTLY" in rewrite
    assert (columns_seen(items) >= {"e", "a", "b", "s"}) == known
    check_indexes(items)


def test_nobody_is_waited_for(items: Connection, dsn: str) -> None:
    """Others that make an index of the same table hold this lock."""
    fill(items)
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE items IN SHARE MODE")
        items.execute("SET lock_timeout = '1s'")
        items.execute(CREATE.format(""))
        assert columns_seen(items) == set()
    items.execute("DROP INDEX items_search")
    items.execute(CREATE.format(""))
    assert columns_seen(items) != set()


@pytest.mark.parametrize("savepoint", [False, True])
def test_inside_a_transaction(items: Connection, dsn: str, savepoint: bool) -> None:
    """Others may make indexes of the same table before it ends: two that do so crosswise would be a deadlock."""
    fill(items)
    with items.transaction(), contextlib.ExitStack() as stack:
        if savepoint:
            stack.enter_context(items.transaction())
        items.execute(CREATE.format(""))
        assert columns_seen(items) != set()
        with psycopg.connect(dsn) as other:
            other.execute("SET lock_timeout = '1s'; CREATE INDEX ON items (a)")
    check_indexes(items)


def test_inside_a_function(items: Connection, dsn: str) -> None:
    fill(items)
    with items.transaction():
        items.execute("DO $$ BEGIN " + CREATE.format("") + "; END $$")
        assert columns_seen(items) != set()
        with psycopg.connect(dsn) as other:
            other.execute("SET lock_timeout = '1s'; CREATE INDEX ON items (a)")
    check_indexes(items)


def test_table_of_the_same_transaction(items: Connection) -> None:
    items.execute("DROP TABLE items")
    with items.transaction():
        items.execute("CREATE TABLE items (e vector(3), a integer, b integer, s text)")
        fill(items)
        items.execute(CREATE.format(""))
        assert rows_expected(items, "b = 1") == pytest.approx(ROWS / 2, rel=0.1)
    check_indexes(items)


def test_autovacuum_still_comes(items: Connection) -> None:
    """Its ANALYZE sees more, and the transaction may be rolled back when this one is long over."""
    fill(items)
    items.execute(CREATE.format(""))
    items.execute("SELECT pg_stat_force_next_flush()")
    changed = items.execute("SELECT n_mod_since_analyze FROM pg_stat_user_tables WHERE relname = 'items'").fetchone()
    assert changed == (ROWS,)


@pytest.mark.parametrize("kind", ["TEMPORARY TABLE", "UNLOGGED TABLE", "MATERIALIZED VIEW"])
def test_kinds_of_tables(items: Connection, kind: str) -> None:
    fill(items)
    items.execute(f"CREATE {kind} copies AS SELECT * FROM items")
    items.execute("CREATE INDEX ON copies USING winnow (e, a)")
    assert columns_seen(items, "copies") == {"e", "a", "b", "s"}


def test_partitions(items: Connection) -> None:
    items.execute(
        "CREATE TABLE parts (e vector(3), a integer, b integer, s text) PARTITION BY RANGE (a);"
        " CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (500);"
        " CREATE TABLE high PARTITION OF parts FOR VALUES FROM (500) TO (1000);"
        " ALTER TABLE low SET (autovacuum_enabled = off); ALTER TABLE high SET (autovacuum_enabled = off)"
    )
    fill(items)
    items.execute("INSERT INTO parts SELECT * FROM items")
    items.execute("CREATE INDEX ON parts USING winnow (e, a)")
    assert columns_seen(items, "low") == columns_seen(items, "high") == {"e", "a", "b", "s"}


@pytest.fixture
def owner(items: Connection) -> Iterator[str]:
    items.execute("CREATE ROLE owner; ALTER TABLE items OWNER TO owner; GRANT CREATE, USAGE ON SCHEMA public TO owner")
    yield "owner"
    items.execute("RESET ROLE; DROP TABLE items; REVOKE ALL ON SCHEMA public FROM owner; DROP ROLE owner")


@pytest.mark.parametrize("who", ["owner", "superuser"])
def test_owner_and_policies(items: Connection, owner: str, who: str) -> None:
    """It is the owner's privileges that count, and all rows, whoever may see which."""
    fill(items)
    items.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY; ALTER TABLE items FORCE ROW LEVEL SECURITY")
    if who == "owner":
        items.execute(f"SET ROLE {owner}")
    items.execute(CREATE.format(""))
    items.execute("RESET ROLE")
    assert rows_expected(items, "b = 1") == pytest.approx(ROWS / 2, rel=0.1)


def test_owner_who_may_not_analyze(items: Connection, owner: str) -> None:
    if items.info.server_version < 170000:
        pytest.skip("an owner always may")
    fill(items)
    items.execute(f"REVOKE ALL ON items FROM {owner}")
    warnings: list[str | None] = []
    items.add_notice_handler(lambda diagnostic: warnings.append(diagnostic.message_primary))
    items.execute(CREATE.format(""))
    assert columns_seen(items) == set()
    assert not warnings
