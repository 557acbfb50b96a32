"""The filters that a run measures: one workload is a name and one filter for every query.

The set follows what users of filtered search ask: equality (EM), ranges (R), sets (EMIS), lists, NULLs, their
combinations, at stated selectivities, and equality that runs against the vector. Values are drawn from the data with
a random stream of its own for each workload, so leaving one out changes no other.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pgwinnow.bench.datasets import DataError, Dataset
from pgwinnow.bench.filters import (
    And,
    AnyOf,
    Between,
    Columns,
    Compare,
    Contains,
    Filter,
    IsNull,
    Not,
    Or,
    Overlaps,
    Scalar,
)

SMALLEST_KIND = 20  # rows a category needs to be drawn as another or the farthest kind
CENTROID_SAMPLE = 200_000  # rows that the centroids of categories are computed from
RANGE_SHARES = {"50": 0.5, "20": 0.2, "2": 0.02, "0.1": 0.001}  # per cent as printed: share
BUCKET_BOUNDS = {"50": 500, "10": 100, "1": 10, "0.1": 1}  # per cent as printed: exclusive bound of 0..999
LISTED_KINDS, LISTED_BUCKETS = 3, 50

Draw = Callable[[int, np.random.Generator], Filter | None]


@dataclass(frozen=True)
class Workload:
    """One filter (or None) for every query; ``limited`` tells whether the query has a LIMIT."""

    name: str
    filters: tuple[Filter | None, ...]
    limited: bool = True


class Source:
    """What the values of filters are drawn from: a data set's categories, numbers and tags."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.columns = Columns(dataset.attributes)
        roles = dataset.roles
        self.kinds: list[str] = []  # the categories of enough rows
        if roles.category is not None:
            self._prepare_kinds(roles.category)
        if roles.number is not None:
            self.numbers = np.sort(self._present(roles.number))
        if roles.tags is not None:
            lengths = pc.fill_null(pc.list_value_length(dataset.attributes[roles.tags]), 0)
            self.tagged = np.flatnonzero(np.asarray(lengths))

    def _present(self, name: str) -> np.ndarray:
        values = self.columns[name]
        return np.asarray(values.comparable[~values.null])

    def _prepare_kinds(self, category: str) -> None:
        """Count the categories, and find each one's mean direction from evenly spread rows."""
        column = self.dataset.attributes[category]
        counts = pc.value_counts(column.drop_null()).to_pylist()
        self.kinds = sorted(each["values"] for each in counts if each["counts"] >= SMALLEST_KIND)
        if not self.kinds:
            return
        rows = np.arange(0, len(self.dataset.base), max(1, len(self.dataset.base) // CENTROID_SAMPLE))
        labels = np.array(column.take(pa.array(rows)).to_pylist(), dtype=object)
        sample = np.asarray(self.dataset.base[rows])
        means = np.stack([sample[labels == kind].mean(axis=0) for kind in self.kinds])
        self.kind_directions = means / np.linalg.norm(means, axis=1, keepdims=True)

    def own_kind(self, i: int) -> str:
        """The category of the row that query i was taken from; the nearest one where that is not known."""
        category = self.dataset.roles.category
        if category in self.dataset.query_attributes.column_names:
            value = self.dataset.query_attributes[category][i].as_py()
            if value in self.kinds:
                return str(value)
        return self.kinds[int(np.argmax(self.kind_directions @ self.dataset.queries[i]))]

    def other_kinds(self, i: int, rng: np.random.Generator, count: int) -> tuple[str, ...]:
        """Different categories, every one as likely as any other, without the query's own."""
        others = [kind for kind in self.kinds if kind != self.own_kind(i)]
        return tuple(str(kind) for kind in rng.choice(others, count, replace=False))

    def farthest_kind(self, i: int) -> str:
        """The category whose mean direction is farthest from the query's."""
        return self.kinds[int(np.argmin(self.kind_directions @ self.dataset.queries[i]))]

    def number_range(self, name: str, rng: np.random.Generator, share: float) -> Between:
        """A range that holds about ``share`` of the rows whose number is known (more where values tie)."""
        last = len(self.numbers) - 1
        start = rng.uniform(0, 1 - share)
        low, high = (self.constant(name, self.numbers[round(place * last)]) for place in (start, start + share))
        return Between(name, low, high)

    def constant(self, name: str, number: np.generic) -> Scalar:
        """A number of a column as a constant of the column's own type."""
        kind = self.dataset.attributes.schema.field(name).type
        if pa.types.is_date(kind):
            number = np.int32(number)
        constant: Scalar = pa.scalar(number).cast(kind).as_py()
        return constant

    def middle(self, name: str) -> Scalar:
        """The median of a column."""
        present = self._present(name)
        return self.constant(name, np.partition(present, len(present) // 2)[len(present) // 2])

    def some_tags(self, name: str, rng: np.random.Generator, count: int) -> tuple[str, ...]:
        """Up to ``count`` tags of one row drawn at random among those that have tags."""
        row = int(rng.choice(self.tagged))
        tags = sorted({str(tag) for tag in self.dataset.attributes[name][row].as_py() if tag is not None})
        return tuple(str(tag) for tag in rng.choice(tags, min(count, len(tags)), replace=False))


def make_workloads(dataset: Dataset, *, seed: int, patterns: Iterable[str] = ("*",)) -> list[Workload]:
    """The workloads that the data set's columns allow and whose names match one of the shell patterns.

    Raises DataError when nothing matches.
    """
    patterns = list(patterns)
    chosen = []
    names = []
    for name, draw in definitions(Source(dataset)):
        names.append(name)
        if any(fnmatch(name, pattern) for pattern in patterns):
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            filters = tuple(draw(i, rng) for i in range(len(dataset.queries)))
            chosen.append(Workload(name, filters, limited=not name.startswith("no limit")))
    if not chosen:
        raise DataError(f"no workload matches {', '.join(patterns)}", f"there are: {', '.join(names)}")
    return chosen


def definitions(source: Source) -> Iterator[tuple[str, Draw]]:
    """Every workload the data set allows, as a name and the way to draw query i's filter."""
    roles = source.dataset.roles
    yield "none", constant_draw(None)
    if roles.category is not None:
        yield from category_definitions(source, roles.category)
    if roles.number is not None:
        yield from number_definitions(source, roles.number)
    if roles.tags is not None:
        yield from tags_definitions(source, roles.tags)
    if roles.bucket is not None:
        yield from bucket_definitions(roles.bucket)
    yield from combined_definitions(source)
    if roles.residual is not None:
        yield "residual 50 %", constant_draw(Compare(roles.residual, ">", source.middle(roles.residual)))


def category_definitions(source: Source, category: str) -> Iterator[tuple[str, Draw]]:
    """Equality with the query's own, a random and the farthest category; a list; a negation.

    Those that there are too few categories of enough rows for are left out.
    """
    if not source.kinds:
        return
    yield "EM own", lambda i, rng: Compare(category, "=", source.own_kind(i))
    if len(source.kinds) > 1:
        yield "EM random", lambda i, rng: Compare(category, "=", source.other_kinds(i, rng, 1)[0])
        yield "EM farthest", lambda i, rng: Compare(category, "=", source.farthest_kind(i))
    if len(source.kinds) > LISTED_KINDS:
        yield f"IN {LISTED_KINDS}", lambda i, rng: AnyOf(category, source.other_kinds(i, rng, LISTED_KINDS))
    yield "NOT own", lambda i, rng: Not(Compare(category, "=", source.own_kind(i)))


def number_definitions(source: Source, number: str) -> Iterator[tuple[str, Draw]]:
    """Ranges that hold stated shares of the rows, and the rows whose number is missing."""
    for percent, share in RANGE_SHARES.items():
        yield f"R {percent} %", range_draw(source, number, share)
    if source.columns[number].null.any():
        yield "IS NULL number", constant_draw(IsNull(number))


def range_draw(source: Source, number: str, share: float) -> Draw:
    """A range of its own for every query."""
    return lambda i, rng: source.number_range(number, rng, share)


def constant_draw(wanted: Filter | None) -> Draw:
    """The same filter for every query."""
    return lambda i, rng: wanted


def tags_definitions(source: Source, tags: str) -> Iterator[tuple[str, Draw]]:
    """Sets that share an element with, or hold all of, the tags of some row; rows without tags."""
    if len(source.tagged):
        yield "EMIS &&", lambda i, rng: Overlaps(tags, source.some_tags(tags, rng, 2))
        yield "EMIS @>", lambda i, rng: Contains(tags, source.some_tags(tags, rng, 2))
    if source.columns[tags].null.any():
        yield "IS NULL tags", constant_draw(IsNull(tags))


def bucket_definitions(bucket: str) -> Iterator[tuple[str, Draw]]:
    """Exact shares of rows, independent of the vector; one without a LIMIT."""
    for percent, bound in BUCKET_BOUNDS.items():
        yield f"bucket {percent} %", constant_draw(Compare(bucket, "<", bound))
    yield (
        f"IN {LISTED_BUCKETS}",
        lambda i, rng: AnyOf(bucket, tuple(int(each) for each in rng.choice(1000, LISTED_BUCKETS, replace=False))),
    )
    yield "no limit 1 %", constant_draw(Compare(bucket, "<", 10))


def combined_definitions(source: Source) -> Iterator[tuple[str, Draw]]:
    """Conjunctions and a disjunction over several columns."""
    roles = source.dataset.roles
    number, bucket = roles.number, roles.bucket
    category = roles.category if source.kinds else None
    tags = roles.tags if roles.tags is not None and len(source.tagged) else None
    if category is not None and number is not None:
        yield (
            "EM and R",
            lambda i, rng: And((Compare(category, "=", source.own_kind(i)), source.number_range(number, rng, 0.2))),
        )
    if category is not None and number is not None and len(source.kinds) > LISTED_KINDS:
        yield (
            "IN and R",
            lambda i, rng: And(
                (AnyOf(category, source.other_kinds(i, rng, LISTED_KINDS)), source.number_range(number, rng, 0.2))
            ),
        )
    if category is not None and number is not None and tags is not None:
        yield (
            "EM and EMIS and R",
            lambda i, rng: And(
                (
                    Compare(category, "=", source.own_kind(i)),
                    Overlaps(tags, source.some_tags(tags, rng, 2)),
                    source.number_range(number, rng, 0.5),
                )
            ),
        )
    if category is not None and bucket is not None and len(source.kinds) > 1:
        yield (
            "OR",
            lambda i, rng: Or((Compare(category, "=", source.other_kinds(i, rng, 1)[0]), Compare(bucket, "<", 10))),
        )
