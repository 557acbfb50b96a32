"""What is asked of a table that is somebody's own: which columns, which rows, which SQL.

A filter is an SQL condition in which ``$name`` stands for the value that the row a query is taken from has in column
``name``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import pq, sql
from psycopg.types import TypeInfo

from pgwinnow._tables import Column, Table
from pgwinnow.bench.datasets import Vectors
from pgwinnow.bench.prepared import BenchError
from pgwinnow.bench.rivals import Ivfflat, Pgvector, Side, Winnow
from pgwinnow.psycopg import register_type
from pgwinnow.types import Metric

METHODS: dict[str, Callable[[Metric, float], Side]] = {
    "winnow": Winnow,
    "hnsw": Pgvector,
    "ivfflat": Ivfflat,
}  # in this order, where a column has several

# What the statements of a search return: which row, and how far.
ANSWER = np.dtype([("table", ">u4"), ("block", ">u4"), ("offset", ">u2"), ("distance", ">f8")])

# Literals and quoted names are passed over; "$name" and '$"Name"' are placeholders.
_PLACEHOLDER = re.compile(r"""'(?:[^']|'')*'|\$"(?P<quoted>(?:[^"]|"")+)"|"(?:[^"]|"")*"|\$(?P<name>[^\W\d]\w*)""")
_INDEXES = """
SELECT a.attname, m.amname, o.opcname
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
JOIN pg_opclass o ON o.oid = i.indclass[0]
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = %s AND i.indisvalid AND m.amname = ANY (%s)
"""

Answers = npt.NDArray[Any]  # of ANSWER
Key = bytes  # of a row: the first three fields of ANSWER


@dataclass(frozen=True)
class Target:
    """A vector column that is searched, with the side whose settings steer its index."""

    column: Column
    side: Side

    def distance(self, parameter: str) -> sql.Composed:
        """The distance of a row from a parameter, whatever the search path."""
        schema = self.column.type_schema
        return sql.SQL("{} OPERATOR({}.{}) {}::{}").format(
            sql.Identifier(self.column.name),
            sql.Identifier(schema),
            sql.SQL(self.side.metric.operator),
            sql.SQL(parameter),
            sql.Identifier(schema, "vector"),
        )


@dataclass(frozen=True)
class Condition:
    """A filter of the user's with its placeholders."""

    text: str
    names: tuple[str, ...]  # columns that placeholders stand for, each once

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Find the placeholders of a condition."""
        names = (placeholder(match) for match in _PLACEHOLDER.finditer(text))
        return cls(text, tuple(dict.fromkeys(name for name in names if name is not None)))

    def sql(self, columns: dict[str, Column], first: int) -> str:
        """The condition with parameters from number ``first`` on, each of its column's type."""

        def parameter(match: re.Match[str]) -> str:
            name = placeholder(match)
            if name is None:
                return match[0]
            return f"(${first + self.names.index(name)}::{columns[name].formatted})"

        return _PLACEHOLDER.sub(parameter, self.text)


def placeholder(match: re.Match[str]) -> str | None:
    """The column that a match stands for; None where it is a literal or a quoted name."""
    if match["quoted"] is not None:
        return match["quoted"].replace('""', '"')
    return match["name"].lower() if match["name"] is not None else None


@dataclass(frozen=True)
class Sample:
    """Rows of the table that serve as queries."""

    places: Sequence[tuple[int, str]]  # tableoid, ctid
    vectors: Vectors
    values: Sequence[dict[str, str]]  # by column, in text form

    def key(self, query: int) -> Key:
        """The row itself, as answers name it."""
        table, place = self.places[query]
        block, offset = place.strip("()").split(",")
        return np.array([(table, int(block), int(offset), 0.0)], dtype=ANSWER).tobytes()[:10]


def find_targets(
    connection: psycopg.Connection[Any],
    table: Table,
    columns: dict[str, Column],
    column: Column,
    metric: Metric | None,
    recall: float,
) -> list[Target]:
    """The column with its index, and a column of the other extension's type that is indexed for the same distance."""
    rows = connection.execute(_INDEXES, [table.oid, list(METHODS)]).fetchall()
    indexed = [(name, method, each) for name, method, opclass in rows for each in Metric if each.opclass == opclass]
    own = [(method, each) for name, method, each in indexed if name == column.name]
    if not own:
        raise BenchError(
            f"column {column.name!r} of table {table} has no index of winnow's or pgvector's",
            f"pgwinnow index create --table {table} --vector {column.name}, then measure again",
        )
    metrics = list(dict.fromkeys(each for _, each in own))
    if metric is None and len(metrics) > 1:
        raise BenchError(
            f"column {column.name!r} of table {table} is indexed for {', '.join(each.value for each in metrics)}",
            "name one of them: --metric",
        )
    chosen = metric or metrics[0]
    found: list[Target] = []
    for name in [column.name, *(name for name in columns if name != column.name)]:
        methods = [method for each, method, by in indexed if each == name and by is chosen]
        ours = "winnow" in methods
        taken = [isinstance(target.side, Winnow) for target in found]
        if methods and ours not in taken and columns[name].is_vector:
            side = METHODS[min(methods, key=list(METHODS).index)]
            found.append(Target(columns[name], side(chosen, recall)))
    if not found or found[0].column is not column:
        raise BenchError(
            f"column {column.name!r} of table {table} has no index for the distance {chosen.value}",
            f"it is indexed for {', '.join(each.value for each in metrics)}",
        )
    return found


def draw_sample(
    connection: psycopg.Connection[Any],
    table: Table,
    targets: Sequence[Target],
    names: Sequence[str],
    count: int,
    seed: int,
) -> tuple[Sample, int]:
    """Rows that have a vector and all values that placeholders need, the same ones for the same seed; and all rows."""
    column = targets[0].column
    parts = {
        "table": table.identifier,
        "vector": sql.Identifier(column.name),
        "values": sql.SQL("").join(sql.SQL(", {}::text").format(sql.Identifier(name)) for name in names),
        "present": sql.SQL("").join(sql.SQL(" AND {} IS NOT NULL").format(sql.Identifier(name)) for name in names),
    }
    cursor = connection.cursor()
    register_type(TypeInfo("vector", column.type_oid, 0), cursor)
    cursor.execute(
        sql.SQL(
            "SELECT tableoid::bigint, ctid::text, {vector}{values} FROM {table} WHERE {vector} IS NOT NULL{present}"
            " ORDER BY hashtextextended(tableoid::text || ctid::text, %s) LIMIT %s"
        ).format(**parts),
        [seed, count],
    )
    rows = cursor.fetchall()
    if not rows:
        raise BenchError(
            f"table {table} has no row to take a query from",
            f"rows need a value in {', '.join([column.name, *names])}",
        )
    total = connection.execute(
        sql.SQL("SELECT count(*) FROM {table} WHERE {vector} IS NOT NULL").format(**parts)
    ).fetchone()
    sample = Sample(
        [(row[0], row[1]) for row in rows],
        np.stack([row[2] for row in rows]).astype(np.float32),
        [dict(zip(names, row[3:], strict=True)) for row in rows],
    )
    return sample, int(total[0]) if total else 0


def same_vectors(connection: psycopg.Connection[Any], table: Table, target: Target, sample: Sample) -> bool:
    """Whether the target's column holds the vectors of the sample, so that answers can be compared."""
    cursor = connection.cursor()
    register_type(TypeInfo("vector", target.column.type_oid, 0), cursor)
    cursor.execute(
        sql.SQL("SELECT tableoid::bigint, ctid::text, {} FROM {} WHERE ctid = ANY (%s::tid[])").format(
            sql.Identifier(target.column.name), table.identifier
        ),
        [[place for _, place in sample.places]],
    )
    held = {(oid, place): vector for oid, place, vector in cursor}
    return all(
        (vector := held.get(place)) is not None and np.array_equal(vector, asked)
        for place, asked in zip(sample.places, sample.vectors, strict=True)
    )


@contextmanager
def without_index_scans(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """No index gives an order or leaves a row out; bitmap scans stay, as no vector index has them."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL enable_indexscan = off")
        connection.execute("SET LOCAL enable_indexonlyscan = off")
        yield


def run_filter(cursor: psycopg.RawCursor[Any], statement: str, values: Sequence[Any]) -> psycopg.RawCursor[Any]:
    """Execute a statement that holds the user's condition, and blame the condition for what goes wrong."""
    try:
        return cursor.execute(statement.encode(), values)
    except psycopg.Error as error:
        raise BenchError(
            f"the filter failed: {error.diag.message_primary or error}",
            error.diag.message_hint or "--filter takes an SQL condition; $name stands for a row's value of a column",
        ) from error


def where(target: Target, condition: Condition | None, columns: dict[str, Column], first: int) -> sql.Composed:
    """The WHERE clause of the condition; a line of its own, so that a comment at its end ends there."""
    if condition is None:
        return sql.Composed([])
    return sql.SQL(" WHERE (") + sql.SQL(condition.sql(columns, first)) + sql.SQL("\n)")


def search_sql(
    table: Table, target: Target, condition: Condition | None, columns: dict[str, Column], limit: int
) -> sql.Composed:
    """The search: $1 is the vector, the condition's values follow."""
    return sql.SQL("SELECT tableoid, ctid, {distance} FROM {table}{where} ORDER BY {distance} LIMIT {limit}").format(
        distance=target.distance("$1"),
        table=table.identifier,
        where=where(target, condition, columns, 2),
        limit=sql.Literal(limit),
    )


def count_sql(table: Table, target: Target, condition: Condition | None, columns: dict[str, Column]) -> sql.Composed:
    """Rows that match, and whether the row of tableoid $1 and ctid $2 is one; the condition's values follow."""
    return sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE tableoid = $1::oid AND ctid = $2::tid)"
        " FROM (SELECT tableoid, ctid, {vector} FROM {table}{where}) AS matching WHERE {vector} IS NOT NULL"
    ).format(
        vector=sql.Identifier(target.column.name),
        table=table.identifier,
        where=where(target, condition, columns, 3),
    )


def read(result: pq.abc.PGresult) -> Answers:
    """Rows of a search; those without a vector come last, if at all, and are left out."""
    rows = []
    for row in range(result.ntuples):
        values = [result.get_value(row, n) for n in range(result.nfields)]
        rows += [b"".join(value for value in values if value is not None)] if None not in values else []
    return np.frombuffer(b"".join(rows), dtype=ANSWER)


def keys(answers: Answers) -> list[Key]:
    """The rows that answers name."""
    return [row.tobytes()[:10] for row in answers]
