"""Prepared transactions: rows of theirs are in the index before anybody knows whether they will ever be there."""

from __future__ import annotations

import psycopg

from cluster import temporary_server
from server.load import NEAREST, create_table, fill
from server.oracle import Connection, check_exact, check_indexes


def prepare(connection: Connection, name: str, first: int, changed: str) -> None:
    """Insert 150 rows from ``first``, change and delete others, and prepare the transaction.

    :param changed: condition on the rows that it updates and, with ids above 100, deletes
    """
    connection.execute("BEGIN")
    fill(connection, 150, first=first)
    connection.execute(f"DELETE FROM items WHERE {changed} AND id BETWEEN 101 AND 200")
    connection.execute(f"UPDATE items SET e = e + e WHERE {changed} AND id <= 100")
    connection.execute(f"PREPARE TRANSACTION '{name}'")


def check(connection: Connection, ids: set[int]) -> None:
    check_indexes(connection)
    check_exact(connection, NEAREST, "items", ids=ids)


def test_prepared_transactions_survive_a_crash() -> None:
    with temporary_server(wal_consistency_checking="all") as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            create_table(connection)
            fill(connection, 201)
            ids = set(range(201))
            check(connection, ids)
            prepare(connection, "kept", 1000, "id % 5 = 0")
            prepare(connection, "dropped", 2000, "id % 5 = 1")
            prepare(connection, "late", 3000, "id % 5 = 2")
            check(connection, ids)
            # Vacuum must not take any of these rows for dead; lists with rows in doubt are split and merged.
            connection.execute("DELETE FROM items WHERE id % 5 = 3")
            ids -= {number for number in ids if number % 5 == 3}
            connection.execute("VACUUM (INDEX_CLEANUP ON) items")
            fill(connection, 100, first=500)
            ids |= set(range(500, 600))
            check(connection, ids)
        server.kill()
        server.start()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            check(connection, ids)
            connection.execute("VACUUM (INDEX_CLEANUP ON) items")
            check(connection, ids)
            connection.execute("COMMIT PREPARED 'kept'")
            ids -= {number for number in range(101, 201) if number % 5 == 0}
            ids |= set(range(1000, 1150))
            check(connection, ids)
            connection.execute("ROLLBACK PREPARED 'dropped'")
            check(connection, ids)
            connection.execute("VACUUM (INDEX_CLEANUP ON) items")
            check(connection, ids)
        server.kill()
        server.start()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            check(connection, ids)
            connection.execute("ROLLBACK PREPARED 'late'")
            connection.execute("VACUUM (INDEX_CLEANUP ON) items")
            fill(connection, 100, first=4000)
            check(connection, ids | set(range(4000, 4100)))
