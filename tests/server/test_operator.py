"""What somebody who runs a database is shown of an index, and what he waits for."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.rows import dict_row

from cluster import VERSION, temporary_server
from patience import eventually
from server.load import NEAREST, create_table, fill
from server.oracle import INDEX_ONLY, Connection, check_exact, check_indexes
from server.test_standby import caught_up, make_standby

ROWS = 4000

# Index expressions that tell, or wait for, what the test wants while the server evaluates them
TELLING = """
CREATE FUNCTION telling(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM pg_stat_clear_snapshot();
    RAISE NOTICE '%', (SELECT phase FROM pg_stat_progress_create_index WHERE pid = pg_backend_pid());
    RETURN $1;
END $$;
"""
WAITING = """
CREATE FUNCTION waiting(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_setting('application_name') = 'waiter' THEN
        PERFORM pg_advisory_xact_lock_shared(1);
    END IF;
    RETURN $1;
END $$;
"""


@pytest.fixture
def table(connection: Connection) -> Connection:
    connection.autocommit = True
    create_table(connection, list_size=16)
    return connection


def info(connection: Connection, index: str = "items_index") -> dict[str, int | float | str]:
    with connection.cursor(row_factory=dict_row) as cursor:
        record = cursor.execute("SELECT * FROM winnow_index_info(%s)", [index]).fetchone()
    assert record is not None
    return record


def number(connection: Connection, sql: str) -> int:
    record = connection.execute(sql).fetchone()
    assert record is not None
    return int(float(str(record[0])))


def vacuum_line(connection: Connection, options: str = "") -> tuple[int, ...] | None:
    """What VACUUM VERBOSE says of the index: pages, newly deleted, currently deleted, reusable."""
    said: list[str] = []

    def listen(diagnostic: psycopg.errors.Diagnostic) -> None:
        said.append(f"{diagnostic.message_primary}\n{diagnostic.message_detail or ''}")

    connection.add_notice_handler(listen)
    connection.execute(f"VACUUM (VERBOSE{options}) items")
    connection.remove_notice_handler(listen)
    line = re.search(
        r'index "items_index": pages: (\d+) in total, (\d+) newly deleted, (\d+) currently deleted, (\d+) reusable',
        "\n".join(said),
    )
    return tuple(int(field) for field in line.groups()) if line else None


def an_end_of_transactions(connection: Connection) -> None:
    """What was retired before this is older than every snapshot that is taken after it."""
    connection.execute("SELECT txid_current()")


def check_line(connection: Connection, said: tuple[int, ...] | None) -> tuple[int, ...]:
    """VACUUM has said what is to be seen now."""
    state = info(connection)
    assert said is not None
    assert (said[0], said[2], said[3]) == (state["pages"], state["unused_pages"], state["free_pages"])
    assert said[0] == number(connection, "SELECT pg_relation_size('items_index') / 8192")
    return said


def test_verbose_vacuum_says_the_truth(table: Connection, dsn: str) -> None:
    fill(table, ROWS)
    an_end_of_transactions(table)
    with psycopg.connect(dsn) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT 1")
        fill(table, ROWS, ROWS)
        an_end_of_transactions(table)
        _, freed, deleted, reusable = check_line(table, vacuum_line(table))
        # What was split before the reader's snapshot is free, or used again; what was split after it is kept.
        assert 0 < reusable <= freed < deleted
        kept = deleted - reusable
    an_end_of_transactions(table)
    _, freed, deleted, reusable = check_line(table, vacuum_line(table))
    assert freed >= kept

    # In the end there is nothing to do: it does not look, and says nothing.
    for _ in range(10):
        an_end_of_transactions(table)
        said = vacuum_line(table, ", INDEX_CLEANUP ON")
        if said is None:
            break
        check_line(table, said)
    assert said is None

    # Free pages are taken before the file grows.
    before = info(table)
    fill(table, ROWS // 10, 2 * ROWS)
    assert info(table)["pages"] == before["pages"]
    assert int(info(table)["free_pages"]) < int(before["free_pages"])


def test_verbose_vacuum_counts_what_it_merges(table: Connection) -> None:
    fill(table, ROWS)
    table.execute("REINDEX INDEX items_index")
    table.execute("DELETE FROM items WHERE id % 20 > 0")
    said = vacuum_line(table, ", INDEX_CLEANUP ON")
    unused = int(info(table)["unused_pages"])
    assert said is not None
    # A node that is merged, and what it was merged into once more, may be counted twice.
    assert unused > 0
    assert said[2] == pytest.approx(unused, rel=0.25)
    an_end_of_transactions(table)
    table.execute("DELETE FROM items WHERE id = 0")
    said = check_line(table, vacuum_line(table, ", INDEX_CLEANUP ON"))
    assert said[1] >= unused
    check_indexes(table)


def test_rows_and_slots(table: Connection) -> None:
    """What VACUUM has not taken out is counted; what it has leaves its slot to others."""
    fill(table, ROWS)
    table.execute("REINDEX INDEX items_index")
    assert (info(table)["rows"], info(table)["freed_slots"]) == (ROWS, 0)
    table.execute("DELETE FROM items WHERE id % 10 = 0")
    assert (info(table)["rows"], info(table)["freed_slots"]) == (ROWS, 0)
    table.execute("VACUUM (INDEX_CLEANUP ON) items")
    state = info(table)
    assert state["rows"] == ROWS - ROWS // 10
    # Lists that have been merged have none.
    assert ROWS // 20 < int(state["freed_slots"]) <= ROWS // 10
    fill(table, ROWS // 10, ROWS)
    assert int(info(table)["freed_slots"]) < int(state["freed_slots"])
    assert number(table, "SELECT reltuples FROM pg_class WHERE relname = 'items_index'") == ROWS - ROWS // 10


def test_tight_summaries(table: Connection) -> None:
    fill(table, ROWS)
    assert info(table)["tight_summaries"] == 1
    with table.transaction(force_rollback=True):
        table.execute("INSERT INTO items SELECT id + 1000000, 999, label, e FROM items WHERE id % 7 = 0")
    assert info(table)["tight_summaries"] == 1, "only the table knows that these rows are dead"
    # A summary is widened before its row is written: an error in between leaves it wide.
    table.execute("VACUUM (INDEX_CLEANUP ON) items")
    assert info(table)["tight_summaries"] == 1
    table.execute("DROP INDEX items_index")
    table.execute("CREATE INDEX items_index ON items USING winnow (e) WITH (list_size = 16)")
    assert info(table)["tight_summaries"] == 1


@pytest.mark.parametrize("list_size", [16, 128, 512])
@pytest.mark.parametrize("dims", [3, 24, 1536])
def test_a_fresh_build_is_foreseen(connection: Connection, dims: int, list_size: int) -> None:
    """What is said of REINDEX holds for it, whatever the index is like before."""
    connection.autocommit = True
    connection.execute(f"CREATE TABLE items (id integer, n integer, e vector({dims}))")
    connection.execute(f"CREATE INDEX items_index ON items USING winnow (e, n) WITH (list_size = {list_size})")
    for rows in (0, 5, ROWS):
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            f"INSERT INTO items SELECT i, i % 10, (SELECT array_agg(random() + i % 7 * d % 3)::vector"
            f" FROM generate_series(1, {dims}) d) FROM generate_series(1, {rows}) i"
        )
        foreseen = info(connection)
        connection.execute("REINDEX INDEX items_index")
        state = info(connection)
        assert state["fresh_lists"] == foreseen["fresh_lists"]
        if rows <= list_size:
            assert (state["lists"], state["pages"]) == (foreseen["fresh_lists"], foreseen["fresh_pages"])
        assert int(state["lists"]) == pytest.approx(int(foreseen["fresh_lists"]), rel=0.35)
        assert int(state["pages"]) == pytest.approx(int(foreseen["fresh_pages"]), rel=0.25)
        connection.execute("TRUNCATE items")


def test_what_the_index_was_calibrated_to(table: Connection) -> None:
    fill(table, ROWS)
    before = info(table)
    table.execute("REINDEX INDEX items_index")
    calibrated = info(table)
    assert before["effective_dimension"] == calibrated["effective_dimension"] == 24
    assert before["tolerance"] != calibrated["tolerance"]
    table.execute("SET winnow.recall = 0.8")
    assert float(info(table)["tolerance"]) > float(calibrated["tolerance"]) > 0
    table.execute("SET winnow.recall = 1")
    assert info(table)["tolerance"] == 0


def test_on_a_standby() -> None:
    with temporary_server() as primary, psycopg.connect(primary.dsn(), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION winnow")
        create_table(connection, list_size=16)
        fill(connection, ROWS)
        an_end_of_transactions(connection)
        connection.execute("VACUUM items")
        with make_standby(primary) as standby:
            caught_up(primary, standby)
            with psycopg.connect(standby.dsn()) as reader:
                assert info(reader) == info(connection)
                assert int(info(reader)["free_pages"]) > 0


def test_nobody_needs_to_be_superuser(table: Connection) -> None:
    """Whoever may make a table may do everything but check it, and may do that where it was granted."""
    table.execute("DROP ROLE IF EXISTS winnow_plain; CREATE ROLE winnow_plain")
    try:
        table.execute("GRANT CREATE ON SCHEMA public TO winnow_plain")
        table.execute("SET ROLE winnow_plain")
        table.execute("CREATE TABLE mine (id bigint, bucket integer, e vector(24))")
        table.execute("CREATE INDEX mine_index ON mine USING winnow (e, bucket) WITH (list_size = 16)")
        table.execute("INSERT INTO mine SELECT i, i, array_fill(i, ARRAY[24])::vector FROM generate_series(1, 100) i")
        table.execute("REINDEX INDEX mine_index")
        table.execute("DELETE FROM mine WHERE id > 50")
        table.execute("VACUUM mine")
        table.execute("SET winnow.recall = 1")
        check_exact(table, NEAREST, "mine", ids=set(range(1, 51)))
        assert info(table, "mine_index")["rows"] == 50
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            info(table)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            table.execute("SELECT winnow_check('mine_index')")
        table.execute("RESET ROLE; GRANT EXECUTE ON FUNCTION winnow_check TO winnow_plain; SET ROLE winnow_plain")
        table.execute("SELECT winnow_check('mine_index', true)")
    finally:
        table.execute("RESET ROLE; DROP OWNED BY winnow_plain; DROP ROLE winnow_plain")


def test_phases_of_a_build(table: Connection) -> None:
    fill(table, 200)
    table.execute(TELLING)
    told: set[str | None] = set()
    table.add_notice_handler(lambda diagnostic: told.add(diagnostic.message_primary))
    table.execute("CREATE INDEX ON items USING winnow (e, telling(bucket))")
    assert {"building index: sampling rows", "building index: assigning rows to lists"} <= told


@contextmanager
def held_check(dsn: str) -> Iterator[int]:
    """A winnow_check of "held" that is under way as long as the block runs; its process id."""
    with (
        psycopg.connect(dsn, autocommit=True) as holder,
        psycopg.connect(dsn, autocommit=True, application_name="waiter") as checker,
    ):
        holder.execute("SELECT pg_advisory_lock(1)")
        failures: list[Exception] = []

        def check() -> None:
            try:
                checker.execute("SELECT winnow_check('held', true)")
            except psycopg.Error as error:
                failures.append(error)

        thread = threading.Thread(target=check)
        thread.start()
        pid = checker.info.backend_pid
        wait_for_lock(holder, pid, "advisory")
        yield pid
        holder.execute("SELECT pg_cancel_backend(%s)", [pid])
        thread.join()
        assert [type(failure) for failure in failures] == [psycopg.errors.QueryCanceled]


def wait_for_lock(connection: Connection, pid: int, kind: str) -> None:
    """Until a process waits for a lock of that kind."""
    waiting = f"SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted AND locktype = '{kind}'"
    eventually(f"process {pid} waits for a lock of kind {kind}", lambda: number(connection, waiting) > 0)


@contextmanager
def beside(dsn: str, sql: str) -> Iterator[int]:
    """A connection that runs a statement beside the block, which must let it end; its process id."""
    failures: list[Exception] = []
    with psycopg.connect(dsn, autocommit=True) as connection:

        def run() -> None:
            try:
                connection.execute(sql)
            except psycopg.Error as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        yield connection.info.backend_pid
        thread.join()
    assert failures == []


def test_a_check_and_the_others(table: Connection, dsn: str) -> None:
    """Beside a check rows are read and written, lists grow; vacuum waits for its end."""
    fill(table, ROWS)
    table.execute(WAITING)
    table.execute("CREATE INDEX held ON items USING winnow (e, waiting(bucket)) WITH (list_size = 16)")
    table.execute("DELETE FROM items WHERE id % 10 = 0")
    insert = "INSERT INTO items SELECT i, 1, 'x', array_fill(9, ARRAY[24])::vector FROM generate_series({}, {}) i"
    with contextlib.ExitStack() as waiting, held_check(dsn) as checker:
        modes = table.execute(
            "SELECT DISTINCT mode FROM pg_locks WHERE pid = %s AND locktype = 'relation'"
            " AND relation IN ('items'::regclass, 'held'::regclass)",
            [checker],
        ).fetchall()
        assert modes == [("AccessShareLock",)]
        table.execute(INDEX_ONLY)
        nearest = table.execute(f"SELECT id FROM items ORDER BY {NEAREST} LIMIT 10").fetchall()
        assert len(nearest) == 10
        assert int(info(table, "held")["largest_list"]) <= 16
        table.execute(insert.format(ROWS, ROWS + 39))
        assert int(info(table, "held")["largest_list"]) >= 40

        pid = waiting.enter_context(beside(dsn, "VACUUM (INDEX_CLEANUP ON, PARALLEL 0) items"))
        wait_for_lock(table, pid, "object")
        table.execute(insert.format(ROWS + 40, ROWS + 99))
        assert int(info(table, "held")["largest_list"]) >= 100
        record = table.execute("SELECT to_jsonb(p) FROM pg_stat_progress_vacuum p").fetchone()
        assert record is not None
        progress: dict[str, object] = record[0]  # type: ignore[assignment]
        assert progress["phase"] == "vacuuming indexes"
        if VERSION >= 17:
            assert progress["indexes_total"] == 3
            assert int(str(progress["indexes_processed"])) in range(3)
    left = {i for i in range(ROWS + 100) if i % 10 > 0 or i >= ROWS}
    assert info(table, "held")["rows"] == len(left)
    assert int(info(table, "items_index")["largest_list"]) <= 60
    check_indexes(table)
    check_exact(table, NEAREST, "items", ids=left)
