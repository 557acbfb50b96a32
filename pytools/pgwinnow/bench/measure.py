"""Timing searches: all sides in one run, alternating query by query, at the same recall.

First each side looks for its least effort that reaches the recall on some of the queries, which also warms the
caches; then every query is asked of all sides in turn, the first one changing from query to query.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psycopg

from pgwinnow.bench.prepared import Call, Statement, vector_call
from pgwinnow.bench.rivals import Effort, Side, plan_kind
from pgwinnow.bench.truth import Judge, Score, Truth, rows_asked
from pgwinnow.bench.workloads import Workload

TUNING_QUERIES = 50
LOOKED_AT = 30  # queries whose plans and counters are recorded

Progress = Callable[[], None]


@dataclass(frozen=True)
class Answer:
    """One workload answered by one side."""

    workload: str
    side: str
    k: int | None  # rows asked for; None: all that match
    effort: str
    reached: bool  # whether some effort reached the recall on the tuning queries
    matching: float  # share of rows that pass the filter, mean over queries
    recall: float  # mean over the queries that a row matches; NaN if there is none
    worst_decile: float  # mean recall of the worst tenth of these queries
    returned: int
    expected: int
    wrong: int
    milliseconds: Mapping[str, float]  # mean, p50, p95, p99
    pages: float  # accesses to 8 kB pages, mean
    plans: Mapping[str, int]
    counters: Mapping[str, float]
    bitmap_milliseconds: float | None = None  # to make the filter's bitmap, beside the query's time
    queries: int | None = None  # None: an older run, which does not say
    answered: int | None = None  # queries that a row matches

    @property
    def measured(self) -> bool:
        """Whether there was anything to find."""
        return not math.isnan(self.recall)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Look:
    """How one workload was answered, from some of its queries; nothing of it is timed but the bitmaps."""

    counters: Mapping[str, float]  # means
    pages: float  # accesses to 8 kB pages, mean
    plans: Mapping[str, int]
    bitmap_milliseconds: float | None = None  # mean; None where the filter is part of the query


class Contestant(ABC):
    """One that answers queries, with one workload at a time prepared."""

    name: str
    queries: int  # how many of the workload are prepared
    effort: Effort

    @abstractmethod
    def efforts(self) -> list[Effort]:
        """From the least to the most effort."""

    @abstractmethod
    def curve_efforts(self) -> list[Effort]:
        """The efforts whose recall and time make a curve, from the least to the most."""

    @abstractmethod
    def prepare(self, workload: Workload, judge: Judge) -> None:
        """Get ready to answer the workload's queries."""

    @abstractmethod
    def ask(self, query: int) -> tuple[np.ndarray, float]:
        """Run one query: ids and seconds."""

    @abstractmethod
    def apply(self, effort: Effort) -> None:
        """Search with this effort from now on."""

    @abstractmethod
    def look(self, queries: Sequence[int]) -> Look:
        """How some of the queries are answered."""

    def choose_effort(
        self, workload: Workload, judge: Judge, truth: Truth, target: float, known: str | None = None
    ) -> bool:
        """Apply the quickest effort whose mean recall reaches the target, or the one of highest recall; tell which.

        If there is an effort labelled ``known``, it is tried alone.
        """
        queries = range(min(TUNING_QUERIES, self.queries))
        efforts = self.efforts()
        efforts = [each for each in efforts if each.label == known] or efforts
        self.apply(efforts[0])
        for i in queries:  # warms the caches, so that the first effort is not charged for it
            self.ask(i)
        tried: list[tuple[float, float, Effort]] = []
        for effort in efforts:
            self.apply(effort)
            answers = [self.ask(i) for i in queries]
            scores = [judge.score(workload, truth, i, ids) for i, (ids, _) in zip(queries, answers, strict=True)]
            recall = mean_recall(scores)
            tried.append((1.0 if math.isnan(recall) else recall, sum(seconds for _, seconds in answers), effort))
            if len(tried) >= 2 and target <= tried[-2][0] and target <= tried[-1][0] and tried[-2][1] <= tried[-1][1]:
                break  # enough recall already before this step, and it only cost time
        good = [each for each in tried if each[0] >= target]
        best = min(good, key=lambda each: each[1]) if good else max(tried, key=lambda each: (each[0], -each[1]))
        self.apply(best[2])
        return bool(good)


class ServerContestant(Contestant):
    """A side with its connection."""

    def __init__(self, side: Side, connection: psycopg.Connection) -> None:
        self.name = side.name
        self.side = side
        self.connection = connection
        self.queries = 0
        self.calls: list[Call] = []
        self.statements: list[Statement] = []
        self.effort: Effort = side.efforts()[0]

    def efforts(self) -> list[Effort]:
        """Those of the side."""
        return self.side.efforts()

    def curve_efforts(self) -> list[Effort]:
        """Those of the side."""
        return self.side.curve_efforts()

    def prepare(self, workload: Workload, judge: Judge) -> None:
        """Prepare each distinct SQL text of the workload once."""
        self.connection.execute("DEALLOCATE ALL")
        made: dict[str, Statement] = {}
        self.calls, self.statements = [], []
        for i, wanted in enumerate(workload.filters):
            sql, values = self.side.search_sql(wanted, rows_asked(workload, judge))
            if sql not in made:
                made[sql] = Statement(self.connection, sql)
            self.statements.append(made[sql])
            self.calls.append(vector_call(judge.queries[i], values))
        self.queries = len(self.calls)

    def ask(self, query: int) -> tuple[np.ndarray, float]:
        """Run one prepared statement."""
        return self.statements[query].run(self.calls[query])

    def apply(self, effort: Effort) -> None:
        """Change the session's settings."""
        self.side.apply(self.connection, effort)
        self.effort = effort

    def look(self, queries: Sequence[int]) -> Look:
        """Counters, accesses to pages and plans."""
        return look_at(self.side, self.connection, [(self.statements[i], self.calls[i]) for i in queries])


def look_at(side: Side, connection: psycopg.Connection[Any], searches: Sequence[tuple[Statement, Call]]) -> Look:
    """How a side answers these searches, which are run."""
    counted: dict[str, list[float]] = {}
    pages, plans = [], Counter[str]()
    for statement, call in searches:
        kind, accessed = plan_kind(statement.explain(call))
        for name, value in side.counters(connection, kind).items():
            counted.setdefault(name, []).append(value)
        plans[kind] += 1
        pages.append(accessed)
    counters = {name: float(np.mean(values)) for name, values in counted.items()}
    return Look(counters, float(np.mean(pages)), dict(plans))


def measure(
    contestants: Sequence[Contestant],
    workload: Workload,
    judge: Judge,
    truth: Truth,
    *,
    target: float,
    rounds: int,
    known: Mapping[tuple[str, int | None, str], str] | None = None,
    progress: Progress = lambda: None,
) -> list[Answer]:
    """Measure one workload on all sides in turn, each at the least effort that reaches ``target`` recall.

    ``known`` has the labels of efforts found by an earlier run, by workload, k and side; those are not looked for
    again. The recall that is reported is measured all the same.
    """
    reached = []
    for contestant in contestants:
        contestant.prepare(workload, judge)
        label = (known or {}).get((workload.name, rows_asked(workload, judge), contestant.name))
        reached.append(contestant.choose_effort(workload, judge, truth, target, label))
        progress()

    count = len(workload.filters)
    scores: list[list[Score]] = [[] for _ in contestants]
    seconds: list[list[float]] = [[] for _ in contestants]
    for i in range(count):  # one round to warm the caches with every query, which gives the recall
        for place, contestant in enumerate(contestants):
            ids, _ = contestant.ask(i)
            scores[place].append(judge.score(workload, truth, i, ids))
    progress()
    for turn in range(rounds):
        for i in range(count):
            for place in rotated(range(len(contestants)), turn + i):
                seconds[place].append(contestants[place].ask(i)[1])
        progress()

    matching = float(truth.matching.mean() / judge.rows)
    answers = []
    for place, contestant in enumerate(contestants):
        look = contestant.look(range(min(LOOKED_AT, count)))
        answers.append(
            Answer(
                workload=workload.name,
                side=contestant.name,
                k=rows_asked(workload, judge),
                effort=contestant.effort.label,
                reached=reached[place],
                matching=matching,
                recall=mean_recall(scores[place]),
                worst_decile=worst_decile(scores[place]),
                returned=sum(score.returned for score in scores[place]),
                expected=sum(score.expected for score in scores[place]),
                wrong=sum(score.wrong for score in scores[place]),
                milliseconds=latencies(seconds[place]),
                pages=look.pages,
                plans=look.plans,
                counters=look.counters,
                bitmap_milliseconds=look.bitmap_milliseconds,
                queries=count,
                answered=int((truth.expected > 0).sum()),
            )
        )
    return answers


def steps(contestants: int, rounds: int) -> int:
    """How often ``measure`` reports progress for one workload."""
    return contestants + 1 + rounds


def rotated(places: Sequence[int], turn: int) -> list[int]:
    """The places in the order of this turn, so that everybody is first, and warms the caches, as often as others."""
    first = turn % len(places)
    return [*places[first:], *places[:first]]


def mean_recall(scores: Sequence[Score]) -> float:
    """Mean recall over the queries that have an answer; NaN when none has one, or 0 if one was given all the same."""
    known = [score.recall for score in scores if not math.isnan(score.recall)]
    if not known:
        return 0.0 if any(score.returned for score in scores) else math.nan
    return float(np.mean(known))


def worst_decile(scores: Sequence[Score]) -> float:
    """Mean recall of the tenth of the queries (at least one) that fared worst."""
    known = sorted(score.recall for score in scores if not math.isnan(score.recall))
    return float(np.mean(known[: max(1, len(known) // 10)])) if known else float("nan")


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles in milliseconds."""
    milliseconds = np.asarray(seconds) * 1000
    p50, p95, p99 = np.percentile(milliseconds, (50, 95, 99))
    return {"mean": float(milliseconds.mean()), "p50": float(p50), "p95": float(p95), "p99": float(p99)}


def throughput(contestants: Sequence[Contestant], seconds: float) -> float:
    """Queries per second of several connections at once, every one prepared and set already."""
    stop = time.perf_counter() + seconds
    done = [0] * len(contestants)
    failures: list[Exception] = []

    def client(place: int) -> None:
        query = place
        try:
            while time.perf_counter() < stop:
                contestants[place].ask(query % contestants[place].queries)
                query += len(contestants)
                done[place] += 1
        except Exception as error:  # reported by the caller's thread
            failures.append(error)

    started = time.perf_counter()
    threads = [threading.Thread(target=client, args=(place,)) for place in range(len(contestants))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(done) / (time.perf_counter() - started)


def memory_bandwidth() -> float:
    """Bytes per second that one core reads from memory, the limit that page accesses are held against."""
    block = np.ones(1 << 26, dtype=np.float32)
    best = math.inf
    for _ in range(4):
        start = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - start)
    return block.nbytes / best
