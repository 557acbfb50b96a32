"""How much WAL inserts write: the row's record, and now and then the pages of a list that is split."""

from __future__ import annotations

from random import Random

from server.oracle import Connection

DIMENSIONS = 256
BUILT = 4000
INSERTED = 1000


def rows(rng: Random, count: int) -> list[tuple[str, int, str]]:
    def row() -> tuple[str, int, str]:
        vector = [rng.gauss(0, 1) for _ in range(DIMENSIONS)]
        return str(vector), rng.randrange(1000), f"name {rng.randrange(100)}"

    return [row() for _ in range(count)]


def insert(connection: Connection, table: str, values: list[tuple[str, int, str]]) -> int:
    """Insert the rows; the bytes of WAL that took."""

    def position() -> int:
        record = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        assert record is not None
        return int(str(record[0]))

    before = position()
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s, %s)", values)
    return position() - before


def test_inserts_write_little(connection: Connection, seed: int) -> None:
    """Also where lists are split, and head pages are added, whose images are mostly free slots."""
    rng = Random(f"{seed}-wal")
    connection.autocommit = True
    built, first, second = rows(rng, BUILT), rows(rng, INSERTED), rows(rng, INSERTED)
    written = {}
    for table in ("plain", "indexed"):
        connection.execute(f"CREATE TABLE {table} (e vector({DIMENSIONS}), number integer, name text)")
        insert(connection, table, built)
        if table == "indexed":
            connection.execute("CREATE INDEX ON indexed USING winnow (e vector_l2_ops, number, name)")
        connection.execute("CHECKPOINT")
        insert(connection, table, first)
        written[table] = insert(connection, table, second)
    per_row = (written["indexed"] - written["plain"]) / INSERTED
    assert 60 < per_row < 400
