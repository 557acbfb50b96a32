"""A session stops in the middle of something; others go on, as far as they can; then all is still right.

The points are those of ``WINNOW_WAIT_POINT`` in the C code.  What is right: a scan returns exactly what its snapshot
sees, and in the end the index has what the table has (``extension/DESIGN.md``, sections 3 to 8).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import psycopg
import pytest

from cluster import temporary_server
from patience import PATIENCE
from pgwinnow.server import Server
from server.load import DIMS, NEAREST, create_table, fill
from server.oracle import INDEX_ONLY, NO_INDEX, Connection, check_indexes, complaint, matching_rows, rows_of
from server.pauses import Gate, Session

VACUUM = "VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) items"
REINDEX = "REINDEX INDEX CONCURRENTLY items_index"
CONDITIONS = ("true", "bucket >= 5000", "bucket >= 100", "bucket < 10", "label = 'label 3'")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of their own: backends that wait for one another for ever cannot be cancelled."""
    with temporary_server() as own:
        with psycopg.connect(own.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
        yield own


Sessions = Callable[[], Session]


@pytest.fixture
def sessions(server: Server) -> Iterator[Sessions]:
    """Makes sessions, and closes them."""
    made: list[Session] = []

    def make() -> Session:
        made.append(Session(server.dsn()))
        return made[-1]

    yield make
    if not all(session.comes_to_an_end() for session in made):
        server.kill()
    for session in made:
        session.close()


@contextlib.contextmanager
def closed_gate(server: Server, *points: str) -> Iterator[Gate]:
    """A gate that lets everybody go in the end, also if the test has failed."""
    gate = Gate(server, *points)
    try:
        yield gate
    finally:
        gate.close()


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    """A connection to a table with an index of several levels, free pages, and rows that are dead but still in it."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS items; DROP SEQUENCE IF EXISTS ids; CREATE SEQUENCE ids START 10000")
        create_table(connection)
        fill(connection, 400)
        connection.execute("DELETE FROM items WHERE id % 2 = 0")
        connection.execute(VACUUM)
        connection.execute("DELETE FROM items WHERE id % 8 <> 1")
        yield connection


def add_rows(connection: Connection, count: int, *, bucket: int = 100, centre: int = 3) -> None:
    """Add rows that are near one another, of new buckets from the one given."""
    coordinates = f"SELECT array_agg({centre} * (i %% 3) + sin(g * 7 + i * i) / 2) FROM generate_series(1, {DIMS}) i"
    connection.execute(
        f"INSERT INTO items SELECT g, {bucket} + g %% 97, 'label ' || g %% 5, ({coordinates})::real[]::vector"
        " FROM (SELECT nextval('ids') AS g FROM generate_series(1, %s)) s",
        [count],
    )


def compare(
    connection: Connection, scan: Callable[[str], list[tuple[object, ...]]] | None = None, *, recall: float = 1
) -> None:
    """Compare, within one snapshot, the answers of the index with those of a sequential scan.

    :param scan: runs a query and returns its rows
    :param recall: below 1 rows need not come in the right order, but all do
    """
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    queries = [f"SELECT id, {NEAREST} FROM items WHERE {where}" for where in CONDITIONS]
    expected = [matching_rows(connection, sql) for sql in queries]
    connection.execute(f"{INDEX_ONLY}; SET winnow.recall = {recall}")
    for sql, matching in zip(queries, expected, strict=True):
        ordered = f"{sql} ORDER BY {NEAREST}"
        records = scan(ordered) if scan else connection.execute(ordered).fetchall()
        wrong = complaint(rows_of(records), matching, exact=True, ordered=recall == 1)
        assert wrong is None, f"{ordered}\n{wrong}"
    connection.execute("COMMIT")
    connection.execute(NO_INDEX)


def check(connection: Connection) -> None:
    """The index is whole, before and after another VACUUM; no structure lock is left."""
    assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'object'").fetchone() == (0,)
    for _ in range(2):
        compare(connection)
        check_indexes(connection)
        connection.execute(VACUUM)


# What a session does that is made to stop


def insert(connection: Connection, setting: str) -> None:
    connection.execute(setting)
    add_rows(connection, 30)


def scan(connection: Connection, setting: str) -> None:
    def stopping(sql: str) -> list[tuple[object, ...]]:
        connection.execute(setting)
        return connection.execute(sql).fetchall()

    compare(connection, stopping)


def cursor(connection: Connection, setting: str) -> None:
    """Some rows, for which not all lists are read, then the others; it stops among these."""

    def stopping(sql: str) -> list[tuple[object, ...]]:
        connection.execute(f"RESET winnow.wait_points; DECLARE c CURSOR FOR {sql}")
        records = connection.execute("FETCH 3 FROM c").fetchall()
        connection.execute(setting)
        # Not FETCH ALL: then all rows would be ranked at once, as those of a scan without LIMIT are.
        while more := connection.execute("FETCH 50 FROM c").fetchall():
            records += more
        connection.execute("CLOSE c")
        return records

    compare(connection, stopping, recall=0.1)


def vacuum(connection: Connection, setting: str) -> None:
    connection.execute(setting)
    connection.execute(VACUUM)


def create(connection: Connection, setting: str) -> None:
    """Another index in place of the first."""
    connection.execute(setting)
    connection.execute(
        'CREATE INDEX CONCURRENTLY items_other ON items USING winnow (label COLLATE "C", bucket, e vector_l2_ops)'
        " WITH (list_size = 8)"
    )
    connection.execute("DROP INDEX items_index")


def reindex(connection: Connection, setting: str) -> None:
    connection.execute(setting)
    connection.execute(REINDEX)


# What another does meanwhile


def few(connection: Connection) -> None:
    """Some rows more: lists split, if that can be."""
    add_rows(connection, 12)


def many(connection: Connection) -> None:
    """Lists become so large that they are split more than once."""
    add_rows(connection, 80)


def update(connection: Connection) -> None:
    connection.execute("UPDATE items SET bucket = bucket + 200 WHERE id % 16 = 1")
    connection.execute("DELETE FROM items WHERE id % 16 = 9")


def read(connection: Connection) -> None:
    compare(connection)


def verify(connection: Connection) -> None:
    check_indexes(connection, "items_index")


def churn(connection: Connection) -> None:
    """Lists are merged and dropped, and pages that were free are taken into use, several times."""
    for turn in range(3):
        connection.execute("DELETE FROM items WHERE id %% 8 = 1 AND id / 8 %% 3 = %s", [turn])
        connection.execute(VACUUM)
        add_rows(connection, 40)
        connection.execute("DELETE FROM items WHERE id > 10000 AND id % 4 = 1")
    connection.execute(VACUUM)


def rebuild(connection: Connection) -> None:
    connection.execute(REINDEX)


Work = Callable[[Connection, str], None]
Action = Callable[[Connection], None]


@dataclass(frozen=True)
class Pause:
    """Where a session stops, what can be done meanwhile, what has to wait, and what may meet it or not."""

    work: Work
    points: str
    goes_on: tuple[Action, ...]
    waits: tuple[Action, ...]
    either: tuple[Action, ...] = ()

    def __str__(self) -> str:
        return f"{self.work.__name__}-{self.points}"


UNLOCKED = (few, many, update, read, verify, churn)
STRUCTURE = (verify,)
"""What waits for the structure lock, with which rows and summaries may still be added and read."""

PAUSES = [
    *(Pause(insert, point, UNLOCKED, (rebuild,)) for point in ("insert-descended", "split")),
    Pause(insert, "insert-locked", (read, verify), (few, many, update, churn, rebuild)),
    *(
        Pause(insert, point, (few, many, update, read), (*STRUCTURE, churn, rebuild))
        for point in ("replace-copied", "replace-retired")
    ),
    *(
        Pause(insert, point, (), (*STRUCTURE, read, churn), (few, many, update))
        for point in ("replace-written", "replace-switched", "allocate")
    ),
    *(Pause(scan, point, UNLOCKED, (rebuild,)) for point in ("scan-expanded", "scan-tested")),
    *(
        Pause(cursor, point, UNLOCKED, (rebuild,))
        for point in ("scan-round", "scan-expanded", "scan-tested", "scan-estimated")
    ),
    *(
        Pause(vacuum, point, (few, many, update, read), STRUCTURE)
        for point in (
            "vacuum-walk",
            "vacuum-leaf",
            "vacuum-merge",
            "replace-copied",
            "replace-retired",
            "vacuum-tighten",
            "vacuum-root",
            "vacuum-sweep",
            "sweep-free",
        )
    ),
    *(
        Pause(vacuum, point, (), (*STRUCTURE, read, churn, rebuild), (few, many, update))
        for point in ("replace-written", "replace-switched", "allocate")
    ),
    # Two such commands at once are PostgreSQL's matter: they deadlock.
    *(
        Pause(work, points, (few, many, update, read, verify), (churn,))
        for work in (create, reindex)
        for points in ("build", "built", "built,insert-descended")
    ),
    *(
        Pause(work, points, (few, many, update, read, verify), (churn,))
        for work in (create, reindex)
        for points in ("vacuum-walk", "vacuum-leaf", "vacuum-sweep", "built,replace-copied")
    ),
    *(
        Pause(work, "built,replace-written", (read, verify), (churn,), (few, many, update))
        for work in (create, reindex)
    ),
]


@contextlib.contextmanager
def stopped(server: Server, sessions: Sessions, pause: Pause) -> Iterator[Gate]:
    """A session does something, and has stopped; in the end it goes on."""
    *earlier, point = pause.points.split(",")
    with closed_gate(server, *earlier, point) as gate:
        paused = sessions().start(pause.work, gate.setting())
        for name in earlier:
            gate.wait_for(paused)
            # What a build has not seen is added when the index is validated.
            sessions().start(add_rows, 30).result(PATIENCE)
            gate.open(name)
        gate.wait_for(paused)
        yield gate
        gate.open(point)
        paused.result(PATIENCE)


@pytest.mark.parametrize("pause", [pytest.param(pause, id=str(pause)) for pause in PAUSES if pause.goes_on])
def test_others_go_on(server: Server, connection: Connection, sessions: Sessions, pause: Pause) -> None:
    with stopped(server, sessions, pause):
        other = sessions()
        for action in pause.goes_on:
            other.start(action).result(PATIENCE)
    check(connection)


@pytest.mark.parametrize(
    ("pause", "action"),
    [
        pytest.param(pause, action, id=f"{pause}-{action.__name__}")
        for pause in PAUSES
        for action in pause.waits + pause.either
    ],
)
def test_another_waits(
    server: Server, connection: Connection, sessions: Sessions, pause: Pause, action: Action
) -> None:
    with stopped(server, sessions, pause) as gate:
        other = sessions()
        done = other.start(action)
        blocked = gate.blocks(done, other)
        assert blocked or action in pause.either, f"{action.__name__} does not wait"
    done.result(PATIENCE)
    check(connection)


def steps(gate: Gate, paused: Future[None]) -> Iterator[int]:
    """The passages of the gate's point."""
    (point,) = gate.points
    gate.wait_for(paused)
    for number in itertools.count():
        yield number
        if not gate.step(point, paused):
            return


@pytest.mark.parametrize(
    ("work", "point"), [(scan, "scan-expanded"), (scan, "scan-tested"), (cursor, "scan-estimated")]
)
def test_scan_step_by_step(server: Server, connection: Connection, sessions: Sessions, work: Work, point: str) -> None:
    """The tree becomes another one between any two steps of a scan."""
    actions = itertools.cycle([churn, few, update, churn, many])
    with closed_gate(server, point) as gate:
        paused = sessions().start(work, gate.setting())
        other = sessions()
        for _ in itertools.islice(steps(gate, paused), 12):
            other.start(next(actions)).result(PATIENCE)
        gate.open()
        paused.result(PATIENCE)
    check(connection)


@pytest.mark.parametrize("point", ["vacuum-leaf", "vacuum-merge", "replace-copied", "vacuum-tighten"])
def test_vacuum_step_by_step(server: Server, connection: Connection, sessions: Sessions, point: str) -> None:
    """Rows are added between any two steps of VACUUM."""
    with closed_gate(server, point) as gate:
        paused = sessions().start(vacuum, gate.setting())
        other = sessions()
        for number in itertools.islice(steps(gate, paused), 12):
            other.start(fill, 2, first=60_000 + 2 * number).result(PATIENCE)
            other.start(read).result(PATIENCE)
        gate.open()
        paused.result(PATIENCE)
    check(connection)


@pytest.mark.parametrize("work", [insert, vacuum])
def test_node_changes_before_it_is_replaced(
    server: Server, connection: Connection, sessions: Sessions, work: Work
) -> None:
    """What has been copied is out of date every time, until the node is locked for good."""
    with closed_gate(server, "replace-copied") as gate:
        paused = sessions().start(work, gate.setting())
        other = sessions()
        for number in itertools.islice(steps(gate, paused), 12):
            other.start(fill, 12, first=20_000 + 12 * number).result(PATIENCE)
        gate.open()
        paused.result(PATIENCE)
    check(connection)


def emptied(connection: Connection) -> None:
    """All rows go, and the tree becomes a single list."""
    connection.execute("DELETE FROM items")
    connection.execute(VACUUM)


def filled(connection: Connection) -> None:
    """The tree grows several levels."""
    add_rows(connection, 200)


@pytest.mark.parametrize("column", ["e", f"((e + e)::vector({DIMS}))"])
def test_transaction_fails_while_its_rows_are_read(
    server: Server, connection: Connection, sessions: Sessions, column: str
) -> None:
    """A split has found rows, whose out-of-line values are taken away before it can read them."""
    connection.execute("TRUNCATE items; DROP INDEX items_index")
    connection.execute(
        "ALTER TABLE items ADD filler text GENERATED ALWAYS AS (repeat('x', 2100)) STORED,"
        " ALTER filler SET STORAGE PLAIN, ALTER e SET STORAGE EXTERNAL"
    )
    connection.execute(
        f"CREATE INDEX items_index ON items USING winnow (bucket, {column} vector_l2_ops, label) WITH (list_size = 8)"
    )
    toast = connection.execute("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'items'").fetchone()
    assert toast is not None
    connection.execute("BEGIN")
    add_rows(connection, 8)
    with stopped(server, sessions, Pause(insert, "out-of-line", (), ())):
        connection.execute("ROLLBACK")
        connection.execute(f"VACUUM {toast[0]}")
    check_indexes(connection)
    connection.execute(VACUUM)
    check_indexes(connection)


@pytest.mark.parametrize("action", [emptied, filled])
@pytest.mark.parametrize(
    ("work", "point"), [(insert, "insert-descended"), (insert, "split"), (scan, "scan-tested"), (scan, "scan-round")]
)
def test_root_grows(
    server: Server, connection: Connection, sessions: Sessions, work: Work, point: str, action: Action
) -> None:
    """The root is a list when a session looks for it, and has been replaced when it goes on."""
    connection.execute("TRUNCATE items")
    add_rows(connection, 8)
    with stopped(server, sessions, Pause(work, point, (), ())):
        other = sessions()
        for change in (filled, action):
            other.start(change).result(PATIENCE)
    check(connection)


def insert_one(connection: Connection, setting: str) -> None:
    connection.execute(setting)
    add_rows(connection, 1, bucket=5000)


@pytest.mark.parametrize("point", ["insert-descended", "insert-locked"])
def test_root_splits(server: Server, connection: Connection, sessions: Sessions, point: str) -> None:
    """Far from where the row belongs: only the root says that the way from it is out of date."""

    def levels() -> int:
        record = connection.execute("SELECT levels FROM winnow_index_info('items_index')").fetchone()
        assert record is not None
        return int(str(record[0]))

    connection.execute("TRUNCATE items")
    add_rows(connection, 20)
    add_rows(connection, 20, centre=7)
    before = levels()
    with stopped(server, sessions, Pause(insert_one, point, (), ())) as gate:
        other = sessions()
        done = other.start(add_rows, 400, centre=7)
        gate.blocks(done, other)
    done.result(PATIENCE)
    assert levels() > before
    check(connection)


@pytest.mark.parametrize("action", [few, filled])
@pytest.mark.parametrize(
    ("work", "point"),
    [(insert, "insert-descended"), (insert, "split"), (scan, "scan-expanded"), (cursor, "scan-round")],
)
def test_root_is_lowered(
    server: Server, connection: Connection, sessions: Sessions, work: Work, point: str, action: Action
) -> None:
    """The root is an inner node when a session looks for it; a list is the root when it goes on, or another node."""
    add_rows(connection, 20)
    with stopped(server, sessions, Pause(work, point, (), ())):
        other = sessions()
        for change in (emptied, action, emptied):
            other.start(change).result(PATIENCE)
    check(connection)


@pytest.mark.parametrize("point", ["vacuum-walk", "vacuum-merge", "vacuum-root", "vacuum-sweep"])
@pytest.mark.parametrize("action", [few, filled, read])
def test_vacuum_of_an_emptied_tree(
    server: Server, connection: Connection, sessions: Sessions, point: str, action: Action
) -> None:
    connection.execute("DELETE FROM items")
    with stopped(server, sessions, Pause(vacuum, point, (), ())) as gate:
        other = sessions()
        done = other.start(action)
        gate.blocks(done, other)
    done.result(PATIENCE)
    check(connection)


def test_interrupted_tightening(server: Server, connection: Connection, sessions: Sessions) -> None:
    """Rows are gone, and what parents say of their lists is as wide as before, until the next VACUUM."""
    fill(connection, 400, first=60_000)
    connection.execute("REINDEX INDEX items_index")
    connection.execute("DELETE FROM items WHERE bucket >= 25")
    assert tight_share(connection) == 1
    with closed_gate(server, "vacuum-tighten") as gate:
        session = sessions()
        paused = session.start(vacuum, gate.setting())
        next(steps(gate, paused))
        connection.execute("SELECT pg_cancel_backend(%s)", [session.pid])
        with pytest.raises(psycopg.errors.QueryCanceled):
            paused.result(PATIENCE)
    assert tight_share(connection) < 1
    connection.execute(VACUUM)
    check(connection)


def tight_share(connection: Connection) -> float:
    """Share of the summaries that are as narrow as the rows below them allow."""
    row = connection.execute("SELECT tight_summaries FROM winnow_index_info('items_index')").fetchone()
    assert row is not None
    return float(str(row[0]))


def test_interrupted_sweep(server: Server, connection: Connection, sessions: Sessions) -> None:
    """Some of the free pages have been freed when VACUUM is cancelled; then retired nodes count as being read again.

    That is so because of a transaction in another database, which counts as soon as there is one in this.
    """
    for number in range(4):
        with psycopg.connect(server.dsn("template1")) as elsewhere, closed_gate(server, "sweep-free") as gate:
            elsewhere.execute("SELECT pg_current_xact_id()")
            fill(connection, 60, first=70_000 + 60 * number)
            connection.execute("DELETE FROM items WHERE id %% 7 = %s", [number % 7])
            session = sessions()
            paused = session.start(vacuum, gate.setting())
            for _ in itertools.islice(steps(gate, paused), 5 * number + 3):
                pass
            connection.execute("SELECT pg_cancel_backend(%s)", [session.pid])
            with pytest.raises(psycopg.errors.QueryCanceled):
                paused.result(PATIENCE)
            with psycopg.connect(server.dsn()) as reader:
                reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM items")
                connection.execute(VACUUM)
                check_indexes(connection)
    check(connection)


def test_progress_after_statistics(server: Server, connection: Connection, sessions: Sessions) -> None:
    """CREATE INDEX shows its progress again when it has collected the statistics of a new table."""
    connection.execute(
        "DROP TABLE IF EXISTS fresh; CREATE TABLE fresh WITH (autovacuum_enabled = off) AS SELECT * FROM items"
    )
    session = sessions()
    with closed_gate(server, "built") as gate:
        session.connection.execute(gate.setting())
        created = session.start(Connection.execute, "CREATE INDEX CONCURRENTLY ON fresh USING winnow (e, bucket)")
        gate.wait_for(created)
        progress = connection.execute(
            "SELECT command, relid::regclass::text, phase, tuples_done > 0 FROM pg_stat_progress_create_index"
        ).fetchall()
        assert progress == [("CREATE INDEX CONCURRENTLY", "fresh", "building index: writing WAL", True)]
        gate.open()
        created.result(PATIENCE)
    assert connection.execute("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'fresh'").fetchone() == (True,)


def add_spread(connection: Connection, first: int, count: int, bucket: str = "g %% 2 * 100000") -> None:
    """Rows all over the place, whose buckets are as far apart as they get in every list, if none is given."""
    coordinates = f"SELECT array_agg(sin(g * 1.7 * i)) FROM generate_series(1, {DIMS}) i"
    connection.execute(
        f"INSERT INTO items SELECT g, {bucket}, 'label', ({coordinates})::real[]::vector"
        " FROM generate_series(%s::bigint, %s) g",
        [first, first + count - 1],
    )


@pytest.mark.parametrize("trial", range(4))
def test_value_comes_while_an_inner_node_is_copied(
    server: Server, connection: Connection, sessions: Sessions, trial: int
) -> None:
    """A new value between the bounds of a child's others is in the child's imprint alone, on no head page.

    Now and then a row is counted on the head page for others, which makes the split copy the node again.
    """
    connection.execute("DROP TABLE items")
    create_table(connection, list_size=64)
    connection.execute("DROP INDEX items_index")
    add_spread(connection, 1, 1500)
    connection.execute(
        "CREATE INDEX items_index ON items USING winnow (bucket, e vector_l2_ops, label) WITH (list_size = 64)"
    )
    with closed_gate(server, "replace-copied") as gate:

        def grow(inserting: Connection) -> None:
            inserting.execute(gate.setting())
            add_spread(inserting, 10_000, 4000)

        paused = sessions().start(grow)
        for _ in steps(gate, paused):
            record = connection.execute("SELECT levels, lists FROM winnow_index_info('items_index')").fetchone()
            if record is not None and record[0] == 2 and int(str(record[1])) > 64:
                add_spread(connection, 5000 + trial, 1, bucket=f"{50_000 + trial}")
                break
        else:
            raise AssertionError("the root was never split")
        gate.open()
        paused.result(PATIENCE)
    check_indexes(connection)
    connection.execute(f"{INDEX_ONLY}; SET winnow.recall = 1")
    sql = f"SELECT id FROM items WHERE bucket = {50_000 + trial} ORDER BY {NEAREST} LIMIT 10"
    assert connection.execute(sql).fetchall() == [(5000 + trial,)]
    connection.execute(NO_INDEX)
