"""A streaming standby: it answers as the primary does, page by page it is the primary, and it can take over."""

from __future__ import annotations

from pathlib import Path
from random import Random

import psycopg
import pytest

from cluster import base_backup, copied_server, temporary_server
from patience import eventually
from pgwinnow.server import Server
from server.load import NEAREST, Load, Reader, Repeater, create_table, fill, writers
from server.oracle import check_exact, check_indexes

BLOCK = 8192
STANDBY = {
    # Replay waits for queries, and vacuum for queries on the standby.
    "max_standby_streaming_delay": "-1",
    "hot_standby_feedback": "on",
    "wal_receiver_status_interval": "1",
}


def test_standby(seed: int) -> None:
    rng = Random(f"{seed}-standby")
    with temporary_server(wal_consistency_checking="all") as primary:
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            create_table(connection)
            fill(connection, 500)
        with make_standby(primary) as standby:
            crowd = writers(primary.dsn(), rng, 2)
            workers = [
                *crowd,
                Repeater(primary.dsn(), sql="VACUUM (INDEX_CLEANUP ON) items", pause=0.1),
                Reader(standby.dsn(), rng=Random(rng.getrandbits(64))),
            ]
            with Load(workers) as load:
                load.wait_for(250)
            assert all(worker.runs > 0 for worker in workers)
            with psycopg.connect(primary.dsn(), autocommit=True) as connection:
                # A build of another kind, and what is not in the WAL
                connection.execute("REINDEX INDEX CONCURRENTLY items_index")
                connection.execute("CREATE UNLOGGED TABLE volatile (id integer, e vector(2))")
                connection.execute("CREATE INDEX ON volatile USING winnow (e vector_l2_ops)")
                connection.execute("INSERT INTO volatile VALUES (1, '[1,2]')")
                crowd = writers(primary.dsn(), Random(f"{seed}-more"), 1)
                crowd[0].next_id = 90_000_000
                with Load(crowd) as load:
                    load.wait_for(50)
                connection.execute("VACUUM (INDEX_CLEANUP ON) items")
                check_exact(connection, NEAREST, "items")
            compare_files(primary, standby)
            take_over(primary, standby)


def make_standby(primary: Server, **settings: str) -> Server:
    """A standby of a running server, to be used as a context manager."""
    return copied_server(base_backup(primary, "standby", "--write-recovery-conf"), **{**STANDBY, **settings})


def caught_up(primary: Server, standby: Server) -> None:
    """Wait until the standby has replayed all that the primary has written."""
    with psycopg.connect(primary.dsn()) as connection:
        end = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    assert end is not None
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        eventually(
            f"the standby gets to {end[0]}, see {standby.log_path}",
            lambda: connection.execute(replayed, end).fetchone() == (True,),
        )


def compare_files(primary: Server, standby: Server) -> None:
    """Compare the index's file on both, leaving out what may differ."""
    path = None
    for server in (primary, standby):
        caught_up(primary, standby)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            path = connection.execute("SELECT pg_relation_filepath('items_index')").fetchone()
            # On the standby this flushes what the primary's checkpoint covers, which is everything.
            connection.execute("CHECKPOINT")
    assert path is not None
    blocks = [masked_blocks(server.data_dir / str(path[0])) for server in (primary, standby)]
    assert len(blocks[0]) == len(blocks[1]) > 50
    different = [number for number, pair in enumerate(zip(*blocks, strict=True)) if pair[0] != pair[1]]
    assert not different, f"blocks {different} of {path[0]} differ"


def masked_blocks(path: Path) -> list[bytes]:
    """Pages of a relation without LSN, checksum and the hole between pd_lower and pd_upper."""
    content = path.read_bytes()
    blocks = []
    for start in range(0, len(content), BLOCK):
        page = bytearray(content[start : start + BLOCK])
        lower = int.from_bytes(page[12:14], "little")
        upper = int.from_bytes(page[14:16], "little")
        page[:10] = bytes(10)
        page[lower:upper] = bytes(upper - lower)
        blocks.append(bytes(page))
    return blocks


def take_over(primary: Server, standby: Server) -> None:
    """The standby answers alone, and takes new rows."""
    with psycopg.connect(primary.dsn()) as connection:
        ids = {int(str(record[0])) for record in connection.execute("SELECT id FROM items").fetchall()}
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        check_exact(connection, NEAREST, "items", ids=ids)
        check_indexes(connection, "items_index")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="unlogged index"):
            check_indexes(connection, "volatile_e_idx")
    primary.kill()
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
        connection.execute("UPDATE items SET id = id + 100000000")
        fill(connection, 300)
        connection.execute("VACUUM (INDEX_CLEANUP ON) items")
        check_exact(connection, NEAREST, "items", ids={number + 100000000 for number in ids} | set(range(300)))
        # Unlogged tables are empty after a promotion.
        connection.execute("INSERT INTO volatile VALUES (2, '[3,4]')")
        check_exact(connection, "e <-> '[0,0]'", "volatile", ids={2})
        check_indexes(connection)
