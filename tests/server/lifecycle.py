"""A database with winnow indexes of every kind, and whether one elsewhere is still that database.

A :class:`World` is made once, in one database.  What was copied from it by whatever means is then asked the same
questions, which must be answered as before, by the index as by a sequential scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from server.attributes import KINDS, SETUP, Column, Values, literal, simple_condition
from server.load import DIMS, vector
from server.oracle import (
    INDEX_ONLY,
    Connection,
    check_indexes,
    complaint,
    index_scans,
    matching_rows,
    rows_of,
    table_scans,
)

ROWS = 250

# Each third of the types of attributes has a table with one of the metrics.
TABLES = {
    "by_l2": ("vector_l2_ops", "<->"),
    "by_ip": ("vector_ip_ops", "<#>"),
    "by_cosine": ("vector_cosine_ops", "<=>"),
}

OTHERS = f"""
    CREATE TABLE partial (id bigint, kept integer, e vector({DIMS}));
    CREATE INDEX partial_index ON partial USING winnow (e vector_l2_ops) WITH (list_size = 10, bits = 5)
        WHERE kept > 20;

    CREATE TABLE expression (id bigint, label varchar, e vector);
    CREATE INDEX expression_index ON expression
        USING winnow (lower(label) varchar_ops, ((e::vector({DIMS}))) vector_cosine_ops)
        WITH (list_size = 64, bits = 2);

    CREATE TABLE parted (id bigint, part integer, e vector({DIMS})) PARTITION BY RANGE (part);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (50);
    CREATE INDEX parted_index ON parted USING winnow (e vector_l2_ops, part) WITH (list_size = 8);
    CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (50) TO (100);

    CREATE MATERIALIZED VIEW seen AS SELECT id, kept, e FROM partial;
    CREATE INDEX seen_index ON seen USING winnow (kept, e) WITH (list_size = 8);
"""


@dataclass(frozen=True)
class Question:
    """A table, the distance by which its rows are ordered, and a WHERE clause."""

    table: str
    distance: str
    where: str


class World:
    """The database, with rows that came before and after the indexes, and some that went."""

    def __init__(self, connection: Connection, seed: str) -> None:
        self.rng = rng = Random(seed)
        self._next_id = 0
        connection.execute(f"CREATE EXTENSION IF NOT EXISTS winnow; {SETUP}")
        self.columns = {
            table: [Column.random(rng, f"c{number}", kind) for number, kind in enumerate(KINDS[start :: len(TABLES)])]
            for start, table in enumerate(TABLES)
        }
        for table, columns in self.columns.items():
            declarations = "".join(f", {column.name} {column.kind.column_type}" for column in columns)
            connection.execute(f"CREATE TABLE {table} (id bigint, e vector({DIMS}){declarations})")
        self._insert_typed(connection)
        for table, (opclass, _) in TABLES.items():
            names = ", ".join(column.name for column in self.columns[table])
            connection.execute(
                f"CREATE INDEX {table}_index ON {table} USING winnow (e {opclass}, {names}) WITH (list_size = 8)"
            )
        connection.execute(OTHERS)
        self.change(connection)
        self.questions = [*self._typed_questions(), *self._other_questions()]

    def change(self, connection: Connection) -> None:
        """Rows come, so that lists are split, others go, and pages are used again."""
        for _ in range(2):
            self._insert_typed(connection)
            self._insert_others(connection)
            for table in (*TABLES, "partial", "expression", "parted"):
                connection.execute(f"DELETE FROM {table} WHERE id % 5 = {self.rng.randrange(5)}")
            connection.execute("REFRESH MATERIALIZED VIEW seen")
            connection.execute("VACUUM (INDEX_CLEANUP ON)")

    def _ids(self) -> range:
        self._next_id += ROWS
        return range(self._next_id - ROWS, self._next_id)

    def _insert_typed(self, connection: Connection) -> None:
        for table, columns in self.columns.items():
            with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for number in self._ids():
                    e = None if number % 40 == 0 else vector(self.rng)
                    copy.write_row((number, e, *(column.value(self.rng) for column in columns)))

    def _insert_others(self, connection: Connection) -> None:
        for table in ("partial", "expression", "parted"):
            with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for number in self._ids():
                    copy.write_row((number, self.rng.randrange(100), vector(self.rng)))

    def _typed_questions(self) -> list[Question]:
        questions = []
        for table, (_, operator) in TABLES.items():
            for column in [None, *self.columns[table]]:
                where = "true" if column is None else simple_condition(self.rng, column, Values(prepared=False))
                questions.append(Question(table, self._distance("e", operator), where))
        return questions

    def _other_questions(self) -> list[Question]:
        return [
            Question("partial", self._distance("e", "<->"), "kept > 20"),
            Question("expression", self._distance(f"(e::vector({DIMS}))", "<=>"), "lower(label) < '7'"),
            Question("parted", self._distance("e", "<->"), "part BETWEEN 30 AND 60"),
            Question("parted", self._distance("e", "<->"), "part < 30"),
            Question("seen", self._distance("e", "<->"), "kept <> 7"),
        ]

    def _distance(self, column: str, operator: str) -> str:
        return f"{column} {operator} {literal(vector(self.rng), 'vector')}"

    def answers(self, connection: Connection) -> list[dict[int, tuple[float, ...]]]:
        """Check every index, and return all rows that answer each question, by id, with their distances.

        The index must find the same as a sequential scan.
        """
        check_indexes(connection)
        return [self._answer(connection, question) for question in self.questions]

    def _answer(self, connection: Connection, question: Question) -> dict[int, tuple[float, ...]]:
        sql = f"SELECT id, {question.distance} FROM {question.table} WHERE {question.where}"
        matching = matching_rows(connection, f"{sql} AND e IS NOT NULL")
        connection.execute(f"{INDEX_ONLY}; SET winnow.recall = 1")
        for limit in (10, None):
            ordered = f"{sql} ORDER BY {question.distance}" + (f" LIMIT {limit}" if limit else "")
            plan = connection.execute(f"EXPLAIN (FORMAT JSON) {ordered}").fetchone()
            assert plan is not None
            # A condition that is never true needs no scan.
            assert index_scans(plan[0]) or not table_scans(plan[0]), f"no index scan: {ordered}\n{plan[0]}"
            found = rows_of(connection.execute(ordered).fetchall())
            wrong = complaint(found, matching, limit=limit, exact=True, ordered=True)
            assert wrong is None, f"{ordered}\n{wrong}"
        return {row.id: row.distances for row in matching.values()}
