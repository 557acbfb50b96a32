"""pg_upgrade: indexes of the older server work on the newer one as they are, whatever way the files went."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import psycopg
import pytest

from cluster import SETTINGS, VERSION, temporary_server
from pgwinnow._server import account
from pgwinnow.server import Server
from server.lifecycle import World
from server.oracle import Connection
from server.test_standby import caught_up, make_standby

OLDER = 16
PAGE = 8192
# extension/src/winnow.h: WinnowPageOpaque, at the end of a page
BORN = 8176

pytestmark = pytest.mark.skipif(VERSION != 18, reason=f"pg_upgrade is tested from {OLDER} to 18")


def older_server() -> Server:
    return Server.temporary(version=OLDER, settings=SETTINGS, assertions=True)


def connect(server: Server) -> Connection:
    return psycopg.connect(server.dsn(), autocommit=True)


def upgrade(old: Server, new: Server, mode: str) -> None:
    """Run pg_upgrade; both servers are stopped."""
    folder = new.data_dir.parent
    done = subprocess.run(
        [
            new.bin_dir / "pg_upgrade",
            f"--old-bindir={old.bin_dir}",
            f"--new-bindir={new.bin_dir}",
            f"--old-datadir={old.data_dir}",
            f"--new-datadir={new.data_dir}",
            f"--username={new.user}",
            f"--socketdir={folder}",
            f"--{mode}",
            "--no-sync",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # It leaves a script there.
        cwd=folder,
        env=account.environment(),
        check=False,
        **account.process_options(account.server_account(new.data_dir)),
    )
    assert done.returncode == 0, done.stdout + "".join(
        path.read_text(errors="replace")[-2000:] for path in (new.data_dir / "pg_upgrade_output.d").rglob("*.log")
    )


def index_files(server: Server, connection: Connection) -> dict[str, Path]:
    records = connection.execute(
        "SELECT i.relname, pg_relation_filepath(i.oid) FROM pg_class i JOIN pg_am a ON a.oid = i.relam"
        " WHERE a.amname = 'winnow' AND i.relkind = 'i'"
    ).fetchall()
    return {str(name): server.data_dir / str(path) for name, path in records}


def last_birth(files: dict[str, Path]) -> int:
    """The WAL position at which the youngest page of these files became what it is."""
    youngest = 0
    for path in files.values():
        content = path.read_bytes()
        for start in range(0, len(content), PAGE):
            youngest = max(youngest, struct.unpack_from("<Q", content, start + BORN)[0])
    return youngest


def wal_position(connection: Connection) -> int:
    record = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert record is not None
    return int(str(record[0]))


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_upgrade(seed: int, mode: str) -> None:
    with older_server() as old, temporary_server() as new:
        new.stop()
        with connect(old) as connection:
            # Pages are born later in the WAL than where a new cluster's begins.
            for _ in range(5):
                connection.execute("SELECT pg_switch_wal(), pg_logical_emit_message(false, '', '')")
            world = World(connection, f"{seed}-upgrade-{mode}")
            answers = world.answers(connection)
            connection.execute("CHECKPOINT")
            before = {name: path.read_bytes() for name, path in index_files(old, connection).items()}
            born = last_birth(index_files(old, connection))
            assert born > 0
        old.stop()
        upgrade(old, new, mode)
        new.start()
        with connect(new) as connection:
            after = {name: path.read_bytes() for name, path in index_files(new, connection).items()}
            assert after == before, "the indexes were rebuilt"
            assert wal_position(connection) > born
            assert world.answers(connection) == answers
        # Readers on a standby compare positions in the WAL of both servers.
        with make_standby(new) as standby:
            with connect(new) as connection:
                # Old and new pages name each other, retired nodes of both are freed and their pages used again.
                for _ in range(2):
                    world.change(connection)
                    answers = world.answers(connection)
                connection.execute("CHECKPOINT")
                assert last_birth(index_files(new, connection)) > born
            caught_up(new, standby)
            with connect(standby) as connection:
                assert world.answers(connection) == answers
