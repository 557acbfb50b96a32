"""Does the planner choose well?  A grid of searches, each run by every kind of plan there is.

A made-up table has one winnow index over the vector and the filter columns, and a B-tree (GIN for the set) on every
filter column. Every search of the grid is run by the winnow index, by another index and a sort, and by a sequential
scan and a sort, in turns, on a connection each that is set to use nothing else. Then the planner is asked what it would
have chosen, with the statistics that CREATE INDEX leaves, with none, and with fresh ones. The choice is charged the
time of its kind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from rich.progress import Progress
from rich.table import Table

from pgwinnow.bench.datasets import Dataset, Roles, Vectors
from pgwinnow.bench.grow import unit
from pgwinnow.bench.prepared import TEXT, Call, Statement, check, vector_call
from pgwinnow.bench.rivals import Winnow
from pgwinnow.bench.run import bar, connect, make_database
from pgwinnow.bench.synthetic import COMMON, SUBTOPIC, SUBTOPICS, TOPIC, TOPICS, directions
from pgwinnow.bench.tables import fill
from pgwinnow.types import Metric

TABLE = "plans_items"
WINNOW_INDEX = "plans_search"

WINNOW, OTHER, SEQUENTIAL = "winnow", "other index", "sequential"
FORCE: Mapping[str, Sequence[str]] = {
    WINNOW: ("enable_seqscan", "enable_bitmapscan", "enable_sort"),
    OTHER: ("enable_seqscan", "enable_indexscan"),  # bitmap scans are left, which winnow has none of
    SEQUENTIAL: ("enable_bitmapscan", "enable_indexscan"),
}
"""Kinds of plans, and the settings that leave no other."""

BUILT, UNKNOWN, ANALYZED = "built", "unknown", "analyzed"
STATISTICS = (BUILT, UNKNOWN, ANALYZED)
"""What the planner knows of the table: what CREATE INDEX leaves; nothing, as if all rows came later; all of ANALYZE."""

SHARES = (0.0001, 0.001, 0.01, 0.1, 0.5)
LABELLED = SHARES[:-1]
# What a vector has of its own: its length, and the exponent by which the deviations of its dimensions fall off.  With
# these a search reads and fetches about as much as it does of text embeddings.
OWN, SPECTRUM = 0.8, -0.6
# A kind so many times slower than the quickest at the first try is not tried again, but for one that takes no more than
# so many seconds.
GIVEN_UP, SHORT = 4.0, 0.005
# Where the quickest takes less than so many seconds, chance makes more of a difference: so many times the rounds.
VERY_SHORT, MORE_ROUNDS = 0.0005, 8


@dataclass(frozen=True)
class Options:
    """The grid, and how it is measured."""

    rows: Sequence[int] = (1000, 10_000, 63_000)
    dimensions: Sequence[int] = (128, 768)
    ks: Sequence[int] = (1, 10, 100, 1000)
    queries: int = 3
    rounds: int = 3
    within: float = 0.1  # a choice that is slower by no more than this share counts as the quickest
    recall: float = 0.95
    seed: int = 7


@dataclass(frozen=True)
class Condition:
    """A filter: the share of rows that it lets pass, its SQL, and its parameters by query, from $2 on."""

    name: str
    share: float
    sql: str
    values: Callable[[int], list[str]]


@dataclass
class Point:
    """One search of the grid."""

    rows: int
    dimensions: int
    condition: str
    share: float
    k: int
    milliseconds: dict[str, float] = field(default_factory=dict)  # by kind of plan, mean over the queries
    costs: dict[str, float] = field(default_factory=dict)  # the planner's, after ANALYZE
    chosen: dict[str, str] = field(default_factory=dict)  # kind of plan by statistics, for most queries
    slowdown: dict[str, float] = field(default_factory=dict)  # of what was chosen, by statistics; 1: none

    @property
    def quickest(self) -> str:
        """The kind of plan that took least time."""
        return min(self.milliseconds, key=self.milliseconds.__getitem__)


@dataclass(frozen=True)
class Verdict:
    """How good the choices were over some points."""

    points: int
    quickest: float  # share of points where the choice was the quickest, or nearly
    worst: float  # largest slowdown


def measure_grid(
    dsn: str, options: Options, progress: Progress, found: Callable[[list[Point]], None] = lambda points: None
) -> list[Point]:
    """Measure the grid on the server at ``dsn``; ``found`` is called with all points so far after every table."""
    points: list[Point] = []
    make_database(dsn)
    with ExitStack() as stack:
        free = stack.enter_context(connect(dsn))
        side = Winnow(Metric.L2, options.recall)
        side.create_extension(free)
        forced = {kind: stack.enter_context(connect(dsn)) for kind in FORCE}
        for connection in (free, *forced.values()):
            # One process each: how many workers are free is another matter.
            connection.execute("SET max_parallel_workers_per_gather = 0")
            connection.execute(side.load)
            connection.execute("SELECT set_config('winnow.recall', %s, false)", (str(options.recall),))
        for kind, names in FORCE.items():
            for name in names:
                forced[kind].execute(f"SET {name} = off")
        for rows in options.rows:
            for dimensions in options.dimensions:
                name = f"{rows:,} x {dimensions}"
                with bar(progress, f"{name}: table", 1):
                    data, conditions = make_data(rows, dimensions, options.queries, options.seed)
                    make_table(free, side, data)
                grid = [(condition, k) for condition in conditions for k in options.ks]
                with bar(progress, name, len(grid)) as step:
                    points += measure_table(free, forced, data, grid, options, lambda: step(name))  # noqa: B023
                found(points)
        free.execute(f"DROP TABLE {TABLE}")
    return points


# The table


def make_data(rows: int, dimensions: int, queries: int, seed: int) -> tuple[Dataset, list[Condition]]:
    """Vectors in topics and subtopics, filter columns independent of them and not, and the filters on these."""
    rng = np.random.default_rng((seed, rows, dimensions))
    centres = (
        directions(rng, 1, dimensions) * COMMON
        + np.repeat(directions(rng, TOPICS, dimensions) * TOPIC, SUBTOPICS, axis=0)
        + directions(rng, TOPICS * SUBTOPICS, dimensions) * SUBTOPIC
    )
    popularity = rng.dirichlet(np.full(len(centres), 0.4))
    spectrum = (1 + np.arange(dimensions, dtype=np.float32)) ** SPECTRUM

    def around(places: np.ndarray) -> Vectors:
        own = unit(rng.standard_normal((len(places), dimensions), dtype=np.float32) * spectrum)
        return unit((centres[places] + own * OWN).astype(np.float32))

    subtopic = rng.choice(len(centres), rows, p=popularity)
    asked = rng.choice(subtopic, queries)
    # Where a row comes when they are sorted by subtopic: ranges of it are regions of the space.
    order = np.lexsort((rng.random(rows), subtopic))
    place = np.empty(rows, np.int32)
    place[order] = np.arange(rows)
    label = rng.choice(["other", *map(label_of, LABELLED)], rows, p=[1 - sum(LABELLED), *LABELLED])
    tagged = [(label_of(share), rng.random(rows) < share) for share in LABELLED]
    attributes = pa.table(
        {
            "bucket": rng.permutation(rows).astype(np.int32),
            "place": place,
            "label": label.astype(str),
            "tags": [[name for name, has in tagged if has[row]] or ["other"] for row in range(rows)],
            "extra": rng.permutation(rows).astype(np.int32),
        }
    )
    data = Dataset(
        "plans", around(subtopic), around(asked), attributes, pa.table({}), Roles(None, None, None, None, None)
    )
    starts = np.searchsorted(subtopic[order], asked)
    return data, list(make_conditions(rows, starts))


def label_of(share: float) -> str:
    """The label and the tag that a share of the rows has."""
    return f"s{share}"


def make_conditions(rows: int, starts: np.ndarray) -> Iterator[Condition]:
    """The filters; ``starts`` has the place where each query's own subtopic begins."""
    yield Condition("none", 1.0, "", lambda query: [])
    for share in (share for share in SHARES if rows * share >= 1):
        count = round(rows * share)

        def near(query: int, count: int = count) -> list[str]:
            first = min(int(starts[query]), rows - count)
            return [str(first), str(first + count - 1)]

        def far(query: int, count: int = count) -> list[str]:
            first = (int(starts[query]) + rows // 2) % (rows - count + 1)
            return [str(first), str(first + count - 1)]

        yield Condition("range", share, "bucket < $2", lambda query, count=count: [str(count)])  # type: ignore[misc]
        yield Condition("near", share, "place BETWEEN $2 AND $3", near)
        yield Condition("far", share, "place BETWEEN $2 AND $3", far)
        yield Condition("left", share, "extra < $2", lambda query, count=count: [str(count)])  # type: ignore[misc]
        if share in LABELLED:
            yield Condition("label", share, "label = $2", lambda query, share=share: [label_of(share)])  # type: ignore[misc]
            yield Condition("tags", share, "tags && $2", lambda query, share=share: [f"{{{label_of(share)}}}"])  # type: ignore[misc]


def make_table(connection: psycopg.Connection[Any], side: Winnow, data: Dataset) -> None:
    """The table and its indexes.  The winnow index lacks ``extra``, so that there are filters left to the executor."""
    connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
    connection.execute(side.table_sql(data, TABLE))
    connection.execute(f"ALTER TABLE {TABLE} SET (autovacuum_enabled = off)")
    fill(connection, side, data, TABLE, range(len(data.base)))
    connection.execute(
        f"CREATE INDEX {WINNOW_INDEX} ON {TABLE} USING winnow (embedding {side.opclass}, bucket, place, label, tags)"
    )
    for name in ("bucket", "place", "label", "extra"):
        connection.execute(f"CREATE INDEX plans_{name} ON {TABLE} ({name})")
    connection.execute(f"CREATE INDEX plans_tags ON {TABLE} USING gin (tags) WITH (fastupdate = off)")


def set_statistics(connection: psycopg.Connection[Any], statistics: str) -> None:
    """Let the planner know as much of the fresh table, in the order of STATISTICS."""
    if statistics == UNKNOWN:
        connection.execute("DELETE FROM pg_statistic WHERE starelid = %s::regclass", (TABLE,))
        connection.execute(
            "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid IN"
            " (SELECT %(table)s::regclass UNION ALL"
            " SELECT indexrelid FROM pg_index WHERE indrelid = %(table)s::regclass)",
            {"table": TABLE},
        )
    elif statistics == ANALYZED:
        connection.execute(f"ANALYZE {TABLE}")


# Measuring


def measure_table(
    free: psycopg.Connection[Any],
    forced: Mapping[str, psycopg.Connection[Any]],
    data: Dataset,
    grid: Sequence[tuple[Condition, int]],
    options: Options,
    step: Callable[[], None],
) -> list[Point]:
    """All searches on one table: what is chosen with each kind of statistics, and the times with the last of them."""
    points = [Point(len(data.base), data.dimensions, each.name, each.share, k) for each, k in grid]
    choices: dict[str, list[list[str]]] = {}
    for statistics in STATISTICS:
        set_statistics(free, statistics)
        choices[statistics] = []
        for condition, k in grid:
            calls = calls_of(data, condition)
            choices[statistics].append([kind_of(explain(free, search_sql(condition, k), call)) for call in calls])
    for place, (point, (condition, k)) in enumerate(zip(points, grid, strict=True)):
        times = time_kinds(forced, search_sql(condition, k), calls_of(data, condition), options.rounds, point.costs)
        means = {kind: float(np.mean(seconds)) for kind, seconds in times.items()}
        point.milliseconds = {kind: 1000 * mean for kind, mean in means.items()}
        for statistics in STATISTICS:
            chosen = choices[statistics][place]
            charged = np.mean([times[kind][query] for query, kind in enumerate(chosen)])
            point.chosen[statistics] = Counter(chosen).most_common(1)[0][0]
            point.slowdown[statistics] = max(1.0, float(charged) / min(means.values()))
        step()
    return points


def search_sql(condition: Condition, k: int) -> str:
    """The search, with $1 for the vector."""
    where = f" WHERE {condition.sql}" if condition.sql else ""
    return f"SELECT id FROM {TABLE}{where} ORDER BY embedding <-> $1 LIMIT {k}"  # noqa: S608 (all of it is ours)


def calls_of(data: Dataset, condition: Condition) -> list[Call]:
    """The parameters of every query."""
    return [vector_call(vector, condition.values(query)) for query, vector in enumerate(data.queries)]


def explain(connection: psycopg.Connection[Any], sql: str, call: Call) -> dict[str, Any]:
    """The plan for one query's own values."""
    text = f"EXPLAIN (FORMAT JSON) {sql}".encode()
    result = connection.pgconn.exec_params(text, call.parameters, None, call.formats, TEXT)
    check(result, sql)
    plan: dict[str, Any] = json.loads(result.get_value(0, 0) or b"[]")[0]["Plan"]
    return plan


def kind_of(plan: Mapping[str, Any]) -> str:
    """Which kind a plan is of."""
    if plan.get("Index Name") is not None:
        return WINNOW if plan["Index Name"] == WINNOW_INDEX else OTHER
    if plan["Node Type"] == "Seq Scan":
        return SEQUENTIAL
    return kind_of(plan["Plans"][0])


def time_kinds(
    forced: Mapping[str, psycopg.Connection[Any]],
    sql: str,
    calls: Sequence[Call],
    rounds: int,
    costs: dict[str, float],
) -> dict[str, list[float]]:
    """Seconds of every query (the best of the rounds) by every kind of plan that there is; fills in their costs."""
    statements = {}
    for kind, connection in forced.items():
        plan = explain(connection, sql, calls[0])
        if kind_of(plan) == kind:
            costs[kind] = float(plan["Total Cost"])
            statements[kind] = Statement(connection, sql)
    best = {kind: [np.inf] * len(calls) for kind in statements}
    running = list(statements)
    turn, last = 0, rounds  # the first one warms the caches
    while turn <= last:
        for query, call in enumerate(calls):
            for kind in running if (turn + query) % 2 == 0 else reversed(running):
                best[kind][query] = min(best[kind][query], statements[kind].run(call)[1])
        quickest = min(sum(best[kind]) for kind in running)
        running = [kind for kind in running if sum(best[kind]) <= max(GIVEN_UP * quickest, SHORT * len(calls))]
        last = rounds * (MORE_ROUNDS if quickest < VERY_SHORT * len(calls) else 1)
        turn += 1
    for connection in forced.values():
        connection.execute("DEALLOCATE ALL")
    return best


# The report


def judge(points: Sequence[Point], statistics: str, within: float) -> Verdict:
    """How good the choices were with one kind of statistics."""
    slowdowns = [point.slowdown[statistics] for point in points]
    good = sum(slowdown <= 1 + within for slowdown in slowdowns)
    return Verdict(len(points), good / max(len(points), 1), max(slowdowns, default=1.0))


def as_json(points: Sequence[Point], options: Options) -> dict[str, Any]:
    """Options, verdicts and points as plain values."""
    verdicts = {statistics: asdict(judge(points, statistics, options.within)) for statistics in STATISTICS}
    return {"options": asdict(options), "verdicts": verdicts, "points": [asdict(point) for point in points]}


def verdict_table(points: Sequence[Point], within: float) -> Table:
    """The share of good choices and the worst one, by table and statistics."""
    table = Table(title=f"The planner's choice was the quickest plan (within {within:.0%})")
    table.add_column("table")
    for statistics in STATISTICS:
        table.add_column(statistics, justify="right")
        table.add_column("worst", justify="right")
    tables: dict[str, list[Point]] = {}
    for point in points:
        tables.setdefault(f"{point.rows:,} x {point.dimensions}", []).append(point)
    for name, part in [*tables.items(), ("all", list(points))]:
        verdicts = [judge(part, statistics, within) for statistics in STATISTICS]
        cells = [cell for each in verdicts for cell in (f"{each.quickest:.1%}", f"{each.worst:.1f}x")]
        table.add_row(name, *cells, style="bold" if name == "all" else None)
    return table


def misses_table(points: Sequence[Point], within: float, most: int = 25) -> Table:
    """The worst choices."""
    table = Table(title="The worst choices")
    for name in (
        "rows",
        "dims",
        "filter",
        "share",
        "k",
        "statistics",
        "chosen",
        "slowdown",
        *(f"{each} ms" for each in FORCE),
    ):
        table.add_column(name, justify="left" if name in ("filter", "statistics", "chosen") else "right")
    misses = [(point.slowdown[each], point, each) for point in points for each in STATISTICS]
    misses = sorted((each for each in misses if each[0] > 1 + within), key=lambda each: -each[0])[:most]
    for slowdown, point, statistics in misses:
        times = [f"{point.milliseconds[kind]:.2f}" if kind in point.milliseconds else "" for kind in FORCE]
        start = [f"{point.rows:,}", str(point.dimensions), point.condition, f"{point.share:.2%}", str(point.k)]
        table.add_row(*start, statistics, point.chosen[statistics], f"{slowdown:.1f}x", *times)
    return table
