"""Crashes: SIGKILL in the midst of mixed load, then recovery.

Recovery runs with ``wal_consistency_checking = all``: every page it restores is compared with the page the primary had.
``WINNOW_CRASH_ROUNDS`` (default 20) sets how often the server is killed.
"""

from __future__ import annotations

import os
from random import Random

import psycopg

from cluster import temporary_server
from pgwinnow.server import Server
from server.load import NEAREST, Load, Repeater, Worker, Writer, create_table, fill, writers
from server.oracle import Connection, check_exact, check_indexes

ROUNDS = int(os.environ.get("WINNOW_CRASH_ROUNDS", "20"))

REBUILD = (
    "DROP INDEX IF EXISTS items_other;"
    " CREATE INDEX items_other ON items USING winnow (e vector_l2_ops, label) WITH (list_size = 16, bits = 4)"
)
DISTURBANCES = (
    ("VACUUM (INDEX_CLEANUP ON) items",),
    ("VACUUM (INDEX_CLEANUP ON) items", "VACUUM (INDEX_CLEANUP ON) items"),
    ("VACUUM (INDEX_CLEANUP ON) items", REBUILD),
    ("VACUUM (INDEX_CLEANUP ON) items", "CHECKPOINT"),
    ("VACUUM (INDEX_CLEANUP ON) items", "REINDEX INDEX items_index"),
    ("CHECKPOINT",),
)


def test_committed_rows_survive_kill(seed: int) -> None:
    rng = Random(f"{seed}-crash")
    with temporary_server(wal_consistency_checking="all", max_wal_size="200MB") as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            create_table(connection)
        crowd = writers(server.dsn(), rng, 3)
        for number in range(ROUNDS):
            disturb(server, rng, crowd)
            server.start()
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                settle(connection, crowd)
                check_exact(connection, NEAREST, "items", ids=set().union(*(writer.committed for writer in crowd)))
                check_indexes(connection)
                if number % 3 == 2:
                    connection.execute("VACUUM (INDEX_CLEANUP ON) items")
                    check_exact(connection, NEAREST, "items")
            crowd = [
                Writer(server.dsn(), rng=writer.rng, next_id=writer.next_id, committed=writer.committed)
                for writer in crowd
            ]


def disturb(server: Server, rng: Random, crowd: list[Writer]) -> None:
    """Let the writers work, and kill the server under them."""
    workers: list[Worker] = [*crowd]
    for sql in rng.choice(DISTURBANCES):
        workers.append(Repeater(server.dsn(), sql=sql, pause=0.05))
    with Load(workers) as load:
        load.wait_for(rng.randint(20, 150))
        assert not any(worker.failure for worker in workers)
        load.killed = True
        server.kill()


def settle(connection: Connection, crowd: list[Writer]) -> None:
    """Find out which of the writers' last transactions were committed."""
    for writer in crowd:
        if not writer.added and not writer.removed:
            continue
        ids = sorted(writer.added | writer.removed)
        records = connection.execute("SELECT id FROM items WHERE id = ANY (%s)", [ids]).fetchall()
        found = {int(str(record[0])) for record in records}
        after = (writer.committed | writer.added) - writer.removed
        if found == after & set(ids):
            writer.committed = after
        writer.next_id = max(writer.next_id, ids[-1] + 1)


def test_unlogged_index_is_reset() -> None:
    with temporary_server(wal_consistency_checking="all") as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            create_table(connection, kind="UNLOGGED")
            fill(connection, 200)
            check_exact(connection, NEAREST, "items", ids=set(range(200)))
        server.kill()
        server.start()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            check_exact(connection, NEAREST, "items", ids=set())
            check_indexes(connection)
            fill(connection, 200)
            check_exact(connection, NEAREST, "items", ids=set(range(200)))
            check_indexes(connection)
            connection.execute("ALTER TABLE items SET LOGGED")
        server.kill()
        server.start()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            check_exact(connection, NEAREST, "items", ids=set(range(200)))
            check_indexes(connection)
