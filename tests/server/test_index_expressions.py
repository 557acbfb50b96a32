"""Expressions of an index are its owner's code: who runs them, and when."""

from __future__ import annotations

import psycopg
import pytest

from cluster import VERSION
from server.oracle import INDEX_ONLY, Connection


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
