"""Recall and time of searches in a table that is somebody's own, which is read and nothing else.

Everything happens in one read-only transaction of one snapshot: queries are the vectors of rows of the table itself,
the values of filters are those of the same row, the exact answers come from scans in the server that use no vector
index. A row is no answer to its own query: where it satisfies the filter, one row more is asked for and it is left
out. Whether a returned row satisfies the filter is asked of the row itself.
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
from pgwinnow.bench.measure import Contestant, Look, look_at, measure, steps
from pgwinnow.bench.prepared import BenchError, Call, Statement, vector_call
from pgwinnow.bench.report import Results
from pgwinnow.bench.rivals import Effort
from pgwinnow.bench.run import Options, bar, circumstances, command
from pgwinnow.bench.truth import TIE, Score, Truth
from pgwinnow.bench.userquery import (
    Answers,
    Condition,
    Key,
    Sample,
    Target,
    check_filter,
    count_rows,
    count_sql,
    draw_sample,
    find_targets,
    keys,
    ordering_index,
    passing,
    read,
    run_filter,
    same_vectors,
    search_sql,
    without_index_scans,
)
from pgwinnow.bench.workloads import Workload
from pgwinnow.types import Metric

NO_FILTER = "none"
OTHER_VECTORS = ("halfvec", "sparsevec")  # of pgvector


class TableExact:
    """The exact answers to one condition, by scans in the server, and how good other answers are."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        table: Table,
        condition: Condition | None,
        columns: dict[str, Column],
        sample: Sample,
        *,
        rows: int,
        k: int,
    ) -> None:
        self.connection = connection
        self.table = table
        self.condition = condition
        self.columns = columns
        self.sample = sample
        self.k = k
        self._rows = rows
        self.limits: list[int] = []  # rows to ask for: one more where the row itself is among the matching ones
        self._nearest: list[Answers] = []
        self._passes: list[dict[Key, bool]] = []  # of rows that came back, whether they satisfy the condition

    @property
    def rows(self) -> int:
        """Rows that have a vector."""
        return self._rows

    @property
    def queries(self) -> Vectors:
        """The sampled rows' vectors."""
        return self.sample.vectors

    def values(self, query: int) -> list[str]:
        """What the condition's placeholders stand for."""
        return [self.sample.values[query][name] for name in self.condition.names] if self.condition else []

    def answer(self, target: Target) -> Truth:
        """Scan the table for every query: how many rows match, and which of them are nearest."""
        count = len(self.sample.places)
        matching, threshold = np.zeros(count, dtype=np.int64), np.full(count, np.nan)
        self.limits, self._nearest, self._passes = [], [], [{} for _ in range(count)]
        with without_index_scans(self.connection):
            cursor = psycopg.RawCursor(self.connection)
            counting = count_sql(self.table, target, self.condition, self.columns).as_string(self.connection)
            made: dict[int, Statement] = {}
            for i in range(count):
                row = run_filter(cursor, self.condition, counting, [*self.sample.places[i], *self.values(i)]).fetchone()
                found, own = row if row else (0, 0)
                limit = self.k + own
                call = vector_call(self.queries[i], self.values(i))
                if limit not in made:
                    made[limit] = self._scan(target, limit, call)
                result, _ = made[limit].execute(call)
                self.limits.append(limit)
                nearest = self.without_self(i, read(result))
                matching[i] = found - own
                self._nearest.append(nearest)
                self._check_condition(i, nearest)
                if len(nearest):
                    threshold[i] = nearest["distance"][-1]
        return Truth(matching, np.minimum(matching, self.k), threshold)

    def _scan(self, target: Target, limit: int, call: Call) -> Statement:
        """The search where no index is to be used; an error if the server uses one all the same."""
        statement = search_sql(self.table, target, self.condition, self.columns, limit).as_string(self.connection)
        scan = Statement(self.connection, statement)
        if (index := ordering_index(scan.explain(call, analyze=False))) is not None:
            raise BenchError(
                f"the exact answers would come from the index {index}, against enable_indexscan = off",
                "turn off what forces the server to use the index, such as an extension for hints",
            )
        return scan

    def _check_condition(self, query: int, nearest: Answers) -> None:
        """Ask whether the nearest rows, which were found by the condition, satisfy it."""
        if self.condition and len(self.matching(query, nearest)) < len(nearest):
            raise BenchError(
                f"the filter {self.condition.text!r} holds for a row at one time and not at another",
                "leave functions like random() out of it: there are no exact answers to compare with",
            )

    def without_self(self, query: int, answers: Answers) -> Answers:
        """The answers without the row that the query was taken from, at most k; it stays in if it does not match."""
        own = self.sample.key(query)
        at = [place for place, each in enumerate(keys(answers)) if each == own and self.limits[query] > self.k]
        return np.delete(answers, at[:1])[: self.k]

    def matching(self, query: int, answers: Answers) -> set[Key]:
        """The rows among the answers that satisfy the condition; the server is asked about every row once."""
        returned = keys(answers)
        if self.condition is None:
            return set(returned)
        known = self._passes[query]
        if any(each not in known for each in returned):
            found = passing(
                self.connection, self.table, self.condition, self.columns, self.values(query), np.unique(answers)
            )
            known.update((each, each in found) for each in returned)
        return {each for each in returned if known[each]}

    def score(self, workload: Workload, truth: Truth, query: int, ids: Answers) -> Score:
        """Count matching rows that are among the nearest, or as near as the last of them.

        Rows returned twice or against the condition are wrong. A distance that is no number (of a vector without a
        direction) is farther than any other and as far as its like.
        """
        expected = int(truth.expected[query])
        answers = self.without_self(query, ids)
        good = self.matching(query, answers)
        wrong = len(answers) - len(good)
        if expected == 0:
            return Score(float("nan"), len(answers), 0, wrong)
        nearest, last = self._nearest[query], truth.threshold[query]
        among = set(keys(nearest))
        limit = np.inf if np.isnan(last) else last + TIE * max(1.0, abs(last))
        found = {
            each: each in among or distance <= limit
            for each, distance in zip(keys(answers), answers["distance"], strict=True)
            if each in good and not np.isnan(distance)
        }
        undirected = len(good) - len(found)
        hits = sum(found.values()) + min(undirected, int(np.isnan(nearest["distance"]).sum()))
        return Score(min(hits, expected) / expected, len(answers), expected, wrong)


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
        self.calls: list[Call] = [vector_call(vector, exact.values(i)) for i, vector in enumerate(exact.queries)]
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
        """Counters, accesses to pages and plans."""
        searches = [(self.statements[i], self.calls[i]) for i in queries]
        return look_at(self.target.side, self.connection, searches)


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
        if (kind := _tables.pick_column(columns, vector, table).type_name) in OTHER_VECTORS:
            raise BenchError(
                f"column {vector!r} of table {table} is a {kind}; only columns of type vector are measured",
                f"name a column of that type as --vector; a cast turns a {kind} into one: {vector}::vector",
            )
        column = _tables.pick_vector(columns, vector, table)
        conditions = [Condition.parse(text) for text in filters]
        for each in conditions:
            each.check(columns, table)
        connection.execute("SELECT set_config('plan_cache_mode', 'force_custom_plan', true)")
        targets = find_targets(connection, table, columns, column, metric, options.recall)
        for each in conditions:
            check_filter(connection, table, targets[0], each, columns)
        # One filter's NULLs are no matter of another's: each has its own sample, the same rows where it can.
        asked: list[Condition | None] = [*conditions] or [None]
        samples = [draw_sample(connection, table, targets[0], each, queries, options.seed) for each in asked]
        rows = count_rows(connection, table, targets[0])
        different = [
            each for each in targets[1:] if not all(same_vectors(connection, table, each, sample) for sample in samples)
        ]
        targets = [each for each in targets if each not in different]
        counts = [len(sample.places) for sample in samples]
        results = Results(
            {
                "command": command(sys.argv[1:]),
                "data": f"table {table}, column {vector}: {rows:,} x {samples[0].vectors.shape[1]}, "
                f"{'up to ' if len(set(counts)) > 1 else ''}{max(counts)} of its rows as queries",
                "fingerprint": {
                    name_of(each): fingerprint(table, sample) for each, sample in zip(asked, samples, strict=True)
                },
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
            search(contestants, list(zip(asked, samples, strict=True)), rows, k, options, results, progress)
        return results
    except psycopg.Error as error:
        raise BenchError(
            f"measuring table {name} failed: {error.diag.message_primary or error}", error.diag.message_hint
        ) from error
    finally:
        if not connection.closed:  # closed, it is rolled back too
            connection.rollback()


def name_of(condition: Condition | None) -> str:
    """What the workload of a condition is called."""
    return condition.text if condition else NO_FILTER


def fingerprint(table: Table, sample: Sample) -> str:
    """A digest of what one workload asks: the table and the queries."""
    return hashlib.sha256(repr(str(table)).encode() + sample.vectors.tobytes()).hexdigest()[:16]


def search(
    contestants: Sequence[ColumnContestant],
    asked: Sequence[tuple[Condition | None, Sample]],
    rows: int,
    k: int,
    options: Options,
    results: Results,
    progress: Progress,
) -> None:
    """Every condition at one k."""
    first = contestants[0]
    with bar(progress, f"k = {k}", len(asked) * (steps(len(contestants), options.rounds) + 1 + options.curve)) as step:
        for condition, sample in asked:
            workload = Workload(name_of(condition), (None,) * len(sample.places))
            step.show(f"k = {k}: {workload.name}, exact answers")
            exact = TableExact(first.connection, first.table, condition, first.columns, sample, rows=rows, k=k)
            truth = exact.answer(first.target)
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
            options.save(results)
            if options.curve:
                results.points += trace(contestants, workload, exact, truth, step)
                options.save(results)
