"""What statements meet when they are cancelled, or the server lacks disk or memory: an error, and nothing left behind.

Each round lets one of ACTIONS run into the fault at a random place, then compares the index with its table and looks
for what may have been left: locks, temporary files, files of relations that do not exist, warnings of leaks.

Environment: ``WINNOW_FAULT_ROUNDS`` (default 20) is the number of rounds for each kind of fault.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psycopg
import pytest

from cluster import temporary_server
from patience import PATIENCE, eventually
from pgwinnow._server import account
from pgwinnow.server import Server
from server.load import DIMS, NEAREST, cancelled, create_table
from server.oracle import INDEX_ONLY, Connection, check_exact, check_indexes

ROUNDS = int(os.environ.get("WINNOW_FAULT_ROUNDS", "20"))
ROWS = 1500
SIZE = 24 << 20
"""Bytes of the files after which the table is written anew."""
BLOCK = 8192

SETTINGS = {
    "min_parallel_table_scan_size": "0",
    "max_parallel_maintenance_workers": "2",
    # Builds go through temporary files, in several parts.
    "maintenance_work_mem": "1MB",
    "log_error_verbosity": "verbose",
}

# A backend says so at the end of a transaction; a process that dies is reported by the postmaster.
LEAK = re.compile(r".*(?:leak|still referenced|PANIC|terminated by signal|TRAP|was not closed).*")


@dataclass(frozen=True)
class Action:
    """Statements that lead to what ``sql`` does, which alone meets the fault."""

    name: str
    before: tuple[str, ...]
    sql: str


def insert(first: int, count: int) -> str:
    """Rows that make lists split."""
    return (
        f"INSERT INTO items SELECT i, i % 50, 'label ' || i % 17, random_vector(i)"
        f" FROM generate_series({first}, {first + count - 1}) AS i"
    )


def every_action(rng: Random, first: int) -> tuple[Action, ...]:
    """All of them, with rows whose ids begin at ``first``."""
    cut = rng.choice(("id % 3 = 0", "bucket < 40", f"{NEAREST} < 6", "true"))
    return (
        Action("insert", (), insert(first, 300)),
        Action("update", (), "UPDATE items SET bucket = bucket + 100 WHERE id % 4 = 0"),
        Action("vacuum", (f"DELETE FROM items WHERE {cut}",), "VACUUM (INDEX_CLEANUP ON) items"),
        Action(
            "build", (), f"CREATE INDEX items_other ON items USING winnow (e vector_l2_ops, label) {build_options(rng)}"
        ),
        Action("reindex", (), "REINDEX INDEX items_index"),
        Action("search", (INDEX_ONLY,), f"SELECT count(*) FROM (SELECT id FROM items ORDER BY {NEAREST} OFFSET 0) s"),
        Action(
            "searches",
            (INDEX_ONLY, "SET winnow.recall = 1"),
            "SELECT count(*) FROM items a, LATERAL (SELECT id FROM items b WHERE b.bucket > a.bucket"
            " ORDER BY b.e <-> a.e LIMIT 5) s WHERE a.id % 7 = 0",
        ),
        Action("check", (), "SELECT winnow_check('items_index', true)"),
    )


def action(rng: Random, first: int) -> Action:
    """One of them."""
    return rng.choice(every_action(rng, first))


def build_options(rng: Random) -> str:
    return f"WITH (list_size = {rng.choice((8, 64, 512))}, bits = {rng.choice((1, 1, 3, 8))})"


@dataclass
class Subject:
    """A server, and the folder that the table's files are in."""

    server: Server
    folder: Path

    def connect(self) -> Connection:
        return psycopg.connect(self.server.dsn(), autocommit=True)

    def prepare(self, connection: Connection) -> None:
        """Make sure that there are rows enough, and undo what the last round set."""
        connection.execute("RESET ALL; DROP INDEX IF EXISTS items_other")
        row = connection.execute("SELECT count(*), max(id) FROM items").fetchone()
        if sum(path.stat().st_size for path in self.folder.rglob("*")) > SIZE:
            # Rows of statements that failed take room, too.
            connection.execute("VACUUM (FULL) items")
        assert row is not None
        count, last = int(str(row[0])), int(str(row[1] or 0))
        if count < ROWS:
            connection.execute(insert(last + 1, ROWS - count))

    def check(self, connection: Connection, what: str) -> None:
        """The index is whole, and nothing has been left."""
        try:
            check_indexes(connection)
            check_exact(connection, NEAREST, "items")
        except (psycopg.Error, AssertionError) as error:
            pytest.fail(f"{what}: {error}")
        locks = connection.execute(
            "SELECT locktype, mode, pid FROM pg_locks"
            " WHERE (relation > 16383 OR locktype = 'object') AND pid <> pg_backend_pid()"
        ).fetchall()
        assert locks == [], what
        known = connection.execute("SELECT pg_relation_filenode(oid)::text FROM pg_class").fetchall()
        names = {str(record[0]) for record in known}
        for path in self.folder.rglob("*"):
            if path.is_file() and path.parent.name != "pgsql_tmp" and path.name != "PG_VERSION" and path.stat().st_size:
                assert re.split(r"[_.]", path.name)[0] in names, f"{what} leaves {path}"
        for root in (self.folder, self.server.data_dir / "base"):
            assert [path for path in root.rglob("pgsql_tmp/*") if path.is_dir() or path.stat().st_size] == [], what
        complaints = LEAK.findall(self.server.log_path.read_text(errors="replace"))
        assert complaints == [], what


@contextlib.contextmanager
def subject(location: Path | None = None) -> Iterator[Subject]:
    """A server with a table and its index, in a tablespace."""
    with temporary_server(**SETTINGS) as server:
        folder = location or server.data_dir.parent / "space"
        account.own_folder(folder, account.server_account(server.data_dir))
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            connection.execute(f"CREATE TABLESPACE space LOCATION '{folder}'")
            connection.execute("ALTER SYSTEM SET default_tablespace = space")
            connection.execute("ALTER SYSTEM SET temp_tablespaces = space")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("SET default_tablespace = space")
            connection.execute(
                f"CREATE FUNCTION random_vector(seed bigint) RETURNS vector LANGUAGE sql VOLATILE AS $$"
                f" SELECT array_agg(random() * 9 + seed % 7)::vector FROM generate_series(1, {DIMS}) $$"
            )
            create_table(connection)
            connection.execute("ALTER TABLE items SET (parallel_workers = 2)")
        yield Subject(server, folder)


def first_id(connection: Connection) -> int:
    row = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM items").fetchone()
    assert row is not None
    return int(str(row[0]))


def test_cancelled(seed: int) -> None:
    """Statements are cancelled, and their backends ended, at random moments."""
    rng = Random(f"{seed}-cancelled")
    interrupted = 0
    longest = 0.3
    with subject() as it, it.connect() as observer:
        for number in range(ROUNDS):
            it.prepare(observer)
            todo = action(rng, first_id(observer))
            signal = rng.choice(("cancel", "cancel", "terminate"))
            what = f"round {number}: {todo.name}, {signal}"
            in_time = interrupt(it, observer, todo, f"pg_{signal}_backend", rng.random() ** 2 * longest, what)
            it.check(observer, what)
            interrupted += in_time
            longest *= 1.5 if in_time else 0.6  # about half of them come in time, however fast the machine is
    assert interrupted > ROUNDS / 5


def interrupt(it: Subject, observer: Connection, todo: Action, function: str, delay: float, what: str) -> bool:
    """Run an action, and call the function on its backend after a while.  Whether that came in time."""
    with it.connect() as connection:
        pid = connection.info.backend_pid
        for statement in todo.before:
            connection.execute(statement)
        failures: list[psycopg.Error] = []

        def work() -> None:
            try:
                connection.execute(todo.sql)
            except psycopg.Error as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(delay)
        observer.execute(f"SELECT {function}(%s)", [pid])
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{what}: it goes on"
        # 57014: cancelled; 57P01, or a connection that is lost: ended
        assert all(error.sqlstate in ("57014", "57P01", None) for error in failures), f"{what}: {failures}"
    left = "SELECT FROM pg_stat_activity WHERE pid = %s OR leader_pid = %s"
    eventually(f"{what}: the backend and its workers end", lambda: not observer.execute(left, [pid, pid]).rowcount)
    return bool(failures)


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    folder = Path("/tmp") / f"winnow-disk-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "winnow", folder], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        folder.rmdir()


def test_disk_full(seed: int) -> None:
    """The disk with the tables, the indexes and the temporary files is full sooner or later."""
    rng = Random(f"{seed}-disk")
    full = 0
    most = 40
    with small_disk(64 << 20) as disk, subject(disk / "space") as it, it.connect() as observer:
        ballast = disk / "ballast"
        for number in range(ROUNDS):
            it.prepare(observer)
            todo = action(rng, first_id(observer))
            with it.connect() as connection:
                for statement in todo.before:
                    connection.execute(statement)
                room = rng.randrange(most + 1)
                fill_up(ballast, room)
                what = f"round {number}: {todo.name}, {room} blocks left"
                # Twice as much for the next one, or half: so about half of those that need room find the disk full.
                try:
                    connection.execute(todo.sql)
                    most //= 2
                except psycopg.errors.DiskFull:
                    full += 1
                    most = min(2 * most + 1, 400)
                except psycopg.Error as error:
                    pytest.fail(f"{what}: {error} ({error.sqlstate})")
            observer.execute("RESET ALL")
            it.check(observer, what)
            ballast.unlink()
    assert full > ROUNDS / 10


def fill_up(ballast: Path, blocks: int) -> None:
    """Make a file as large as leaves that many blocks on its file system."""
    free = shutil.disk_usage(ballast.parent).free
    with ballast.open("wb") as file:
        file.write(bytes(max(0, free - blocks * BLOCK)))


def test_out_of_memory(seed: int) -> None:
    """A backend gets no more memory than it has and a little more."""
    rng = Random(f"{seed}-memory")
    refused = 0
    most = 64
    with subject() as it, it.connect() as observer:
        for number in range(ROUNDS):
            it.prepare(observer)
            todo = action(rng, first_id(observer))
            more = rng.randrange(most + 1) * 4096
            what = f"round {number}: {todo.name}, {more} bytes more"
            with it.connect() as connection:
                # Libraries must be there already; the server's caches may be cold.
                connection.execute(rng.choice(("SELECT winnow_simd()", "SELECT winnow_check('items_index')")))
                for statement in todo.before:
                    connection.execute(statement)
                # As in test_disk_full
                try:
                    with limited_memory(it, connection.info.backend_pid, more):
                        connection.execute(todo.sql)
                    most //= 2
                except psycopg.errors.OutOfMemory:
                    refused += 1
                    most = min(2 * most + 1, 1000)
                except psycopg.Error as error:
                    pytest.fail(f"{what}: {error} ({error.sqlstate})")
                it.check(observer, what)
                connection.execute("RESET ALL; SELECT winnow_check('items_index', true)")
    assert refused > ROUNDS / 10


@contextlib.contextmanager
def limited_memory(it: Subject, pid: int, more: int) -> Iterator[None]:
    """Let a process of the server map so many bytes more, and no more."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit_memory(it, pid, str(pages * resource.getpagesize() + more))
    try:
        yield
    finally:
        limit_memory(it, pid, "unlimited")


def limit_memory(it: Subject, pid: int, limit: str) -> None:
    # Only its own user may set a process's limits, if it is not root with all of root's rights.
    user = account.process_options(account.server_account(it.server.data_dir))
    subprocess.run(["prlimit", f"--pid={pid}", f"--as={limit}:"], check=True, **user)


def test_errors_leave_no_memory(seed: int) -> None:
    """A session that fails again and again does not grow."""
    rng = Random(f"{seed}-growth")
    sizes: list[int] = []
    with subject() as it, it.connect() as observer, it.connect() as connection:
        connection.prepare_threshold = None  # prepared statements would be added all along
        # What is kept of an action that has come to its end does not count.
        it.prepare(observer)
        for todo in every_action(rng, first_id(observer)):
            attempt(connection, todo, 0)
        for number in range(8 * ROUNDS):
            if number % 10 == 0:
                it.prepare(observer)
            attempt(connection, action(rng, first_id(observer)), rng.randint(1, 60))
            sizes.append(memory_contexts(connection))
        it.check(observer, "at the end")
    # Entries of caches come and go.
    early, late = min(sizes[ROUNDS : 4 * ROUNDS]), min(sizes[5 * ROUNDS :])
    assert late < 1.1 * early, f"bytes: {sizes}"


def attempt(connection: Connection, todo: Action, milliseconds: int) -> None:
    """Do something with a time limit, or without one."""
    connection.execute("RESET ALL")
    for statement in todo.before:
        connection.execute(statement)
    cancelled(connection, milliseconds, todo.sql)
    connection.execute("DROP INDEX IF EXISTS items_other")


def memory_contexts(connection: Connection) -> int:
    """Bytes of all memory contexts.

    Those of the relation and catalog caches come and go; the arrays that a search leaves to the next are as large as
    the largest search has needed, up to a limit (search_memory.c).
    """
    row = connection.execute(
        "SELECT sum(total_bytes) FROM pg_backend_memory_contexts"
        " WHERE name !~ 'index info|relation rules|winnow search arrays'"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


FALLIBLE = f"""
CREATE FUNCTION fallible(v vector) RETURNS vector({DIMS}) IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    -- A block with a handler is a subtransaction.
    BEGIN
        IF current_setting('test.fails', true) = 'yes' THEN
            RAISE 'as told';
        END IF;
        RETURN v;
    EXCEPTION WHEN division_by_zero THEN
        RETURN NULL;
    END;
END $$;
DROP INDEX items_index;
CREATE INDEX items_index ON items USING winnow ((fallible(e)::vector({DIMS})) vector_l2_ops) WITH (list_size = 64);
CREATE INDEX items_other ON items USING winnow ((fallible(e)::vector({DIMS})) vector_ip_ops)
    WITH (list_size = 64, bits = 4);
"""


def lists(connection: Connection) -> int:
    row = connection.execute("SELECT (winnow_index_info('items_index')).lists").fetchone()
    assert row is not None
    return int(str(row[0]))


def test_vacuum_after_one_that_failed() -> None:
    """What a VACUUM that was stopped had still to do is done by the next one, although no row is dead any more."""
    with subject() as it, it.connect() as connection:
        connection.execute(insert(1, ROWS))
        connection.execute(FALLIBLE)
        before = lists(connection)
        connection.execute("DELETE FROM items WHERE id % 20 > 0")
        connection.execute("SET test.fails = yes")
        with pytest.raises(psycopg.errors.RaiseException, match="as told"):
            connection.execute("VACUUM (INDEX_CLEANUP ON, PARALLEL 0) items")
        connection.execute("SET test.fails = no")
        check_indexes(connection)
        connection.execute("VACUUM (INDEX_CLEANUP ON, PARALLEL 0) items")
        check_indexes(connection)
        assert lists(connection) < before / 4


def test_parallel_vacuum() -> None:
    """Processes of a parallel VACUUM may not be able to evaluate an index expression: no list of theirs is merged."""
    with subject() as it, it.connect() as connection:
        connection.execute(insert(1, ROWS))
        connection.execute(FALLIBLE)
        before = lists(connection)
        connection.execute("DELETE FROM items WHERE id % 20 > 0")
        connection.execute("SET min_parallel_index_scan_size = 0")
        connection.execute("VACUUM (INDEX_CLEANUP ON, PARALLEL 2) items")
        check_indexes(connection)
        connection.execute(insert(ROWS + 1, 100))
        connection.execute("DELETE FROM items WHERE id % 20 > 0")
        connection.execute("VACUUM (INDEX_CLEANUP ON, PARALLEL 0) items")
        check_indexes(connection)
        assert lists(connection) < before / 4
