"""The stopping rule follows the rows of an index: VACUUM calibrates it when most of them are new, or gone."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest

from server.load import NEAREST, create_table
from server.load import fill as fill_near
from server.oracle import INDEX_ONLY, NO_INDEX, Connection, check_exact, check_indexes, counters

ROWS = 4000
DIMS = 24


@pytest.fixture
def filled(connection: Connection, seed: int) -> Connection:
    """A table whose index has seen every row come by INSERT."""
    connection.autocommit = True
    connection.execute(f"CREATE TABLE items (id bigint, bucket integer, e vector({DIMS}))")
    connection.execute("CREATE INDEX items_index ON items USING winnow (e vector_ip_ops, bucket) WITH (list_size = 16)")
    fill(connection, 0, seed)
    return connection


def fill(connection: Connection, first: int, seed: int, count: int = ROWS) -> None:
    """Vectors of very different lengths: under inner products the default tolerances are far off for them."""
    rng = np.random.default_rng([seed, first])
    vectors = rng.standard_normal((count, DIMS)) * np.exp(rng.standard_normal((count, 1)))
    with connection.cursor().copy("COPY items FROM STDIN") as copy:
        for number, row in enumerate(vectors, first):
            copy.write_row((number, number % 50, "[" + ",".join(f"{value:.4f}" for value in row) + "]"))


def messages(connection: Connection, sql: str, start: str, level: str = "debug1") -> list[str]:
    """The messages with this start that a statement sends."""
    found: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if (diagnostic.message_primary or "").startswith(start):
            found.append(str(diagnostic.message_primary))

    connection.add_notice_handler(note)
    connection.execute(f"SET client_min_messages = {level}")
    connection.execute(sql)
    connection.execute("RESET client_min_messages")
    connection.remove_notice_handler(note)
    return found


def calibrations(connection: Connection, sql: str) -> int:
    """Whether a statement calibrates: it says what it finds."""
    return len(messages(connection, sql, "winnow: dimension"))


def recall(connection: Connection, seed: int) -> float:
    rng = np.random.default_rng([seed, 1])
    found = 0
    for turn, query in enumerate(rng.standard_normal((60, DIMS))):
        where = "bucket < 5" if turn % 2 else "true"
        text = "[" + ",".join(f"{value:.4f}" for value in query) + "]"
        sql = f"SELECT id FROM items WHERE {where} ORDER BY e <#> '{text}' LIMIT 10"
        connection.execute(NO_INDEX)
        wanted = set(connection.execute(sql).fetchall())
        connection.execute(INDEX_ONLY)
        found += len(wanted & set(connection.execute(sql).fetchall()))
    return found / 600


def test_after_filling_an_empty_index(filled: Connection, seed: int) -> None:
    assert calibrations(filled, "VACUUM items") > 0
    assert calibrations(filled, "VACUUM (INDEX_CLEANUP ON) items") == 0
    assert recall(filled, seed) > 0.88
    check_indexes(filled)


def test_rows_that_split_no_list(connection: Connection) -> None:
    """Without dead rows and split lists VACUUM has nothing to free, but something to learn."""
    connection.autocommit = True
    connection.execute("CREATE TABLE items (e vector(3)); ALTER TABLE items SET (autovacuum_enabled = off)")
    add = "INSERT INTO items SELECT ARRAY[random(), random(), random()]::vector FROM generate_series(1, {})"
    connection.execute(add.format(ROWS))
    connection.execute("CREATE INDEX items_index ON items USING winnow (e) WITH (list_size = 4096)")
    connection.execute(add.format(ROWS // 100))
    assert calibrations(connection, "VACUUM items") == 0
    connection.execute(add.format(ROWS // 2))
    [state] = connection.execute("SELECT unused_pages, lists > 1 FROM winnow_index_info('items_index')").fetchall()
    assert state == (0, True)
    assert calibrations(connection, "VACUUM items") > 0
    assert calibrations(connection, "VACUUM items") == 0
    check_indexes(connection)


def test_after_replacing_most_rows(filled: Connection, seed: int) -> None:
    filled.execute("VACUUM items")
    for turn, (share, due) in enumerate(((10, False), (8, False), (4, True)), 1):
        doomed = filled.execute(f"DELETE FROM items WHERE id % {share} = 0").rowcount
        fill(filled, 100_000 * turn, seed, doomed)
        assert (calibrations(filled, "VACUUM (INDEX_CLEANUP ON) items") > 0) == due, f"1/{share} replaced"
    filled.execute("DELETE FROM items WHERE id % 3 > 0")
    assert calibrations(filled, "VACUUM (INDEX_CLEANUP ON) items") > 0
    assert recall(filled, seed) > 0.88
    check_indexes(filled)


def test_a_session_notices(filled: Connection, seed: int, dsn: str) -> None:
    """A session that has read the meta page before takes over what VACUUM finds: it need not be careful any more."""
    recall(filled, seed)
    before = counters(filled)["lists_probed"]
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("VACUUM items")
    assert recall(filled, seed) > 0.88
    assert counters(filled)["lists_probed"] < before


def test_lists_are_clustered_anew(connection: Connection) -> None:
    """Lists that splits have made are replaced as far as pages are free: the file does not grow by that."""
    connection.autocommit = True
    create_table(connection, list_size=16)
    for turn in range(4):
        fill_near(connection, ROWS // 4, turn * ROWS // 4)
    connection.execute("CREATE TABLE another (id int)")
    before = info(connection, "pages")
    assert messages(connection, "VACUUM items", "winnow: lists clustered anew")
    assert info(connection, "pages") <= 1.02 * before
    check_indexes(connection)
    check_exact(connection, NEAREST, "items", ids=set(range(ROWS)))


def info(connection: Connection, column: str) -> int:
    record = connection.execute(f"SELECT {column} FROM winnow_index_info('items_index')").fetchone()
    assert record is not None
    return int(str(record[0]))


def test_parents_know_how_far_rows_are(connection: Connection) -> None:
    """Rows of a list are replaced by others farther away, or added: VACUUM tells its parent."""
    connection.autocommit = True
    connection.execute("CREATE TABLE items (id bigint, e vector(8))")
    # lists are split beyond 32 rows
    connection.execute("CREATE INDEX items_index ON items USING winnow (e vector_l2_ops) WITH (list_size = 26)")

    def add(first: int, count: int, length: float, offset: float = 0) -> None:
        """Pairs of opposite vectors, around a point far away or the origin."""
        for number in range(first, first + count):
            vector = [offset] * 8
            vector[number // 2 % 8] += length * (-1) ** number
            connection.execute("INSERT INTO items VALUES (%s, %s::real[]::vector)", [number, vector])

    def told() -> dict[int, float]:
        """The distances of lists, by their numbers of rows."""
        start = "winnow: below block"
        found = [text.split() for text in messages(connection, "VACUUM (INDEX_CLEANUP ON) items", start, "debug2")]
        return {int(words[6]): float(words[-1]) for words in found}

    add(0, 16, 1)
    add(100, 17, 1, offset=100)
    assert info(connection, "lists") == 2
    connection.execute("DELETE FROM items WHERE id BETWEEN 4 AND 15")
    add(16, 12, 3)
    assert told() == pytest.approx({16: (4 * 1 + 12 * 9) / 16})
    add(200, 2, 5)
    connection.execute("DELETE FROM items WHERE id = 116")
    # Rows as far away as these count as they are inserted, so that VACUUM has nothing to tell of their list.
    assert told() == pytest.approx({16: 1 + 1 / 17**2}, rel=1e-5)
    connection.execute("DELETE FROM items WHERE id IN (0, 1)")
    assert told() == pytest.approx({16: (2 * 1 + 12 * 9 + 2 * 25) / 16}, rel=1e-5)
