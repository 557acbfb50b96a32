"""Statements that write the index anew or move it, a crash after them, and work after that.

With ``wal_level = minimal`` most of them write no WAL: at the commit, files are logged as a whole or, from
``wal_skip_threshold`` on, flushed.
"""

from __future__ import annotations

from random import Random

import psycopg
import pytest

from cluster import temporary_server
from pgwinnow.server import Server
from server.load import DIMS, NEAREST, create_table, fill
from server.oracle import Connection, check_exact, check_indexes

WAL_SETTINGS = {
    "replica": {"wal_consistency_checking": "all"},
    "minimal": {"wal_level": "minimal", "max_wal_senders": "0"},
}

REWRITES = (
    "",
    "REINDEX INDEX items_index",
    "REINDEX INDEX CONCURRENTLY items_index",
    "REINDEX (TABLESPACE elsewhere) INDEX items_index",
    "REINDEX TABLE items",
    "ALTER TABLE items SET (parallel_workers = 2); REINDEX INDEX items_index",
    "VACUUM FULL items",
    "CLUSTER items USING items_id",
    "ALTER INDEX items_index SET TABLESPACE elsewhere",
    "ALTER TABLE items SET TABLESPACE elsewhere",
    "ALTER TABLE items SET UNLOGGED; ALTER TABLE items SET LOGGED",
    "ALTER TABLE items ALTER bucket TYPE bigint",
    f"ALTER TABLE items ALTER e TYPE vector({DIMS}) USING e + e",
    "ALTER TABLE items ADD COLUMN more double precision DEFAULT random()",
    "CREATE TABLE copy (LIKE items INCLUDING ALL); INSERT INTO copy SELECT * FROM items;"
    " DROP TABLE items; ALTER TABLE copy RENAME TO items",
    "CREATE TABLE kept AS TABLE items; TRUNCATE items; INSERT INTO items TABLE kept",
    "BEGIN; CREATE TABLE kept AS TABLE items; SAVEPOINT s; TRUNCATE items; INSERT INTO items TABLE kept;"
    " ROLLBACK TO s; DELETE FROM items WHERE id % 2 = 0; INSERT INTO items SELECT * FROM kept WHERE id % 2 = 0; COMMIT",
    "ALTER INDEX items_index SET (list_size = 12); REINDEX INDEX items_index; UPDATE items SET bucket = bucket + 1",
)


def enter(connection: Connection, number: int) -> None:
    """Use the schema of a case."""
    connection.execute(f"SET search_path = rewrite_{number}, public")


def create_filled(connection: Connection) -> None:
    """Make the table and its index and fill them, in one transaction with a subtransaction that fails."""
    connection.execute("BEGIN")
    create_table(connection)
    fill(connection, 100)
    connection.execute("SAVEPOINT s")
    fill(connection, 50, first=500)
    connection.execute("DELETE FROM items WHERE id % 2 = 0")
    connection.execute("ROLLBACK TO s")
    fill(connection, 30, first=100)
    connection.execute("COMMIT")
    fill(connection, 20, first=130)


def check(connection: Connection, ids: set[int]) -> None:
    for (name,) in connection.execute(
        "SELECT i.relname FROM pg_class i JOIN pg_am a ON a.oid = i.relam"
        " WHERE a.amname = 'winnow' AND i.relnamespace = current_schema()::regnamespace"
    ).fetchall():
        check_indexes(connection, str(name))
    check_exact(connection, NEAREST, "items", ids=ids)


def change(connection: Connection, ids: set[int]) -> set[int]:
    """Rows go and come; returns the ids then."""
    connection.execute("DELETE FROM items WHERE id % 4 = 1")
    connection.execute("VACUUM (INDEX_CLEANUP ON) items")
    # Columns that a rewrite has added come last.
    first = max(ids) + 1
    connection.execute("INSERT INTO items (id, bucket, label, e) SELECT id + %s, 7, label, e + e FROM items", [first])
    kept = {number for number in ids if number % 4 != 1}
    return kept | {number + first for number in kept}


@pytest.mark.parametrize("wal", WAL_SETTINGS)
def test_rewrites(wal: str, seed: int) -> None:
    rng = Random(f"{seed}-rewrites")
    with temporary_server(allow_in_place_tablespaces="on", **WAL_SETTINGS[wal]) as server:
        ids = {number: set(range(150)) for number in range(len(REWRITES))}
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            connection.execute("CREATE TABLESPACE elsewhere LOCATION ''")
            for number, rewrite in enumerate(REWRITES):
                connection.execute(f"CREATE SCHEMA rewrite_{number}")
                enter(connection, number)
                connection.execute(f"SET wal_skip_threshold = '{rng.choice(['0', '1GB'])}'")
                create_filled(connection)
                # A string of several statements is one transaction.
                connection.execute(rewrite)
                check(connection, ids[number])
                # Some crash right after the rewrite.
                if rng.random() < 0.5:
                    ids[number] = change(connection, ids[number])
        crash(server)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            for number in ids:
                enter(connection, number)
                check(connection, ids[number])
                ids[number] = change(connection, ids[number])
                check(connection, ids[number])


def test_database_copied_and_moved() -> None:
    with temporary_server(allow_in_place_tablespaces="on", wal_consistency_checking="all") as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE original")
            connection.execute("CREATE TABLESPACE elsewhere LOCATION ''")
        with psycopg.connect(server.dsn("original"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            create_filled(connection)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE logged TEMPLATE original STRATEGY wal_log")
            connection.execute("CREATE DATABASE copied TEMPLATE original STRATEGY file_copy")
            connection.execute("ALTER DATABASE original SET TABLESPACE elsewhere")
        ids = {}
        for name in ("original", "logged", "copied"):
            with psycopg.connect(server.dsn(name), autocommit=True) as connection:
                check(connection, set(range(150)))
                ids[name] = change(connection, set(range(150)))
        crash(server)
        for name in ids:
            with psycopg.connect(server.dsn(name), autocommit=True) as connection:
                check(connection, ids[name])


def crash(server: Server) -> None:
    server.kill()
    server.start()
