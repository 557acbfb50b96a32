"""What is asked of a table that is somebody's own: which columns, which rows, which SQL.

A filter is an SQL condition in which ``$name`` stands for the value that the row a query is taken from has in column
``name``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import pq, sql
from psycopg.types import TypeInfo

from pgwinnow._tables import Column, Table, pick_column
from pgwinnow.bench.datasets import Vectors
from pgwinnow.bench.filters import identifier
from pgwinnow.bench.prepared import BenchError
from pgwinnow.bench.rivals import Effort, Ivfflat, Pgvector, Side, Winnow
from pgwinnow.errors import UnknownName
from pgwinnow.psycopg import register_type
from pgwinnow.types import Metric


class EitherOfPgvector(Pgvector):
    """HNSW and IVFFlat on one column: every effort sets the knobs of both, as the planner may take either."""

    def efforts(self) -> list[Effort]:
        """The n-th of one with the n-th of the other."""
        graph, lists = super().efforts(), Ivfflat(self.metric, self.recall).efforts()
        pairs = [
            (graph[min(n, len(graph) - 1)], lists[min(n, len(lists) - 1)]) for n in range(max(len(graph), len(lists)))
        ]
        return [Effort(f"{one.label}; {other.label}", {**one.settings, **other.settings}) for one, other in pairs]


METHODS: dict[str, Callable[[Metric, float], Side]] = {"winnow": Winnow, "hnsw": Pgvector, "ivfflat": Ivfflat}

# What the statements of a search return: which row, and how far.
ANSWER = np.dtype([("table", ">u4"), ("block", ">u4"), ("offset", ">u2"), ("distance", ">f8")])

# Comments, literals and names are passed over; "$name" and '$"Name"' are placeholders.
_PLACEHOLDER = re.compile(
    r"""
      --[^\r\n]* | /\*.*?\*/
    | [eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*'
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
    | \$"(?P<quoted>(?:[^"]|"")+)" | "(?:[^"]|"")*"
    | \$(?P<number>\d+) | \$(?P<name>[^\W\d]\w*)
    | [^\W\d][\w$]*
    """,
    re.DOTALL | re.VERBOSE,
)
_INDEXES = """
SELECT a.attname, m.amname, o.opcname
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
JOIN pg_opclass o ON o.oid = i.indclass[0]
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = %s AND i.indisvalid AND m.amname = ANY (%s)
"""
# Indexes that begin with the column or an expression over it, of the table or its partitions.
_OTHER_INDEXES = """
SELECT c.oid::regclass::text, t.oid::regclass::text, t.oid = %(table)s, t.relkind, i.indisvalid, i.indkey[0] = 0,
       pg_get_indexdef(c.oid, 1, true)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_am m ON m.oid = c.relam JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = %(column)s
WHERE m.amname = ANY (%(methods)s)
AND (t.oid = %(table)s OR t.oid IN (SELECT relid FROM pg_partition_tree(%(table)s::oid::regclass)))
AND (i.indkey[0] = a.attnum OR i.indkey[0] = 0 AND EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.refobjsubid = a.attnum))
ORDER BY t.oid = %(table)s DESC, 2, 1
"""
# With these, rows come from scans of the table and from indexes on other columns (vector indexes have no bitmap scans),
# whatever the role or the database has set.
_SCANS = {
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_seqscan": "on",
    "enable_sort": "on",
    "enable_bitmapscan": "on",
    "enable_tidscan": "on",
}

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
        if not text.strip():
            raise BenchError("a filter is empty", "--filter takes an SQL condition; leave it out to search all rows")
        matches = list(_PLACEHOLDER.finditer(text))
        if numbered := next((match[0] for match in matches if match["number"]), None):
            raise BenchError(
                f"{numbered} in the filter {text!r} is no placeholder",
                "a placeholder names a column: $price stands for the price of the row that the query is taken from",
            )
        names = (placeholder(match) for match in matches)
        return cls(text, tuple(dict.fromkeys(name for name in names if name is not None)))

    def check(self, columns: dict[str, Column], table: Table) -> None:
        """UnknownName where a placeholder stands for no column of the table, or is quoted with its dollar."""
        for match in _PLACEHOLDER.finditer(self.text):
            if match[0].startswith('"$') and match[0] not in map(identifier, columns):
                raise UnknownName(
                    f"table {table} has no column {match[0]}, as in the filter {self.text!r}",
                    f'the quotes of a placeholder come after the dollar: $"{match[0][2:]}',
                )
        for name in self.names:
            alike = [other for other in columns if other.lower() == name.lower()]
            if name not in columns and alike:
                meant = " or ".join("$" + identifier(other) for other in alike)
                raise UnknownName(
                    f"table {table} has no column {name!r}", f"capital letters are kept in quotes only: {meant}"
                )
            pick_column(columns, name, table)

    def sql(self, columns: dict[str, Column], first: int) -> str:
        """The condition with parameters from number ``first`` on, each of its column's type."""

        def parameter(match: re.Match[str]) -> str:
            name = placeholder(match)
            if name is None:
                return match[0]
            return f"(${first + self.names.index(name)}::{columns[name].formatted})"

        return _PLACEHOLDER.sub(parameter, self.text)


def placeholder(match: re.Match[str]) -> str | None:
    """The column that a match stands for; None where it is a literal, a comment or a name."""
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
        return key(*self.places[query])


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
        raise no_index(connection, table, column)
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
            side = EitherOfPgvector if {"hnsw", "ivfflat"} <= set(methods) else METHODS[methods[0]]
            found.append(Target(columns[name], side(chosen, recall)))
    if not found or found[0].column is not column:
        raise BenchError(
            f"column {column.name!r} of table {table} has no index for the distance {chosen.value}",
            f"it is indexed for {', '.join(each.value for each in metrics)}",
        )
    return found


def no_index(connection: psycopg.Connection[Any], table: Table, column: Column) -> BenchError:
    """Why no index of the column can be measured, and what to do about it."""
    row = connection.execute(
        "SELECT relkind, format('%%I.%%I', %s::text, %s::text), format('%%I', %s::text), EXISTS ("
        "SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod WHERE m.amname = 'winnow' AND opcintype = %s"
        ") FROM pg_class WHERE oid = %s",
        [table.schema, table.name, column.name, column.type_oid, table.oid],
    ).fetchone()
    kind, name, vector, ours = row or ("r", str(table), column.name, True)
    if kind in ("v", "f"):
        return BenchError(
            f"{table} is a {'view' if kind == 'v' else 'foreign table'}, which has no indexes of its own",
            "name the table that it reads, which has the rows and their index: --table",
        )
    others = connection.execute(
        _OTHER_INDEXES, {"table": table.oid, "column": column.name, "methods": list(METHODS)}
    ).fetchall()
    of_column = f"column {column.name!r} of table {table}"
    for index, holder, own, holder_kind, valid, expression, definition in others:
        if not own:
            return BenchError(
                f"{of_column} has no index, although the partition {holder} has one: {index}",
                f"measure the partition, --table {shlex.quote(holder)}; or CREATE INDEX on {name}, which takes over"
                " the equal indexes of partitions",
            )
        if expression:
            return BenchError(
                f"{of_column} has no index: {index} is one on the expression {definition}",
                "only indexes on a column itself are measured; change the column's type instead, or store the"
                " expression in a generated column",
            )
        if not valid:
            mend = f"ALTER INDEX {index} ATTACH PARTITION, for every partition"
            return BenchError(
                f"index {index} on {of_column} is not valid and not searched",
                f"{mend if holder_kind == 'p' else f'REINDEX INDEX {index}'}, then measure again",
            )
    create = f"pgwinnow index create --table {shlex.quote(name)} --vector {shlex.quote(column.name)}"
    if not ours:
        opclass = f"{column.type_schema}.{Metric.COSINE.opclass}"
        create = f"CREATE INDEX ON {name} USING hnsw ({vector} {opclass})"
    return BenchError(f"{of_column} has no index of winnow's or pgvector's", f"{create}, then measure again")


def draw_sample(
    connection: psycopg.Connection[Any],
    table: Table,
    target: Target,
    condition: Condition | None,
    count: int,
    seed: int,
) -> Sample:
    """Rows that have a vector and all values that the placeholders need, the same ones for the same seed."""
    column, names = target.column, condition.names if condition else ()
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
        message, hint = f"table {table} has no row to take a query from", f"a query needs a row with {column.name}"
        if condition and names:
            message += f" for the filter {condition.text!r}"
            hint = (
                f"a query needs a row with {', '.join([column.name, *names])}; NULL is never put in for a placeholder,"
                " not even beside IS NOT DISTINCT FROM"
            )
        raise BenchError(message, hint)
    return Sample(
        [(row[0], row[1]) for row in rows],
        np.stack([row[2] for row in rows]).astype(np.float32),
        [dict(zip(names, row[3:], strict=True)) for row in rows],
    )


def count_rows(connection: psycopg.Connection[Any], table: Table, target: Target) -> int:
    """Rows that have a vector."""
    query = sql.SQL("SELECT count({}) FROM {}").format(sql.Identifier(target.column.name), table.identifier)
    total = connection.execute(query).fetchone()
    return int(total[0]) if total else 0


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
    """No vector index gives an order or leaves a row out, whatever the settings are outside.

    There is no savepoint to go back to: psycopg may deallocate all prepared statements with it.
    """
    read = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
    write = "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS s (name, value)"
    before = dict(connection.execute(read, [list(_SCANS)]).fetchall())
    connection.execute(write, [list(_SCANS), list(_SCANS.values())])
    try:
        yield
    finally:
        if connection.info.transaction_status == pq.TransactionStatus.INTRANS:  # else it is to be rolled back anyway
            connection.execute(write, [list(before), list(before.values())])


def ordering_index(explained: str) -> str | None:
    """An index that rows come from in the order of a distance, from EXPLAIN in JSON."""
    stack = [json.loads(explained)[0]["Plan"]]
    while stack:
        node = stack.pop()
        if "Order By" in node:
            return str(node.get("Index Name", "of unknown name"))
        stack.extend(node.get("Plans", ()))
    return None


def check_filter(
    connection: psycopg.Connection[Any],
    table: Table,
    target: Target,
    condition: Condition,
    columns: dict[str, Column],
) -> None:
    """Raise BenchError where the server does not understand the condition; nothing is executed."""
    statement = f"EXPLAIN {count_sql(table, target, condition, columns).as_string(connection)}"
    run_filter(psycopg.RawCursor(connection), condition, statement, [None] * (2 + len(condition.names)))


def run_filter(
    cursor: psycopg.RawCursor[Any], condition: Condition | None, statement: str, values: Sequence[Any]
) -> psycopg.RawCursor[Any]:
    """Execute a statement that holds the user's condition, and blame the condition for what goes wrong."""
    try:
        return cursor.execute(statement.encode(), values)
    except psycopg.Error as error:
        if condition is None:
            raise
        reason = (error.diag.message_primary or str(error)).partition("\n")[0]
        raise BenchError(
            f"the filter {condition.text!r} failed: {reason}",
            error.diag.message_hint or "--filter takes an SQL condition; $name stands for a row's value of a column",
        ) from error


def where(condition: Condition | None, columns: dict[str, Column], first: int) -> sql.Composed:
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
        where=where(condition, columns, 2),
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
        where=where(condition, columns, 3),
    )


def passing(
    connection: psycopg.Connection[Any],
    table: Table,
    condition: Condition,
    columns: dict[str, Column],
    values: Sequence[str],
    answers: Answers,
) -> set[Key]:
    """The answers that satisfy the condition, by looking at these rows alone and at no vector index."""
    statement = sql.SQL("SELECT tableoid::bigint, ctid::text FROM {} WHERE ctid = ANY ($1::tid[]) AND ({}\n)").format(
        table.identifier, sql.SQL(condition.sql(columns, 2))
    )
    places = [f"({block},{offset})" for block, offset in zip(answers["block"], answers["offset"], strict=True)]
    with without_index_scans(connection):
        cursor = psycopg.RawCursor(connection)
        found = run_filter(cursor, condition, statement.as_string(connection), [places, *values]).fetchall()
    return {key(oid, place) for oid, place in found} & set(keys(answers))  # partitions have rows of the same ctid


def read(result: pq.abc.PGresult) -> Answers:
    """Rows of a search; those without a vector come last, if at all, and are left out."""
    rows = []
    for row in range(result.ntuples):
        values = [result.get_value(row, n) for n in range(result.nfields)]
        rows += [b"".join(value for value in values if value is not None)] if None not in values else []
    return np.frombuffer(b"".join(rows), dtype=ANSWER)


def key(table: int, place: str) -> Key:
    """The row of this tableoid and ctid, as answers name it."""
    block, offset = place.strip("()").split(",")
    return np.array([(table, int(block), int(offset), 0.0)], dtype=ANSWER).tobytes()[:10]


def keys(answers: Answers) -> list[Key]:
    """The rows that answers name."""
    return [row.tobytes()[:10] for row in answers]
