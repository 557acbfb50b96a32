"""Exact answers in memory, independent of any server, and recall against them.

Recall counts a returned row as a hit when it is no farther than the k-th nearest matching row, so that ties count
whichever of the tied rows came back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pgwinnow._kernels import exact_topk
from pgwinnow.bench.datasets import DataError, Dataset, Vectors
from pgwinnow.bench.filters import Columns, Mask, evaluate
from pgwinnow.bench.workloads import Workload
from pgwinnow.types import Metric

TIE = 1e-6  # distances this close (relative, at least absolute) count as equal: float32 sums differ by less
BLOCK = 16  # queries answered at a time
FORMAT = 2  # of answers in the cache; another number where they are computed in another way

Ids = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Truth:
    """The exact answers of one workload, for every query."""

    matching: npt.NDArray[np.int64]  # rows that pass the filter
    expected: npt.NDArray[np.int64]  # rows the query must return
    threshold: npt.NDArray[np.float64]  # distance of the last of them; infinite where all that match must come


@dataclass(frozen=True)
class Score:
    """How one answer compares with the exact one."""

    recall: float  # NaN where nothing matches
    returned: int
    expected: int
    wrong: int  # rows returned twice or against the filter


def check_metric(metric: Metric) -> None:
    """Raise DataError for a distance that no index is for."""
    if metric is Metric.L1:
        raise DataError("the benchmark does not measure the metric l1", "use cosine, l2 or ip")


class Judge(Protocol):
    """What measuring needs to know of the exact answers: the queries, and how good an answer to one of them is."""

    k: int

    @property
    def rows(self) -> int:
        """Rows that are searched."""

    @property
    def queries(self) -> Vectors:
        """The queries' vectors, q x d."""

    def score(self, workload: Workload, truth: Truth, query: int, ids: npt.NDArray[Any]) -> Score:
        """Score what came back for one query."""


def rows_asked(workload: Workload, judge: Judge) -> int | None:
    """The LIMIT of the workload's queries; None where they have none."""
    return judge.k if workload.limited else None


class Exact:
    """Answers workloads of one data set exactly and scores what a server returned."""

    def __init__(self, dataset: Dataset, k: int, *, metric: Metric = Metric.COSINE, cache: Path | None = None) -> None:
        check_metric(metric)
        self.dataset = dataset
        self.k = k
        self.metric = metric
        self.cache = cache
        self.columns = Columns(dataset.attributes)

    @property
    def rows(self) -> int:
        """Rows of the data set."""
        return len(self.dataset.base)

    @property
    def queries(self) -> Vectors:
        """Those of the data set."""
        return self.dataset.queries

    def answer(self, workload: Workload, progress: Progress = lambda done, total: None) -> Truth:
        """The workload's exact answers, from the cache where it has them."""
        file = self._cache_file(workload)
        if file is not None and file.is_file():
            with np.load(file) as kept:
                return Truth(kept["matching"], kept["expected"], kept["threshold"])
        truth = self._compute(workload, progress)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial.npz")
            np.savez(partial, matching=truth.matching, expected=truth.expected, threshold=truth.threshold)
            partial.replace(file)
        return truth

    @cached_property
    def _asked(self) -> str:
        """What the answers depend on beside the workload: every row and every query."""
        data, queries = self.dataset.fingerprint(), self.dataset.queries
        return hashlib.sha256(data.encode() + queries.tobytes()).hexdigest()

    def _cache_file(self, workload: Workload) -> Path | None:
        if self.cache is None:
            return None
        asked = repr((FORMAT, self._asked, rows_asked(workload, self), self.metric.value, workload.filters))
        return self.cache / f"{hashlib.sha256(asked.encode()).hexdigest()[:24]}.npz"

    def _compute(self, workload: Workload, progress: Progress) -> Truth:
        count, rows = len(self.dataset.queries), self.columns.rows
        matching = np.zeros(count, dtype=np.int64)
        threshold = np.full(count, np.inf)
        for start in range(0, count, BLOCK):
            block = range(start, min(start + BLOCK, count))
            masks = np.ones((len(block), rows), dtype=np.bool_)
            for i in block:
                if i > start and workload.filters[i] == workload.filters[i - 1]:
                    masks[i - start] = masks[i - start - 1]
                elif (wanted := workload.filters[i]) is not None:
                    masks[i - start] = evaluate(wanted, self.columns).true
            matching[block] = masks.sum(axis=1)
            if workload.limited:
                ids, _ = exact_topk(self.dataset.queries[block], self.dataset.base, self.k, self.metric.value, masks)
                for i, nearest in zip(block, ids, strict=True):
                    found = nearest[nearest >= 0]
                    threshold[i] = self._distances(i, found).max() if len(found) else np.nan
            progress(block.stop, count)
        expected = np.minimum(matching, self.k) if workload.limited else matching
        return Truth(matching, expected, threshold)

    def _distances(self, query: int, rows: Ids) -> npt.NDArray[np.float64]:
        return distances(np.asarray(self.dataset.base[rows]), self.dataset.queries[query], self.metric)

    def score(self, workload: Workload, truth: Truth, query: int, ids: Ids) -> Score:
        """Score the ids that came back for one query."""
        unique = np.unique(ids)
        wanted = workload.filters[query]
        passing: Mask = np.ones(len(unique), dtype=np.bool_)
        if wanted is not None and len(unique):
            passing = evaluate(wanted, self.columns.take(unique)).true
        expected = int(truth.expected[query])
        wrong = len(ids) - int(passing.sum())
        if expected == 0:
            return Score(float("nan"), len(ids), 0, wrong)
        limit = truth.threshold[query]
        found = self._distances(query, unique[passing])
        hits = int((found <= limit + TIE * max(1.0, abs(limit))).sum())
        return Score(min(hits, expected) / expected, len(ids), expected, wrong)


def distances(rows: Vectors, query: npt.NDArray[np.float32], metric: Metric) -> npt.NDArray[np.float64]:
    """Exact distances in double precision of r x d rows from one query, as the SQL operators define them.

    NaN, the cosine distance of what has no direction, is infinite here: it comes last, and is as far as its like.
    """
    wide, asked = rows.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(np.linalg.norm(wide - asked, axis=1))
    products = wide @ asked
    if metric is Metric.IP:
        return np.asarray(-products)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = 1 - products / (np.linalg.norm(wide, axis=1) * np.linalg.norm(asked))
    return np.asarray(np.where(np.isnan(cosine), np.inf, cosine))
