"""Recall and time of searches in a table that is somebody's own, which is read and nothing else.

Everything happens in one read-only transaction of one snapshot: queries are the vectors of rows of the table itself,
the values of filters are those of the same row, the exact answers come from scans in the server that use no vector
index. A row is no answer to its own query: where it satisfies the filter, one row more is asked for and it is left
out.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import pq, sql
from psycopg.types import TypeInfo
from rich.progress import Progress

from pgwinnow import _tables
from pgwinnow._tables import Column, Table
from pgwinnow.bench.curve import trace
from pgwinnow.bench.datasets import Vectors
from pgwinnow.bench.measure import Contestant, Look, measure, steps
from pgwinnow.bench.prepared import BenchError, Call, Statement, vector_call
from pgwinnow.bench.report import Results
from pgwinnow.bench.rivals import Effort, Ivfflat, Pgvector, Side, Winnow, plan_kind
from pgwinnow.bench.run import Options, bar, circumstances, command
from pgwinnow.bench.truth import TIE, Score, Truth
from pgwinnow.bench.workloads import Workload
from pgwinnow.psycopg import register_type
from pgwinnow.types import Metric

NO_FILTER = "none"
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


class TableExact:
    """The exact answers to one condition, by scans in the server, and how good other answers are."""

    def __init__(self, sample: Sample, rows: int, k: int) -> None:
        self.sample = sample
        self.k = k
        self._rows = rows
        self.limits: list[int] = []  # rows to ask for: one more where the row itself is among the matching ones
        self._nearest: list[set[Key]] = []

    @property
    def rows(self) -> int:
        """Rows that have a vector."""
        return self._rows

    @property
    def queries(self) -> Vectors:
        """The sampled rows' vectors."""
        return self.sample.vectors

    def answer(
        self,
        connection: psycopg.Connection[Any],
        table: Table,
        target: Target,
        condition: Condition | None,
        columns: dict[str, Column],
    ) -> Truth:
        """Scan the table for every query: how many rows match, and which of them are nearest."""
        count = len(self.sample.places)
        matching, threshold = np.zeros(count, dtype=np.int64), np.full(count, np.nan)
        self.limits, self._nearest = [], []
        with without_index_scans(connection):
            cursor = psycopg.RawCursor(connection)
            counting = count_sql(table, target, condition, columns).as_string(connection)
            made: dict[int, Statement] = {}
            for i in range(count):
                place = self.sample.places[i]
                values = [self.sample.values[i][name] for name in condition.names] if condition else []
                row = run_filter(cursor, counting, [*place, *values]).fetchone()
                found, own = row if row else (0, 0)
                limit = self.k + own
                if limit not in made:
                    statement = search_sql(table, target, condition, columns, limit).as_string(connection)
                    made[limit] = Statement(connection, statement)
                result, _ = made[limit].execute(vector_call(self.queries[i], values))
                nearest = self.without_self(i, read(result))
                self.limits.append(limit)
                matching[i] = found - own
                self._nearest.append(set(keys(nearest)))
                if len(nearest):
                    threshold[i] = nearest["distance"][-1]
        return Truth(matching, np.minimum(matching, self.k), threshold)

    def without_self(self, query: int, answers: Answers) -> Answers:
        """The answers without the row that the query was taken from, at most k."""
        own = self.sample.key(query)
        return answers[np.array([key != own for key in keys(answers)], dtype=np.bool_)][: self.k]

    def score(self, workload: Workload, truth: Truth, query: int, ids: Answers) -> Score:
        """Count rows that are among the nearest, or as near as the last of them; rows returned twice are wrong."""
        expected = int(truth.expected[query])
        answers = self.without_self(query, ids)
        if expected == 0:
            return Score(float("nan"), len(answers), 0, 0)
        last = truth.threshold[query]
        limit = last + TIE * max(1.0, abs(last))
        found = {
            key: key in self._nearest[query] or distance <= limit
            for key, distance in zip(keys(answers), answers["distance"], strict=True)
        }
        return Score(min(sum(found.values()), expected) / expected, len(answers), expected, len(answers) - len(found))


class ColumnContestant(Contestant):
    """A column of the user's table, searched over a connection that it shares with the others."""

    def __init__(
        self, connection: psycopg.Connection[Any], table: Table, target: Target, columns: dict[str, Column]
    ) -> None:
        self.name = target.side.name
        self.connection = connection
        self.table = table
        self.target = target
        self.columns = columns
        self.condition: Condition | None = None
        self.queries = 0
        self.effort: Effort = target.side.efforts()[0]

    def efforts(self) -> list[Effort]:
        """Those of the side."""
        return self.target.side.efforts()

    def curve_efforts(self) -> list[Effort]:
        """Those of the side."""
        return self.target.side.curve_efforts()

    def prepare(self, workload: Workload, judge: Any) -> None:
        """Prepare the search for each number of rows that is asked for."""
        exact: TableExact = judge
        made = {
            limit: Statement(
                self.connection,
                search_sql(self.table, self.target, self.condition, self.columns, limit).as_string(self.connection),
            )
            for limit in set(exact.limits)
        }
        self.statements = [made[limit] for limit in exact.limits]
        names = self.condition.names if self.condition else ()
        self.calls: list[Call] = [
            vector_call(vector, [values[name] for name in names])
            for vector, values in zip(exact.queries, exact.sample.values, strict=True)
        ]
        self.queries = len(self.calls)

    def ask(self, query: int) -> tuple[Answers, float]:
        """Run one search."""
        result, seconds = self.statements[query].execute(self.calls[query])
        return read(result), seconds

    def apply(self, effort: Effort) -> None:
        """Change the settings, for this transaction as all that is done in it."""
        self.target.side.apply(self.connection, effort)
        self.effort = effort

    def look(self, queries: Sequence[int]) -> Look:
        """Plans and pages."""
        seen = [plan_kind(self.statements[query].explain(self.calls[query])) for query in queries]
        plans = [plan for plan, _ in seen]
        return Look({}, float(np.mean([pages for _, pages in seen])), {plan: plans.count(plan) for plan in plans})


def measure_table(
    connection: psycopg.Connection[Any],
    name: str,
    *,
    vector: str,
    filters: Sequence[str],
    queries: int,
    metric: Metric | None,
    options: Options,
    progress: Progress,
) -> Results:
    """Measure searches of the table under each filter, or without one where there is none.

    ``metric`` is needed only where indexes of the column differ in theirs. The connection must not be in autocommit
    mode nor in a transaction; whatever happens, the transaction is rolled back.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        table = _tables.get_table(connection, name)
        columns = _tables.get_columns(connection, table)
        column = _tables.pick_vector(columns, vector, table)
        conditions = [Condition.parse(text) for text in filters]
        for each in conditions:
            for placed in each.names:
                _tables.pick_column(columns, placed, table)
        connection.execute("SELECT set_config('plan_cache_mode', 'force_custom_plan', true)")
        targets = find_targets(connection, table, columns, column, metric, options.recall)
        needed = dict.fromkeys(name for each in conditions for name in each.names)
        sample, rows = draw_sample(connection, table, targets, list(needed), queries, options.seed)
        different = [each for each in targets[1:] if not same_vectors(connection, table, each, sample)]
        targets = [each for each in targets if each not in different]
        results = Results(
            {
                "command": command(sys.argv[1:]),
                "data": f"table {table}, column {vector}: {rows:,} x {sample.vectors.shape[1]}, "
                f"{len(sample.places)} of its rows as queries",
                "fingerprint": hashlib.sha256(repr(str(table)).encode() + sample.vectors.tobytes()).hexdigest()[:16],
                "metric": targets[0].side.metric.value,
                "sides": ", ".join(f"{each.side.name} on {each.column.name}" for each in targets),
                **(
                    {"left out for other vectors": ", ".join(each.column.name for each in different)}
                    if different
                    else {}
                ),
                **circumstances(connection, options),
            }
        )
        contestants = [ColumnContestant(connection, table, each, columns) for each in targets]
        for k in options.ks:
            search(contestants, sample, rows, conditions, k, options, results, progress)
        return results
    except psycopg.Error as error:
        raise BenchError(
            f"measuring table {name} failed: {error.diag.message_primary or error}", error.diag.message_hint
        ) from error
    finally:
        connection.rollback()


def search(
    contestants: Sequence[ColumnContestant],
    sample: Sample,
    rows: int,
    conditions: Sequence[Condition],
    k: int,
    options: Options,
    results: Results,
    progress: Progress,
) -> None:
    """Every condition at one k."""
    first = contestants[0]
    asked: Sequence[Condition | None] = conditions or [None]
    with bar(progress, f"k = {k}", len(asked) * (steps(len(contestants), options.rounds) + 1 + options.curve)) as step:
        for condition in asked:
            workload = Workload(condition.text if condition else NO_FILTER, (None,) * len(sample.places))
            step.show(f"k = {k}: {workload.name}, exact answers")
            exact = TableExact(sample, rows, k)
            truth = exact.answer(first.connection, first.table, first.target, condition, first.columns)
            step(f"k = {k}: {workload.name}")
            for contestant in contestants:
                contestant.condition = condition
            results.answers += measure(
                contestants,
                workload,
                exact,
                truth,
                target=options.recall,
                rounds=options.rounds,
                known=options.efforts,
                progress=step,
            )
            if options.curve:
                results.points += trace(contestants, workload, exact, truth, step)
            options.save(results)


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
