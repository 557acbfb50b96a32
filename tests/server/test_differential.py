"""Random tables, indexes and queries: the index against the sequential scan.

Every round makes a table with a vector column and attribute columns of random types, an index over them, changes the
table in random ways and asks random queries.  ``WINNOW_DIFFERENTIAL_ROUNDS`` sets their number.  A round depends only
on the seed and its own number: ``WINNOW_SEED=... pytest -k 'differential and [17]'`` repeats one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from server.attributes import FOLDED, KINDS, SETUP, SETUP_ICU, Column, Values, condition_tree, literal, where_clause
from server.oracle import (
    INDEX_ONLY,
    Connection,
    Row,
    check_indexes,
    complaint,
    index_scans,
    matching_rows,
    rows_of,
    table_scans,
    winnow_indexes,
)

ROUNDS = int(os.environ.get("WINNOW_DIFFERENTIAL_ROUNDS", "100"))
QUERIES = 16

METRICS = {"vector_l2_ops": "<->", "vector_ip_ops": "<#>", "vector_cosine_ops": "<=>"}
LEVELS = ("scalar", "neon", "avx2", "avx512", "avx512_vpopcnt")
FLAVOURS = ("plain", "plain", "plain", "partial", "expression", "partitioned", "unlogged", "temporary")


class Vectors:
    """Draws vectors of a kind: clustered, with duplicates and zero vectors, of some scale."""

    def __init__(self, rng: Random, dims: int) -> None:
        self._rng = rng
        self._np = np.random.default_rng(rng.getrandbits(64))
        self._scale = rng.choice([1, 1, 1, 1, 1e-3, 1e3, 1e-15, 1e15])
        self._spread = rng.choice([0.0, 0.01, 0.3, 2.0])
        self._whole = rng.random() < 0.15
        self._centres = self._np.standard_normal((rng.choice([1, 3, 20]), dims)).astype(np.float32)
        self._drawn: list[str] = []

    def draw(self) -> str:
        chance = self._rng.random()
        if self._drawn and chance < 0.1:
            return self._rng.choice(self._drawn)
        centre = self._centres[self._rng.randrange(len(self._centres))]
        vector = centre + self._spread * self._np.standard_normal(len(centre))
        if chance > 0.98:
            vector = np.zeros_like(centre)
        elif self._whole:
            vector = np.rint(2 * vector)
        text = vector_text((vector * self._scale).astype(np.float32))
        self._drawn.append(text)
        return text

    def draw_or_null(self) -> str | None:
        return None if self._rng.random() < 0.04 else self.draw()


def vector_text(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


@dataclass
class Query:
    """A statement without LIMIT, with how to ask for its distances."""

    where: str
    queries: list[str]
    values: Values


class World:
    """One round's table, its index, and what is asked of them."""

    def __init__(self, connection: Connection, seed: str) -> None:
        self.connection = connection
        self.rng = rng = Random(seed)
        self.flavour = rng.choice(FLAVOURS)
        self.opclass, self.operator = rng.choice(list(METRICS.items()))
        self.dims = self._random_dims()
        self.rows = rng.choice([0, 5, 60, 300, 600]) if self.dims <= 200 else 60_000 // self.dims
        self.vectors = Vectors(rng, self.dims)
        self.next_id = 0
        self.history: list[str] = []
        self.columns = self._random_columns()
        self.target = f"(e::vector({self.dims}))" if self.flavour == "expression" else "e"
        self.type = f"vector({self.dims})"

    def _random_dims(self) -> int:
        if self.rng.random() < 0.06:
            return self.rng.choice([2000, 16000])
        return self.rng.choice([1, 2, 3, 8, 63, 64, 65, self.rng.randint(1, 200)])

    def _random_columns(self) -> list[Column]:
        icu = self.connection.execute("SELECT FROM pg_collation WHERE collname = 'und-x-icu'").rowcount == 1
        self.run(SETUP + (SETUP_ICU if icu else ""))
        kinds = [*KINDS, *FOLDED] if icu else list(KINDS)
        rng = self.rng
        columns = [Column.random(rng, f"c{i}", rng.choice(kinds)) for i in range(rng.randint(0, 6))]
        if columns and rng.random() < 0.15:
            small = [str(i) for i in range(7)]
            columns[-1] = Column(
                "(other % 7)", next(kind for kind in KINDS if kind.type == "integer"), small, stored=False
            )
        return columns

    @property
    def stored(self) -> list[Column]:
        return [column for column in self.columns if column.stored]

    def run(self, sql: str) -> None:
        self.history.append(sql if len(sql) < 500 else sql[:500] + "...")
        self.connection.execute(sql)

    # The table and its changes

    def create(self) -> None:
        columns = "".join(f", {column.name} {column.kind.column_type}" for column in self.stored)
        kind = {"temporary": "TEMPORARY ", "unlogged": "UNLOGGED "}.get(self.flavour, "")
        vector = "vector" if self.flavour == "expression" else self.type
        self.run(
            f"CREATE {kind}TABLE items (id integer, other integer, e {vector}{columns})"
            + (" PARTITION BY HASH (id)" if self.flavour == "partitioned" else "")
        )
        tables = ["items"]
        if self.flavour == "partitioned":
            tables = [f"items_{i}" for i in range(3)]
            for i, table in enumerate(tables):
                self.run(f"CREATE TABLE {table} PARTITION OF items FOR VALUES WITH (MODULUS 3, REMAINDER {i})")
        for table in tables:
            self.run(f"ALTER TABLE {table} SET (parallel_workers = 2)")

    def create_index(self) -> None:
        rng = self.rng
        columns = [column.name for column in self.columns]
        columns.insert(rng.randint(0, len(columns)), f"{self.target} {self.opclass}")
        concurrently = "CONCURRENTLY " if rng.random() < 0.2 and self.flavour != "partitioned" else ""
        self.run(f"SET maintenance_work_mem = '{rng.choice(['1MB', '64MB'])}'")
        self.run(f"SET max_parallel_maintenance_workers = {rng.choice([0, 2])}")
        self.run(
            f"CREATE INDEX {concurrently}items_index ON items USING winnow ({', '.join(columns)})"
            f" WITH (list_size = {rng.choice([8, 8, 8, 20, 64, 512])}, bits = {rng.choice([1, 1, 2, 4, 8])})"
            + (" WHERE other < 60" if self.flavour == "partial" else "")
        )

    def insert(self, count: int) -> None:
        names = ["id", "other", "e", *(column.name for column in self.stored)]
        records = []
        for _ in range(count):
            self.next_id += 1
            values = [column.value(self.rng) for column in self.stored]
            records.append([str(self.next_id), str(self.rng.randint(0, 99)), self.vectors.draw_or_null(), *values])
        if self.rng.random() < 0.5:
            self.history.append(f"COPY of {count} rows")
            with self.connection.cursor().copy(f"COPY items ({', '.join(names)}) FROM STDIN") as copy:
                for record in records:
                    copy.write_row(record)
            return
        types = ["integer", "integer", self.type, *(column.kind.type for column in self.stored)]
        for start in range(0, count, 50):
            tuples = ", ".join(
                "(" + ", ".join(literal(text, name) for text, name in zip(record, types, strict=True)) + ")"
                for record in records[start : start + 50]
            )
            self.run(f"INSERT INTO items ({', '.join(names)}) VALUES {tuples}")

    def change(self) -> None:
        """Do something to the table."""
        rng = self.rng
        some = f"id % {rng.randint(2, 9)} = {rng.randint(0, 1)}"
        changes: list[Callable[[], None]] = [
            lambda: self.insert(rng.randint(1, self.rows // 3 + 1)),
            lambda: self.run(f"DELETE FROM items WHERE {some}"),
            lambda: self.run(
                f"UPDATE items t SET e = s.e FROM items s WHERE s.id = t.id + {rng.randint(1, 9)} AND t.{some}"
            ),
            lambda: self.run(f"UPDATE items SET e = {literal(self.vectors.draw(), self.type)} WHERE {some}"),
            lambda: self.run(f"UPDATE items SET other = (other + 13) % 100 WHERE {some}"),
            lambda: self.run("VACUUM (INDEX_CLEANUP ON) items"),
            lambda: self.run("VACUUM (INDEX_CLEANUP ON, ANALYZE) items"),
            lambda: self.rolled_back(some),
        ]
        if self.stored:
            column = rng.choice(self.stored)
            new = literal(column.value(rng), column.kind.type)
            changes.append(lambda: self.run(f"UPDATE items SET {column.name} = {new} WHERE {some}"))
        if self.flavour != "partitioned":
            changes.append(lambda: self.run("REINDEX INDEX items_index"))
            changes.append(lambda: self.run("REINDEX INDEX CONCURRENTLY items_index"))
            changes.append(lambda: self.run("VACUUM FULL items"))
        rng.choice(changes)()

    def rolled_back(self, some: str) -> None:
        kept = self.rng.random() < 0.5
        self.run("BEGIN")
        self.insert(self.rng.randint(1, 40))
        self.run("SAVEPOINT s")
        self.insert(self.rng.randint(1, 40))
        self.run(f"DELETE FROM items WHERE {some}")
        self.run("ROLLBACK TO s")
        self.run("COMMIT" if kept else "ROLLBACK")

    # Queries

    def query(self, *, prepared: bool, orders: int = 1) -> Query:
        """Conditions and query vectors."""
        values = Values(prepared)
        where = where_clause(self.rng, self.columns, values)
        if self.flavour == "partial":
            where = where + (" AND " if where else "") + "other < 60"
        queries = [values.add(self.random_query(), self.type) for _ in range(orders)]
        return Query(f" WHERE {where}" if where else "", queries, values)

    def random_query(self) -> str:
        """A vector of the data, most of the time."""
        rng = self.rng
        if rng.random() < 0.9:
            return self.vectors.draw()
        return vector_text(np.array([rng.choice([0, 0, 0.5, -1]) for _ in range(self.dims)], dtype=np.float32))

    def distances(self, query: Query) -> str:
        return ", ".join(f"{self.target} {self.operator} {vector}" for vector in query.queries)

    def matching(self, query: Query) -> dict[int, Row]:
        where = (query.where + " AND " if query.where else " WHERE ") + "e IS NOT NULL"
        sql = f"SELECT id, {self.distances(query)} FROM items{where}"
        if not query.values.prepared:
            return matching_rows(self.connection, sql)
        self.prepare("oracle", query, sql)
        return matching_rows(self.connection, self.execute("oracle", query))

    def prepare(self, name: str, query: Query, sql: str) -> None:
        types = query.values.types
        self.connection.execute("SET plan_cache_mode = force_custom_plan")
        self.connection.execute(f"PREPARE {name}{'(' + ', '.join(types) + ')' if types else ''} AS {sql}")

    def execute(self, name: str, query: Query) -> str:
        arguments = query.values.arguments
        return f"EXECUTE {name}{'(' + ', '.join(arguments) + ')' if arguments else ''}"


@dataclass
class Asked:
    """A query as it is asked: settings and form."""

    world: World
    exact: bool
    level: str
    described: str = ""

    @classmethod
    def random(cls, world: World) -> Asked:
        return cls(world, world.rng.random() < 0.6, world.rng.choice(LEVELS))

    def set_up(self) -> None:
        connection = self.world.connection
        connection.execute("DEALLOCATE ALL")
        connection.execute(f"SET winnow.recall = {1 if self.exact else 0.95}; SET winnow.simd = {self.level}")

    def index_answer(self, sql: str) -> list[Row]:
        """The rows of a statement that must use the index."""
        connection = self.world.connection
        connection.execute(INDEX_ONLY)
        self.described = sql
        self.expect_index(sql)
        return rows_of(connection.execute(sql).fetchall())

    def expect_index(self, sql: str) -> None:
        connection = self.world.connection
        record = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()
        assert record is not None
        indexes = winnow_indexes(connection)
        covered = {indexes[name] for name in index_scans(record[0])}
        tables = {table for table in table_scans(record[0]) if table != "probes"}
        assert tables == covered, f"{self.report()}\nthe index is not used: {record[0]}"

    def expect(
        self, found: list[Row], matching: dict[int, Row], limit: int | None, offset: int = 0, ordered: bool = True
    ) -> None:
        wrong = complaint(found, matching, limit=limit, offset=offset, exact=self.exact, ordered=ordered)
        if wrong is not None:
            pytest.fail(f"{self.report()}\n{wrong}", pytrace=False)

    def report(self) -> str:
        history = "\n".join(self.world.history)
        sql = self.described if len(self.described) < 4000 else self.described[:4000] + "..."
        return f"{history}\n-- {'exact' if self.exact else 'default recall'}, {self.level}, {self.world.flavour}\n{sql}"


def random_limit(rng: Random) -> tuple[int | None, int]:
    limit = rng.choice([None, 0, 1, 5, 10, 10, 10, 37, 1000])
    return limit, rng.choice([0, 0, 0, 3, 50])


def limit_clause(limit: int | None, offset: int) -> str:
    return (f" LIMIT {limit}" if limit is not None else "") + (f" OFFSET {offset}" if offset else "")


def ask_plain(asked: Asked, *, orders: int = 1) -> None:
    """Literals or a prepared statement, custom or generic plan; perhaps with row locks."""
    world, rng = asked.world, asked.world.rng
    query = world.query(prepared=rng.random() < 0.5, orders=orders)
    limit, offset = random_limit(rng)
    matching = world.matching(query)
    sql = f"SELECT id, {world.distances(query)} FROM items{query.where} ORDER BY {world.distances(query)}"
    sql += limit_clause(limit, offset)
    if rng.random() < 0.1:
        sql += " FOR UPDATE"
    # A search that is deepened may find a nearer row late: not with the LIMIT known and every key in the index.
    if query.values.prepared:
        world.prepare("asked", query, sql)
        world.connection.execute(f"SET plan_cache_mode = force_{rng.choice(['custom', 'generic'])}_plan")
        sql = world.execute("asked", query)
    asked.expect(asked.index_answer(sql), matching, limit, offset, ordered=asked.exact)


def ask_two_orders(asked: Asked) -> None:
    ask_plain(asked, orders=2)


def ask_lateral(asked: Asked) -> None:
    """A scan with a LIMIT of its own, repeated for every row of another table."""
    world, rng = asked.world, asked.world.rng
    connection = world.connection
    column = rng.choice(world.columns) if world.columns and rng.random() < 0.6 else None
    if column is not None and not column.kind.ordered:
        column = None
    type_name = column.kind.type if column else "integer"
    world.connection.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS probes (n integer, q {world.type}, k {type_name})")
    records = []
    for n in range(4):
        records.append((n, world.vectors.draw(), column.constant(rng) if column else None))
    tuples = ", ".join(f"({n}, {literal(q, world.type)}, {literal(k, type_name)})" for n, q, k in records)
    connection.execute(f"INSERT INTO probes VALUES {tuples}")
    query = world.query(prepared=False, orders=0)
    where = query.where
    if column is not None:
        condition = f"{column.name} {rng.choice(['=', '<=', '>', 'IS DISTINCT FROM'])} p.k"
        if rng.random() < 0.5:
            condition = f"({condition} OR {condition_tree(rng, world.columns, query.values, 1)})"
        where = (where + " AND " if where else " WHERE ") + condition
    limit = rng.choice([1, 5, 10, 1000])
    distance = f"{world.target} {world.operator} p.q"
    not_null = (where + " AND " if where else " WHERE ") + "e IS NOT NULL"
    expected = []
    for n in range(4):
        inner = f"SELECT id, {distance} FROM items, probes p{not_null} AND p.n = {n}"
        expected.append(matching_rows(connection, inner))
    sql = (
        f"SELECT s.id, s.d, p.n FROM probes p CROSS JOIN LATERAL"
        f" (SELECT id, {distance} AS d FROM items{where} ORDER BY {distance} LIMIT {limit}) s"
    )
    answer = asked.index_answer(sql)
    for n in range(4):
        found = [Row(row.id, row.distances[:1]) for row in answer if row.distances[1] == n]
        asked.expect(found, expected[n], limit, ordered=asked.exact)
    connection.execute("DROP TABLE probes")


def ask_cursor(asked: Asked) -> None:
    """A cursor that is read in pieces while the table changes, which it must not notice."""
    world, rng = asked.world, asked.world.rng
    connection = world.connection
    query = world.query(prepared=False)
    limit, offset = random_limit(rng)
    matching = world.matching(query)
    connection.execute(INDEX_ONLY)
    asked.described = (
        f"SELECT id, {world.distances(query)} FROM items{query.where} ORDER BY {world.distances(query)}"
        + limit_clause(limit, offset)
    )
    asked.expect_index(asked.described)
    connection.execute("BEGIN")
    connection.execute(f"DECLARE c NO SCROLL CURSOR FOR {asked.described}")
    found: list[Row] = []
    while True:
        count = rng.choice([1, 2, 7, 50, 400])
        records = connection.execute(f"FETCH {count} FROM c").fetchall()
        found += rows_of(records)
        if len(records) < count:
            break
        if rng.random() < 0.3:
            world.insert(rng.randint(1, 30))
        if rng.random() < 0.1:
            world.run(f"DELETE FROM items WHERE id % 5 = {rng.randint(0, 4)}")
    connection.execute("COMMIT")
    asked.expect(found, matching, limit, offset, ordered=asked.exact)


def ask_subquery(asked: Asked) -> None:
    """Constants that are known only when the plan runs."""
    world, rng = asked.world, asked.world.rng
    ordered = [column for column in world.columns if column.kind.ordered]
    if not ordered:
        return
    column = rng.choice(ordered)
    query = world.query(prepared=False)
    constant = literal(column.constant(rng), column.kind.type)
    condition = f"{column.name} {rng.choice(['=', '>=', '<'])} (SELECT max(v) FROM (VALUES ({constant})) t(v))"
    if column.kind.type in ("boolean", "uuid", "bytea"):
        condition = f"{column.name} = (SELECT v FROM (VALUES ({constant})) t(v) LIMIT 1)"
    query.where = (query.where + " AND " if query.where else " WHERE ") + condition
    limit, offset = random_limit(rng)
    matching = world.matching(query)
    sql = f"SELECT id, {world.distances(query)} FROM items{query.where} ORDER BY {world.distances(query)}"
    asked.expect(asked.index_answer(sql + limit_clause(limit, offset)), matching, limit, offset, ordered=asked.exact)


FORMS = (ask_plain, ask_plain, ask_plain, ask_plain, ask_two_orders, ask_lateral, ask_cursor, ask_subquery)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_differential(connection: Connection, seed: int, number: int) -> None:
    connection.autocommit = True
    connection.prepare_threshold = None
    world = World(connection, f"{seed}-{number}")
    world.create()
    world.insert(world.rng.randint(0, world.rows))
    world.create_index()
    world.insert(world.rng.randint(0, world.rows))
    for _ in range(3):
        for _ in range(world.rng.randint(0, 3)):
            world.change()
        for _ in range(QUERIES // 3):
            asked = Asked.random(world)
            asked.set_up()
            try:
                world.rng.choice(FORMS)(asked)
            except psycopg.Error as error:
                pytest.fail(f"{asked.report()}\n{type(error).__name__}: {error}", pytrace=False)
        check_indexes(connection)
