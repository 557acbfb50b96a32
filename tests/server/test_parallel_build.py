"""CREATE INDEX with parallel workers: the same index as without, errors in workers, and what is left behind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from random import Random

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from cluster import Cluster, temporary_server
from server.oracle import Connection, check_exact, check_indexes

PAGE = 8192
META, HEAD = 1, 2
WORKERS = (0, 1, 2, 4)

# Offsets in a page, see WinnowGroup and WinnowMeta
CONTENTS = 24
LEVEL, NROWS, NDATA, FIRST, NRECORD_PAGES, DATA = 0, 4, 6, 8, 26, 28
META_ROOT = 92


@pytest.fixture
def building(connection: Connection) -> Connection:
    connection.autocommit = True
    connection.execute("SET max_parallel_maintenance_workers = 2")
    return connection


def number(page: bytes | bytearray, at: int, width: int) -> int:
    return int.from_bytes(page[at : at + width], "little")


def pages(cluster: Cluster, connection: Connection, index: str) -> Iterator[bytearray]:
    """The pages of an index's first gigabyte, without what the write-ahead log put into their headers."""
    connection.execute("CHECKPOINT")
    record = connection.execute("SELECT pg_relation_filepath(%s)", [index]).fetchone()
    assert record is not None
    raw = (cluster.server.data_dir / str(record[0])).read_bytes()
    for start in range(0, len(raw), PAGE):
        page = bytearray(raw[start : start + PAGE])
        page[:10] = bytes(10)
        yield page


def most_data_pages(dims: int, rows: int) -> int:
    """How many data pages a group of so many rows has room to name, if it holds a whole list."""
    usable, code, centroid = PAGE - CONTENTS - 16, 8 + (dims + 63) // 64 * 8, (4 * dims + 7) // 8 * 8
    others = rows - (usable - centroid % usable) // code
    first = centroid // usable + 1 + max(0, -(-others // (usable // code)))
    return max(first, 1 + (rows + usable // code - 2) // (usable // code))


def content(cluster: Cluster, connection: Connection, index: str) -> Counter[bytes]:
    """All pages of an index but for the block numbers in them."""
    found: Counter[bytes] = Counter()
    children = 0
    record = connection.execute("SELECT dimensions, list_size FROM winnow_index_info(%s)", [index]).fetchone()
    assert record is not None
    for page in pages(cluster, connection, index):
        kind = number(page, PAGE - 4, 2)
        if kind == META:
            page[CONTENTS + META_ROOT : CONTENTS + META_ROOT + 4] = bytes(4)
        elif kind == HEAD:
            level = number(page, CONTENTS + LEVEL, 2)
            data = CONTENTS + DATA
            refined = data + 4 * most_data_pages(int(str(record[0])), int(str(record[1])))
            page[refined : refined + 4 * number(page, CONTENTS + NRECORD_PAGES, 2)] = b""
            page[CONTENTS + FIRST : data + 4 * number(page, CONTENTS + NDATA, 2)] = b""
            if level > 0:
                # Blocks of children are among its columns; their codes are in data pages
                children += number(page, CONTENTS + NROWS, 2)
                continue
        found[bytes(page)] += 1
    found[b"children %d" % children] += 1
    return found


def notices(connection: Connection) -> list[str]:
    """From now on, the messages that the server sends."""
    messages: list[str] = []
    connection.add_notice_handler(lambda diagnostic: messages.append(diagnostic.message_primary or ""))
    connection.execute("SET client_min_messages = debug1")
    return messages


def launched(messages: list[str]) -> int:
    """The most workers that a phase of a build had."""
    counts = [re.fullmatch(r"winnow: (\d+) of \d+ workers launched", message) for message in messages]
    return max((int(match[1]) for match in counts if match), default=0)


def copy(connection: Connection, table: str, vectors: NDArray[np.float32], rng: Random) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} (id, note, e) FROM STDIN") as stream:
        for i, vector in enumerate(vectors):
            text = None if rng.random() < 0.02 else "[" + ",".join(map(repr, vector.tolist())) + "]"
            stream.write_row((i, rng.choice([None, 1, 2, 3, i]), text))


def clustered(generator: np.random.Generator, rows: int, dims: int) -> NDArray[np.float32]:
    centres = generator.standard_normal((40, dims))
    return (centres[generator.integers(0, 40, rows)] + 0.3 * generator.standard_normal((rows, dims))).astype(np.float32)


def repeated(generator: np.random.Generator, rows: int, dims: int) -> NDArray[np.float32]:
    """Most rows are one of two vectors."""
    vectors = clustered(generator, rows, dims)
    vectors[: rows // 2] = vectors[0]
    vectors[rows // 2 : rows * 3 // 4] = vectors[-1] + 1e-3 * generator.standard_normal(
        (rows * 3 // 4 - rows // 2, dims)
    )
    vectors[rows * 3 // 4 : rows * 3 // 4 + 9] = 0
    generator.shuffle(vectors)
    return vectors


CASES = {
    # rows, dims, kind of vectors, memory, table, index
    "many groups": (8000, 8, clustered, "64MB", "", "(note, {l2}) WITH (list_size = 16)"),
    "little memory": (6000, 24, clustered, "1MB", "", "({cosine}, note) WITH (list_size = 16)"),
    "large lists": (6000, 24, repeated, "1MB", "", "({l2}, note) WITH (list_size = 16)"),
    "inner product": (5000, 16, repeated, "2MB", "", "({ip}) WITH (list_size = 8, bits = 6)"),
    "partial": (6000, 8, clustered, "64MB", "", "({l2}) WITH (list_size = 8) WHERE note > 1"),
    "expression": (3000, 8, clustered, "64MB", "", "(((e + e)::vector(8)) vector_l2_ops) WITH (list_size = 8)"),
    "wide": (1500, 1900, clustered, "2MB", "", "({l2}) WITH (list_size = 8, bits = 8)"),
    "unlogged": (3000, 8, clustered, "64MB", "UNLOGGED", "({l2}) WITH (list_size = 16)"),
    "default": (9000, 64, clustered, "1MB", "", "({l2}, note)"),
}


@pytest.mark.parametrize("case", CASES)
def test_same_index_with_any_number_of_workers(cluster: Cluster, building: Connection, seed: int, case: str) -> None:
    rows, dims, draw, memory, kind, definition = CASES[case]
    rng = Random(f"{seed}-{case}")
    classes = {name: f"e vector_{name}_ops" for name in ("l2", "ip", "cosine")}
    building.execute(f"CREATE {kind} TABLE items (id integer, note integer, e vector({dims}))")
    building.execute("ALTER TABLE items SET (parallel_workers = 8)")
    copy(building, "items", draw(np.random.default_rng(rng.getrandbits(64)), rows, dims), rng)
    building.execute("DELETE FROM items WHERE id % 7 = 3")
    building.execute("UPDATE items SET note = 2 WHERE id % 11 = 5")
    building.execute(f"SET maintenance_work_mem = '{memory}'")
    messages = notices(building)
    first = None
    for workers in WORKERS:
        messages.clear()
        building.execute(f"SET max_parallel_maintenance_workers = {workers}")
        concurrently = "CONCURRENTLY" if workers == 2 else ""
        building.execute(
            f"CREATE INDEX {concurrently} items_index ON items USING winnow {definition.format(**classes)}"
        )
        assert (launched(messages) > 0) == (workers > 0)
        check_indexes(building)
        built = content(cluster, building, "items_index")
        if first is None:
            first = built
        assert built == first, (
            f"{workers} workers: {sum((built - first).values())} pages of {sum(built.values())} differ"
        )
        # some servers leave the counts of pg_class alone where autovacuum is off
        counts = building.execute(
            "SELECT i.reltuples IN (-1, (SELECT rows FROM winnow_index_info('items_index'))),"
            " t.reltuples IN (-1, (SELECT count(*) FROM items))"
            " FROM pg_class i, pg_class t WHERE i.relname = 'items_index' AND t.relname = 'items'"
        ).fetchone()
        assert counts == (True, True)
        building.execute("DROP INDEX items_index")
    assert files_left(cluster) == []


def files_left(cluster: Cluster) -> list[str]:
    """Temporary files of the server."""
    return sorted(str(path) for path in (cluster.server.data_dir / "base" / "pgsql_tmp").rglob("*"))


def make_items(
    connection: Connection, *, rows: int, kind: str = "", options: str = "WITH (parallel_workers = 2)"
) -> None:
    connection.execute(f"CREATE {kind} TABLE items (id integer, e vector(3)) {options}")
    connection.execute(
        "INSERT INTO items SELECT g, ARRAY[g %% 17, g %% 101, g %% 7]::real[]::vector FROM generate_series(1, %s) g",
        [rows],
    )


def test_built_by_the_leader_alone(building: Connection) -> None:
    messages = notices(building)
    make_items(building, rows=300, kind="TEMPORARY")
    building.execute("CREATE INDEX ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    assert launched(messages) == 0
    building.execute("DROP TABLE items")
    make_items(building, rows=300)
    building.execute(
        "CREATE FUNCTION unsafe(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE"
        " AS 'BEGIN RETURN v; END'"
    )
    building.execute("CREATE INDEX ON items USING winnow ((unsafe(e)::vector(3)) vector_l2_ops) WITH (list_size = 8)")
    assert launched(messages) == 0
    building.execute("ALTER TABLE items SET (parallel_workers = 0)")
    building.execute("CREATE INDEX ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    assert launched(messages) == 0
    building.execute("ALTER TABLE items SET (parallel_workers = 2)")
    building.execute("CREATE INDEX items_index ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    assert launched(messages) == 2
    check_indexes(building)
    building.execute("SET max_parallel_workers = 0")
    messages.clear()
    building.execute("REINDEX INDEX items_index")
    assert "winnow: 0 of 2 workers launched" in messages
    check_indexes(building)


def test_small_table_has_no_workers_by_itself(building: Connection) -> None:
    messages = notices(building)
    make_items(building, rows=300, options="")
    building.execute("CREATE INDEX ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    assert launched(messages) == 0
    building.execute("SET min_parallel_table_scan_size = 0")
    building.execute("SET maintenance_work_mem = '64MB'")
    building.execute("CREATE INDEX ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    assert launched(messages) == 1


def test_partitions(building: Connection) -> None:
    messages = notices(building)
    building.execute("CREATE TABLE items (id integer, e vector(3)) PARTITION BY HASH (id)")
    for part in range(3):
        building.execute(
            f"CREATE TABLE part{part} PARTITION OF items FOR VALUES WITH (MODULUS 3, REMAINDER {part})"
            " WITH (parallel_workers = 2)"
        )
    building.execute(
        "INSERT INTO items SELECT g, ARRAY[g % 17, g % 101, g % 7]::real[]::vector FROM generate_series(1, 3000) g"
    )
    building.execute("CREATE INDEX ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    assert launched(messages) == 2
    check_indexes(building)


# Raises the given statement in workers; the leader waits in its rows until there is none any more.
TROUBLE = """
CREATE FUNCTION trouble(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'parallel worker') THEN
        {statement};
    END IF;
    FOR i IN 1..2000 LOOP
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE leader_pid = pg_backend_pid() AND pid <> leader_pid);
        PERFORM pg_sleep(0.005);
    END LOOP;
    RETURN v;
END $$
"""


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("RAISE EXCEPTION 'no such luck'", "no such luck"),
        ("PERFORM pg_cancel_backend(pg_backend_pid())", "canceling statement due to user request"),
        ("PERFORM pg_terminate_backend(pg_backend_pid())", "terminating .* due to administrator command"),
    ],
)
def test_error_in_a_worker(cluster: Cluster, building: Connection, statement: str, message: str) -> None:
    make_items(building, rows=3000)
    building.execute(TROUBLE.format(statement=statement))
    build = (
        "CREATE INDEX items_index ON items USING winnow ((trouble(e)::vector(3)) vector_l2_ops) WITH (list_size = 8)"
    )
    errors: list[str] = []
    # A worker may come too late to get a row
    while not errors:
        try:
            building.execute(build)
            building.execute("DROP INDEX items_index")
        except psycopg.Error as error:
            errors.append(str(error))
    assert re.search(message, errors[0])
    assert files_left(cluster) == []
    building.execute("CREATE INDEX items_index ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    check_indexes(building)


def test_error_within_a_subtransaction(cluster: Cluster, building: Connection) -> None:
    make_items(building, rows=3000)
    building.execute(
        "CREATE FUNCTION late(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        " IF EXISTS (SELECT FROM pg_ls_dir('base/pgsql_tmp', true, false)) THEN RAISE 'there are files'; END IF;"
        " RETURN v; END $$"
    )
    building.execute("BEGIN")
    for expression in ("e", "(late(e)::vector(3))"):
        building.execute("SAVEPOINT s")
        build = f"CREATE INDEX items_index ON items USING winnow ({expression} vector_l2_ops) WITH (list_size = 8)"
        if expression == "e":
            building.execute(build)
        else:
            with pytest.raises(psycopg.errors.RaiseException, match="there are files"):
                building.execute(build)
            assert files_left(cluster) == []
        building.execute("ROLLBACK TO s")
        assert files_left(cluster) == []
    building.execute("CREATE INDEX items_index ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    building.execute("COMMIT")
    check_indexes(building)


def test_leader_is_terminated(cluster: Cluster, building: Connection, dsn: str) -> None:
    make_items(building, rows=3000)
    building.execute(
        "CREATE FUNCTION last(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN"
        " PERFORM pg_stat_clear_snapshot();"
        " PERFORM pg_terminate_backend(pid) FROM pg_stat_progress_create_index"
        "  WHERE pid = pg_backend_pid() AND phase LIKE '%assigning%'; RETURN v; END $$"
    )
    leader = building.info.backend_pid
    with pytest.raises(psycopg.errors.AdminShutdown):
        building.execute("CREATE INDEX ON items USING winnow ((last(e)::vector(3)) vector_l2_ops) WITH (list_size = 8)")
    with psycopg.connect(dsn, autocommit=True) as other:
        # The message comes before the process has ended
        while other.execute(
            "SELECT 1 FROM pg_stat_activity WHERE pid = %s OR leader_pid = %s", [leader] * 2
        ).fetchone():
            pass
        assert files_left(cluster) == []
        other.execute("SET max_parallel_maintenance_workers = 2")
        other.execute("CREATE INDEX ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
        check_indexes(other)


def test_built_index_survives_a_crash(seed: int) -> None:
    with temporary_server(wal_consistency_checking="all") as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION winnow")
            make_items(connection, rows=5000)
            connection.execute("CREATE INDEX items_index ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
        server.kill()
        server.start()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            check_indexes(connection)
            check_exact(connection, "e <-> '[1,2,3]'", "items")


@pytest.mark.parametrize("workers", [0, 2])
def test_progress(building: Connection, workers: int) -> None:
    make_items(building, rows=500)
    building.execute(
        "CREATE FUNCTION telling(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN"
        " PERFORM pg_stat_clear_snapshot();"
        " RAISE NOTICE '%', (SELECT format('%s, %s done', phase, tuples_done) FROM pg_stat_progress_create_index"
        "  WHERE pid = pg_backend_pid()); RETURN v; END $$"
    )
    messages = notices(building)
    building.execute("SET client_min_messages = notice")
    building.execute(f"SET max_parallel_maintenance_workers = {workers}")
    building.execute("CREATE INDEX items_index ON items USING winnow ((telling(e)::vector(3)) vector_l2_ops)")
    assert "building index: sampling rows, 0 done" in messages
    # A worker has no line in the view; it may have all rows before the leader gets one
    dealt = [message for message in messages if "assigning rows to lists" in message]
    if workers == 0:
        assert dealt == [f"building index: assigning rows to lists, {done} done" for done in range(500)]
    assert len(dealt) + messages.count("<NULL>") >= 500


def test_few_long_vectors_in_little_memory(building: Connection) -> None:
    """If there is memory for fewer rows than are sampled, some are drawn, which may not be none."""
    building.execute(
        "CREATE TABLE items (id integer, e vector(16000)) WITH (parallel_workers = 2, autovacuum_enabled = off)"
    )
    building.execute("SET maintenance_work_mem = '1MB'")
    building.execute("CREATE INDEX ON items USING winnow (e vector_l2_ops) WITH (list_size = 128)")
    for _ in range(30):
        building.execute("DELETE FROM items")
        building.execute(
            "INSERT INTO items SELECT n, array_fill(n, ARRAY[16000])::vector FROM generate_series(1, 80) n"
        )
        building.execute("REINDEX INDEX items_e_idx")
        found = building.execute("SELECT rows FROM winnow_index_info('items_e_idx')").fetchone()
        assert found == (80,)
    check_indexes(building)
