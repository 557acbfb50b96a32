"""Recall and time of searches in a table that is somebody's own, which is read and nothing else.

Everything happens in one read-only transaction of one snapshot: queries are the vectors of rows of the table itself,
the values of filters are those of the same row, the exact answers come from scans in the server that use no vector
index. A row is no answer to its own query: where it satisfies the filter, one row more is asked for and it is left
out.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from rich.progress import Progress

from pgwinnow import _tables
from pgwinnow._tables import Column, Table
from pgwinnow.bench.curve import trace
from pgwinnow.bench.datasets import Vectors
from pgwinnow.bench.measure import Contestant, Look, measure, steps
from pgwinnow.bench.prepared import BenchError, Call, Statement, vector_call
from pgwinnow.bench.report import Results
from pgwinnow.bench.rivals import Effort, plan_kind
from pgwinnow.bench.run import Options, bar, circumstances, command
from pgwinnow.bench.truth import TIE, Score, Truth
from pgwinnow.bench.userquery import (
    Answers,
    Condition,
    Key,
    Sample,
    Target,
    count_sql,
    draw_sample,
    find_targets,
    keys,
    read,
    run_filter,
    same_vectors,
    search_sql,
    without_index_scans,
)
from pgwinnow.bench.workloads import Workload
from pgwinnow.types import Metric

NO_FILTER = "none"


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
