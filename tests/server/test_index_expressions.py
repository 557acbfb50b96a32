"""Expressions of an index are its owner's code: who runs them, and when."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from cluster import VERSION
from server.oracle import INDEX_ONLY, Connection, column

SECRETS = 60


@pytest.fixture
def reader(connection: Connection, dsn: str) -> Iterator[tuple[Connection, list[str]]]:
    """Somebody whose own length() comes first in his search path, and what that is shown.

    The table t has an index on embed(body), which calls length(), and SECRETS rows, of which he may see one in ten.
    """
    connection.execute(
        "CREATE FUNCTION embed(body text) RETURNS vector(2) IMMUTABLE LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE DEBUG '% %', current_user, current_setting('search_path');"
        " RETURN ARRAY[length(body), ascii(body)]::real[]::public.vector; END $$;"
        " CREATE TABLE t (body text, who integer);"
        f" INSERT INTO t SELECT repeat('x', i) || ' secret', i % 10 FROM generate_series(1, {SECRETS}) i;"
        " CREATE INDEX t_index ON t USING winnow ((embed(body)::vector(2)) vector_l2_ops) WITH (list_size = 8);"
        " CREATE TABLE seen AS SELECT 1 AS who;"
        " CREATE ROLE reader LOGIN; GRANT SELECT, INSERT ON t, seen TO reader; GRANT USAGE ON SCHEMA public TO reader;"
        " CREATE SCHEMA own AUTHORIZATION reader;"
        " ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY added ON t FOR INSERT WITH CHECK (true); ANALYZE t"
    )
    connection.commit()
    shown: list[str] = []
    try:
        with psycopg.connect(f"{dsn} options='-c role=reader'", autocommit=True) as other:
            other.execute(
                "CREATE FUNCTION own.length(body text) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE NOTICE '%', body; RETURN pg_catalog.length(body); END $$"
            )
            other.execute("SET search_path = own, public, pg_catalog")
            other.add_notice_handler(lambda diag: shown.append(diag.message_primary or ""))
            yield other, shown
    finally:
        connection.rollback()
        connection.execute("DROP TABLE t, seen; DROP FUNCTION embed; DROP OWNED BY reader; DROP ROLE reader")
        connection.commit()


@pytest.mark.parametrize("policy", ["who = 1", "who IN (SELECT who FROM seen)"])
def test_a_search_evaluates_no_hidden_row(
    connection: Connection, reader: tuple[Connection, list[str]], policy: str
) -> None:
    connection.execute(f"CREATE POLICY visible ON t FOR SELECT USING ({policy})")
    connection.commit()
    other, shown = reader
    other.execute(INDEX_ONLY)
    found = column(other, "SELECT body FROM t ORDER BY embed(body)::vector(2) <-> '[20,120]' LIMIT 3")
    assert len(found) == 3
    assert set(shown) <= {"x" * i + " secret" for i in range(1, SECRETS, 10)}


def test_an_insert_that_splits_shows_no_row(connection: Connection, reader: tuple[Connection, list[str]]) -> None:
    """From PostgreSQL 17 on the expression is run as the owner would, before that the list is left as it is."""
    other, shown = reader
    runs: list[str] = []
    other.add_notice_handler(lambda diag: runs.append(diag.message_primary or "") if diag.severity == "DEBUG" else None)
    other.execute("SET client_min_messages = debug1")
    lists = "SELECT lists FROM winnow_index_info('t_index')"
    before = column(connection, lists)
    for number in range(30):
        other.execute("INSERT INTO t VALUES (%s, 1)", [f"mine {number}"])
    assert not [body for body in shown if "secret" in body]
    assert (column(connection, lists) != before) == (VERSION >= 17)
    by_others = [run for run in runs if not run.startswith("reader ")]
    assert bool(by_others) == (VERSION >= 17)
    assert all(run.endswith(" pg_catalog, pg_temp") for run in by_others)
    # the owner's rows, and vacuum, split and regroup as ever
    connection.execute("INSERT INTO t SELECT 'mine too', 1 FROM generate_series(1, 30)")
    assert column(connection, lists) != before
    connection.execute("SELECT winnow_check('t_index', true)")


def test_a_check_gives_nobody_the_owners_rights(connection: Connection, reader: tuple[Connection, list[str]]) -> None:
    connection.execute("GRANT EXECUTE ON FUNCTION winnow_check TO reader")
    connection.commit()
    other, shown = reader
    check = "SELECT winnow_check('t_index', true)"
    if VERSION < 17:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="t_index"):
            other.execute(check)
        connection.execute("ALTER FUNCTION embed SET search_path = pg_catalog, pg_temp")
        connection.commit()
    other.execute(check)
    assert shown == []


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
