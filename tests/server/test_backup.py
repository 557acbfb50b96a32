"""Base backups, taken while the tables change, start as servers of their own."""

from __future__ import annotations

from pathlib import Path
from random import Random

import psycopg
import pytest

from cluster import VERSION, base_backup, copied_server, temporary_server
from server.load import NEAREST, Load, Repeater, create_table, fill, writers
from server.oracle import check_exact, check_indexes

KEPT = range(300)
"""Ids of the rows that no writer touches."""


def assert_independent(data_dir: Path) -> None:
    """The backup starts as a server, the index agrees with the table, and both can go on."""
    server = copied_server(data_dir, wal_consistency_checking="all")
    with server, psycopg.connect(server.dsn(), autocommit=True) as connection:
        check_indexes(connection)
        check_exact(connection, NEAREST, "items")
        kept = connection.execute("SELECT count(*) FROM items WHERE id < %s", [KEPT.stop]).fetchone()
        assert kept == (len(KEPT),)
        connection.execute("DELETE FROM items WHERE id % 3 = 0")
        fill(connection, 200, first=-1000)
        connection.execute("VACUUM (INDEX_CLEANUP ON) items")
        fill(connection, 200, first=-500)
        check_indexes(connection)
        check_exact(connection, NEAREST, "items")


def test_base_backup_under_load(seed: int) -> None:
    rng = Random(f"{seed}-backup")
    with temporary_server(max_wal_size="100MB") as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            create_table(connection)
            fill(connection, len(KEPT))
        crowd = writers(server.dsn(), rng, 2)
        vacuum = Repeater(server.dsn(), sql="VACUUM (INDEX_CLEANUP ON) items", pause=0.02)
        with Load([*crowd, vacuum]) as load:
            load.wait_for(50)
            before = sum(writer.runs for writer in crowd)
            data_dir = base_backup(server, "backup")
            assert sum(writer.runs for writer in crowd) > before, "nothing was written during the backup"
        assert_independent(data_dir)


@pytest.mark.skipif(VERSION < 17, reason="PostgreSQL has incremental backups since 17")
def test_incremental_backup(seed: int) -> None:
    """Which blocks have changed is known from the WAL."""
    rng = Random(f"{seed}-incremental")
    with temporary_server(summarize_wal="on") as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            create_table(connection)
            fill(connection, len(KEPT))
        full = base_backup(server, "full")
        crowd = writers(server.dsn(), rng, 1)
        with Load([*crowd, Repeater(server.dsn(), sql="VACUUM (INDEX_CLEANUP ON) items", pause=0.02)]) as load:
            load.wait_for(50)
        increment = base_backup(server, "increment", f"--incremental={full / 'backup_manifest'}")
        combined = server.data_dir.parent / "combined"
        server.run("pg_combinebackup", "--no-sync", f"--output={combined}", full, increment)
        assert_independent(combined)
