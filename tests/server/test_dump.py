"""pg_dump and pg_restore: indexes come back with their options, over all rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from cluster import temporary_server
from pgwinnow.server import Server
from server.lifecycle import World
from server.oracle import Connection

DEFINITIONS = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
SHAPES = (
    "SELECT i.oid::regclass::text, s.metric, s.dimensions, s.attributes, s.list_size, s.bits, s.rows"
    " FROM pg_class i JOIN pg_am a ON a.oid = i.relam, winnow_index_info(i.oid) s"
    " WHERE a.amname = 'winnow' AND i.relkind = 'i' ORDER BY 1"
)
NAMES = ("dumped", "plain", "directory", "sections")


@dataclass
class Dumped:
    """A server with a database ``dumped``, a folder that the server may write to, and empty databases to restore to."""

    server: Server
    folder: Path
    world: World
    answers: list[dict[int, tuple[float, ...]]]
    definitions: list[tuple[object, ...]]
    shapes: list[tuple[object, ...]]

    def restore(self, name: str, *arguments: str | Path) -> None:
        self.server.run("pg_restore", "--exit-on-error", f"--dbname={self.server.dsn(name)}", *arguments)


def connect(server: Server, name: str) -> Connection:
    return psycopg.connect(server.dsn(name), autocommit=True)


@pytest.fixture(scope="module")
def dumped(seed: int) -> Iterator[Dumped]:
    with temporary_server() as server:
        with connect(server, "postgres") as connection:
            for name in NAMES:
                connection.execute(f"CREATE DATABASE {name}")
            # Known when the extension is not there yet
            connection.execute("ALTER DATABASE dumped SET winnow.recall = 0.9")
        with connect(server, "dumped") as connection:
            world = World(connection, f"{seed}-dump")
            definitions, shapes = (connection.execute(sql).fetchall() for sql in (DEFINITIONS, SHAPES))
            answers = world.answers(connection)
        yield Dumped(server, server.data_dir, world, answers, definitions, shapes)


def assert_restored(dumped: Dumped, name: str) -> None:
    """The database has the same rows and indexes, which answer the same and go on working."""
    with connect(dumped.server, name) as connection:
        assert connection.execute(DEFINITIONS).fetchall() == dumped.definitions
        assert connection.execute(SHAPES).fetchall() == dumped.shapes
        assert dumped.world.answers(connection) == dumped.answers
        dumped.world.change(connection)
        dumped.world.answers(connection)


def test_plain(dumped: Dumped) -> None:
    path = dumped.folder / "dump.sql"
    dumped.server.run("pg_dump", f"--dbname={dumped.server.dsn('dumped')}", f"--file={path}")
    dumped.server.run("psql", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={dumped.server.dsn('plain')}", "-f", path)
    assert_restored(dumped, "plain")


def test_directory_by_two_jobs(dumped: Dumped) -> None:
    path = dumped.folder / "dump.directory"
    source = f"--dbname={dumped.server.dsn('dumped')}"
    dumped.server.run("pg_dump", "--format=directory", "--jobs=2", source, f"--file={path}")
    dumped.restore("directory", "--jobs=2", path)
    assert_restored(dumped, "directory")


def test_section_by_section(dumped: Dumped) -> None:
    for section in ("pre-data", "data", "post-data"):
        path = dumped.folder / f"{section}.custom"
        source = f"--dbname={dumped.server.dsn('dumped')}"
        dumped.server.run("pg_dump", "--format=custom", f"--section={section}", source, f"--file={path}")
        dumped.restore("sections", path)
    assert_restored(dumped, "sections")


def test_database_settings_come_along(dumped: Dumped) -> None:
    """A setting of the database is restored before the extension is there."""
    path = dumped.folder / "dump.create"
    dumped.server.run(
        "pg_dump", "--format=custom", "--create", f"--dbname={dumped.server.dsn('dumped')}", f"--file={path}"
    )
    with connect(dumped.server, "postgres") as connection:
        connection.execute("ALTER DATABASE dumped RENAME TO original")
    try:
        dumped.restore("postgres", "--create", path)
        with connect(dumped.server, "dumped") as connection:
            assert connection.execute("SHOW winnow.recall").fetchone() == ("0.9",)
            assert dumped.world.answers(connection) == dumped.answers
    finally:
        with connect(dumped.server, "postgres") as connection:
            connection.execute("DROP DATABASE IF EXISTS dumped")
            connection.execute("ALTER DATABASE original RENAME TO dumped")
