"""Recall against time: every side at several efforts over the same queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pgwinnow.bench.measure import Contestant, latencies, mean_recall, rotated
from pgwinnow.bench.truth import Judge, Score, Truth, rows_asked
from pgwinnow.bench.workloads import Workload

COMPLETE = 0.9995  # recall from which more effort shows nothing

Progress = Callable[[], None]


@dataclass(frozen=True)
class Point:
    """One side at one effort on one workload."""

    workload: str
    side: str
    k: int | None  # rows asked for; None: all that match
    effort: str
    matching: float  # share of rows that pass the filter, mean over queries
    recall: float
    returned: int
    expected: int
    milliseconds: Mapping[str, float]  # mean, p50, p95, p99

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def trace(
    contestants: Sequence[Contestant],
    workload: Workload,
    judge: Judge,
    truth: Truth,
    progress: Progress = lambda: None,
) -> list[Point]:
    """The points of one workload, which the contestants have prepared; their efforts are left as they were.

    Sides take turns query by query, each at its own n-th effort. A side that has found everything climbs no further,
    but is asked all the same, so that no effort is timed with warmer caches than another. There is no point where no
    row matches any query.
    """
    if not truth.expected.any():
        progress()
        return []
    before = [contestant.effort for contestant in contestants]
    ladders = [contestant.curve_efforts() for contestant in contestants]
    climbing = list(range(len(contestants)))
    points = []
    for rung in range(max(map(len, ladders))):
        climbing = [place for place in climbing if rung < len(ladders[place])]
        if not climbing:
            break
        for place in climbing:
            contestants[place].apply(ladders[place][rung])
        for place, point in zip(climbing, step(contestants, climbing, workload, judge, truth), strict=True):
            points.append(point)
            if point.recall >= COMPLETE and point.returned == point.expected:
                climbing = [each for each in climbing if each != place]
    for contestant, effort in zip(contestants, before, strict=True):
        contestant.apply(effort)
    progress()
    return points


def step(
    contestants: Sequence[Contestant], places: Sequence[int], workload: Workload, judge: Judge, truth: Truth
) -> list[Point]:
    """One point for each of the contestants at these places: a round for the recall, then one of all for the time."""
    scores: dict[int, list[Score]] = {place: [] for place in places}
    seconds: list[list[float]] = [[] for _ in contestants]
    count = len(workload.filters)
    for i in range(count):
        for place in places:
            scores[place].append(judge.score(workload, truth, i, contestants[place].ask(i)[0]))
    for i in range(count):
        for place in rotated(range(len(contestants)), i):
            seconds[place].append(contestants[place].ask(i)[1])
    return [
        Point(
            workload=workload.name,
            side=contestants[place].name,
            k=rows_asked(workload, judge),
            effort=contestants[place].effort.label,
            matching=float(truth.matching.mean() / judge.rows),
            recall=mean_recall(scores[place]),
            returned=sum(score.returned for score in scores[place]),
            expected=sum(score.expected for score in scores[place]),
            milliseconds=latencies(seconds[place]),
        )
        for place in places
    ]
