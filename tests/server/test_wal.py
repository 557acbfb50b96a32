"""How much WAL inserts write: the row's record, and now and then the pages of a list that is split."""

from __future__ import annotations

from random import Random

from server.oracle import Connection

BUILT = 4000
INSERTED = 1000
TEXTS = 12
"""Columns of 16 bytes in the index: a head page has room for some 40 rows."""


def rows(rng: Random, count: int, dimensions: int, texts: int) -> list[list[str]]:
    def row() -> list[str]:
        return [str([rng.gauss(0, 1) for _ in range(dimensions)]), *(f"text {rng.randrange(9)}" for _ in range(texts))]

    return [row() for _ in range(count)]


def insert(connection: Connection, table: str, values: list[list[str]]) -> int:
    """Insert the rows; the bytes of WAL that took."""

    def position() -> int:
        record = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        assert record is not None
        return int(str(record[0]))

    before = position()
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(values[0]))})", values)
    return position() - before


def per_row(connection: Connection, rng: Random, dimensions: int, texts: int) -> float:
    """Bytes of WAL that the index takes for a row, after most of its pages have been touched."""
    connection.autocommit = True
    built, first, second = (rows(rng, count, dimensions, texts) for count in (BUILT, INSERTED, INSERTED))
    names = [f"t{number}" for number in range(texts)]
    written = {}
    for table in ("plain", "indexed"):
        columns = ", ".join([f"e vector({dimensions})", *(f"{name} text" for name in names)])
        connection.execute(f"CREATE TABLE {table} ({columns})")
        insert(connection, table, built)
        if table == "indexed":
            connection.execute(f"CREATE INDEX ON indexed USING winnow ({', '.join(['e vector_l2_ops', *names])})")
        connection.execute("CHECKPOINT")
        insert(connection, table, first)
        written[table] = insert(connection, table, second)
    return (written["indexed"] - written["plain"]) / INSERTED


def test_inserts_write_little(connection: Connection) -> None:
    assert 60 < per_row(connection, Random("wal"), 256, 1) < 400


def test_images_of_head_pages_are_compressed(connection: Connection) -> None:
    """A head page is logged when it is added, with its free slots: that would be 200 bytes for each of its rows."""
    assert per_row(connection, Random("wal-heads"), 8, TEXTS) < 470
