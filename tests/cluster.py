"""The throw-away cluster of the test session, and PostgreSQL's own test programs.

Environment: ``WINNOW_PG_VERSION`` (18, 16 or 15) chooses the server, ``WINNOW_SANITIZE=1`` compiles the extension with
AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pgwinnow._server import account, binaries, build
from pgwinnow.server import Server

VERSION = int(os.environ.get("WINNOW_PG_VERSION", "18"))
SANITIZE = os.environ.get("WINNOW_SANITIZE", "") not in ("", "0")

SETTINGS = {
    # Tests vacuum and analyze when they mean to; nothing else may change a plan under them.
    "autovacuum": "off",
    "max_prepared_transactions": "10",
    "shared_buffers": "128MB",
    "timezone": "UTC",
}


def temporary_server(**settings: str) -> Server:
    """A server of its own for a test that crashes, configures or replicates it; to be used as a context manager."""
    return Server.temporary(version=VERSION, settings={**SETTINGS, **settings}, assertions=True, sanitizers=SANITIZE)


def base_backup(server: Server, name: str, *arguments: str | Path) -> Path:
    """A base backup beside the server's data folder, ready to be started beside the server."""
    data_dir = server.data_dir.parent / name
    dsn = f"--dbname={server.dsn()}"
    server.run("pg_basebackup", f"--pgdata={data_dir}", dsn, "--checkpoint=fast", "--no-sync", *arguments)
    # The server's socket is in its data folder, and so is the socket's lock file.
    for lock in data_dir.glob(".s.PGSQL.*.lock"):
        lock.unlink()
    return data_dir


def copied_server(data_dir: Path, **settings: str) -> Server:
    """The server of a data folder that is a copy of a temporary server's; to be used as a context manager."""
    settings = {**SETTINGS, **settings}
    return Server(data_dir, version=VERSION, settings=settings, assertions=True, sanitizers=SANITIZE, fsync=False)


@dataclass(frozen=True)
class Cluster:
    """The session's server, with the attributes that pytest-postgresql asks for."""

    server: Server
    host: str
    port: int
    user: str
    password: str | None = None
    options: str = ""
    template_dbname: str = "template1"
    maintenance_dbname: str = "postgres"

    @classmethod
    def of(cls, server: Server) -> Cluster:
        return cls(server, host=str(server.socket_dir), port=server.port, user=server.user)

    def description(self) -> str:
        """Version of the server and the instruction set the extension chose on this machine."""
        with psycopg.connect(self.server.dsn()) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS winnow")
            row = connection.execute("SELECT current_setting('server_version'), winnow_simd()").fetchone()
        assert row is not None
        return f"PostgreSQL {row[0]}, SIMD {row[1]}{', sanitizers' if SANITIZE else ', assertions'}"


def run_regression_test(cluster: Cluster, runner: str, name: str, inputs: Path, output: Path) -> str | None:
    """Run one test with pg_regress or pg_isolation_regress; what it complained about, or None.

    :param runner: ``regress/pg_regress`` or ``isolation/pg_isolation_regress``
    :param name: the test, without folder and suffix
    :param inputs: folder that holds ``sql`` or ``specs``, and ``expected``
    :param output: folder for results, outside the source tree
    """
    command = [
        str(_test_programs() / runner),
        f"--inputdir={inputs}",
        f"--outputdir={output}",
        f"--bindir={cluster.server.bin_dir}",
        f"--host={cluster.host}",
        f"--port={cluster.port}",
        f"--user={cluster.user}",
        f"--dbname=regress_{name}",
        "--load-extension=winnow",
        name,
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=output,
        env=account.environment(),
        check=False,
    )
    if done.returncode == 0:
        return None
    differences = output / "regression.diffs"
    return done.stdout + (differences.read_text() if differences.exists() else "")


def _test_programs() -> Path:
    """Folder of PostgreSQL's test programs.  18's crash at their start; 16's serve as well against an 18."""
    version = 16 if VERSION == 18 else VERSION
    with build.lock(f"copy-{version}"):
        server = binaries.private_copy(version)
    answer = subprocess.run([server.pg_config, "--pgxs"], check=True, capture_output=True, text=True)
    return Path(answer.stdout.strip()).parents[1] / "test"
