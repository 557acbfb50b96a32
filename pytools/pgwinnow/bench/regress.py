"""Two runs over the same data against each other: what became slower, bigger or less complete.

Absolute times drift by tens of percent between runs on a shared machine. Where both runs hold the same rival, it is
the yardstick: winnow's times are divided by the rival's change in the same place, and the rival itself is shown but
not judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from pgwinnow.bench.curve import Point
from pgwinnow.bench.measure import Answer
from pgwinnow.bench.prepared import BenchError
from pgwinnow.bench.report import OWN, Results, called, size
from pgwinnow.bench.tables import Build

TOLERANCE = 0.1
RECALL_TOLERANCE = 0.01

Kind = Literal["time", "size", "share", "count"]
Key = tuple[str, str]  # what was measured (a workload and k, an index), and which figure of it
COMPARED = ("metric", "recall", "seed", "rounds", "data", "machine", "extensions", "server")


@dataclass(frozen=True)
class Figure:
    """One figure of one side in one run: seconds, bytes, a share of 1 or a count."""

    value: float
    kind: Kind
    effort: str = ""  # a rival that tries harder is no yardstick for the machine


@dataclass(frozen=True)
class Change:
    """One figure in both runs."""

    side: str
    where: str
    name: str
    kind: Kind
    old: float
    new: float
    drift: float | None  # the rivals' change in the same place; None where there is no yardstick
    judged: bool

    @property
    def factor(self) -> float:
        """New over old with the drift taken out; for shares and counts the difference."""
        if self.kind in ("share", "count"):
            return self.new - self.old
        if self.old == self.new:
            return 1.0
        if self.old <= 0:
            return math.inf
        return self.new / self.old / (self.drift or 1.0)

    def direction(self, tolerance: float, recall_tolerance: float) -> int:
        """1: worse by more than the tolerance, -1: better by more than it, 0: neither."""
        if self.kind == "count":
            return (self.factor > 0) - (self.factor < 0)
        if self.kind == "share":
            if self.name == "rows" and self.old >= 1 > self.new:
                return 1  # "all rows" is a promise, which the first missing row breaks
            return (self.factor < -recall_tolerance) - (self.factor > recall_tolerance)
        return (self.factor > 1 + tolerance) - (self.factor < 1 / (1 + tolerance))


@dataclass(frozen=True)
class Comparison:
    """All changes between two runs, the yardstick's names, and what a reader must know besides."""

    changes: Sequence[Change]
    yardstick: Sequence[str]
    notes: Sequence[str]
    tolerance: float
    recall_tolerance: float

    @property
    def regressions(self) -> list[Change]:
        """The judged changes for the worse."""
        return [change for change in self.changes if change.judged and self.direction(change) > 0]

    def direction(self, change: Change) -> int:
        """Worse (1), better (-1) or neither, by this comparison's tolerances."""
        return change.direction(self.tolerance, self.recall_tolerance)


def compare(
    old: Results, new: Results, *, tolerance: float = TOLERANCE, recall_tolerance: float = RECALL_TOLERANCE
) -> Comparison:
    """Compare every figure that both runs have.

    ``tolerance`` is relative, for times and bytes; ``recall_tolerance`` is absolute, for recall and the share of rows.
    Raises BenchError where the runs measured different data or metrics, or have no figure in common.
    """
    for part, name in (("fingerprint", "data"), ("metric", "metrics")):
        before, after = old.environment.get(part), new.environment.get(part)
        if isinstance(before, Mapping) and isinstance(after, Mapping):  # of a table, with one for each workload
            before, after = ({each: run[each] for each in before if each in after} for run in (before, after))
        if before != after:
            raise BenchError(
                f"the two runs measured different {name}: {part} {differing(before, after)}",
                "compare runs that were made with the same --data, or with the same --table, its rows unchanged, and"
                " --queries and --seed; and with the same --metric",
            )
    figures = [figures_of(old), figures_of(new)]
    common = [side for side in figures[0] if side in figures[1]]
    yardstick = [side for side in common if side != OWN] if OWN in common else []
    changes = []
    for side in common:
        before, after = figures[0][side], figures[1][side]
        for key, figure in before.items():
            if key not in after:
                continue
            judged = side not in yardstick
            drift = drift_of(key, figures, yardstick) if judged and figure.kind == "time" else None
            changes.append(Change(side, *key, figure.kind, figure.value, after[key].value, drift, judged))
    if not any(change.judged for change in changes):
        raise BenchError(
            "the two runs have nothing in common to compare",
            "both must have measured the same side, in the same phase and workload",
        )
    return Comparison(changes, yardstick, list(notes(old, new, figures)), tolerance, recall_tolerance)


def drift_of(key: Key, figures: Sequence[Mapping[str, Mapping[Key, Figure]]], yardstick: Iterable[str]) -> float | None:
    """Geometric mean of the rivals' change of one time, where they had to do the same both times; None without."""
    factors = []
    for side in yardstick:
        before, after = (run[side].get(key) for run in figures)
        # Equal to the last bit is not a second measurement but a figure taken over by --reuse.
        if not before or not after or before.effort != after.effort or before.value == after.value:
            continue
        if all(0 < value < math.inf for value in (before.value, after.value)):
            factors.append(after.value / before.value)
    return math.exp(sum(map(math.log, factors)) / len(factors)) if factors else None


def figures_of(results: Results) -> dict[str, dict[Key, Figure]]:
    """Every figure of a run, by side and then by place and name."""
    found: dict[str, dict[Key, Figure]] = {}

    def add(side: str, where: str, name: str, figure: Figure) -> None:
        found.setdefault(side, {})[where, name] = figure

    for answer in results.answers:
        for name, figure in answer_figures(answer):
            add(answer.side, called(answer.workload, answer.k), name, figure)
    for point in results.points:  # their times are not compared: rivals have other efforts, hence give no drift
        where = f"{called(point.workload, point.k)} at {point.effort}"
        for name, figure in found_figures(point):
            add(point.side, where, name, figure)
    for each in results.throughput:
        where = called(each["workload"], each["k"])
        add(each["side"], where, f"{each['clients']} clients", Figure(inverse(each["queries_per_second"]), "time"))
    for side in dict.fromkeys(build.side for build in results.builds):
        own = [build for build in results.builds if build.side == side]
        for name, figure in build_figures(own):
            add(side, "indexes", name, figure)
    for cost in results.inserts:
        add(cost.side, "insert", "time per row", Figure(inverse(cost.rows_per_second), "time"))
        add(cost.side, "insert", "index WAL per row", Figure(cost.index_wal_bytes_per_row, "size"))
        if cost.wal_bytes_per_row_again:
            add(cost.side, "insert", "the same again", Figure(cost.index_wal_bytes_per_row_again, "size"))
    for change in results.upkeep:
        where = f"{change.task}, {change.clients} client{'s' if change.clients > 1 else ''}"
        if change.rows:
            add(change.side, where, "time per row", Figure(change.seconds / change.rows, "time"))
            add(change.side, where, "WAL per row", Figure(change.wal_bytes / change.rows, "size"))
    for search in results.busy:
        for state, times in (("idle", search.idle), (f"while {search.writers} clients insert", search.busy)):
            for name in ("p50", "p99"):
                add(search.side, f"{search.workload}, {state}", name, Figure(times[name] / 1000, "time"))
    for vacuum in results.vacuums:
        where = f"vacuum of {vacuum.deleted:,} rows"
        add(vacuum.side, where, "time", Figure(vacuum.seconds, "time"))
        add(vacuum.side, where, "WAL", Figure(vacuum.wal_bytes, "size"))
        if vacuum.plain_wal_bytes:
            add(vacuum.side, where, "index WAL", Figure(vacuum.index_wal_bytes, "size"))
    return found


def inverse(rate: float) -> float:
    """The time that one takes, where so many are done in a second."""
    return 1 / rate if rate > 0 else math.inf


def answer_figures(answer: Answer) -> Iterator[tuple[str, Figure]]:
    """Figures of one workload; none where no row matches."""
    if not answer.measured:
        return
    yield from found_figures(answer)
    yield "wrong rows", Figure(answer.wrong, "count", answer.effort)
    for name in ("p50", "p99"):
        yield name, Figure(answer.milliseconds[name] / 1000, "time", answer.effort)


def found_figures(each: Answer | Point) -> Iterator[tuple[str, Figure]]:
    """What was found of what there is: recall, and the share of the rows."""
    yield "recall", Figure(each.recall, "share", each.effort)
    yield "rows", Figure(each.returned / each.expected if each.expected else 1.0, "share", each.effort)


def build_figures(builds: Sequence[Build]) -> Iterator[tuple[str, Figure]]:
    """Figures of one side's indexes taken together, as what is in one index here is in several there."""
    yield "build", Figure(sum(build.seconds for build in builds), "time", str(builds[0].settings))
    yield "size", Figure(sum(build.size_bytes for build in builds), "size")
    peaks = [build.peak_bytes for build in builds if build.peak_bytes is not None]
    if peaks:
        yield "peak memory", Figure(max(peaks), "size")


def notes(old: Results, new: Results, figures: Sequence[Mapping[str, Mapping[Key, Figure]]]) -> Iterator[str]:
    """Differences between the runs that are no figures: circumstances, efforts, what one of them lacks."""
    for part in COMPARED:
        before, after = old.environment.get(part), new.environment.get(part)
        if before != after:
            yield f"{part}: {differing(before, after)}"
    for side in dict.fromkeys([*figures[0], *figures[1]]):
        before, after = (run.get(side, {}) for run in figures)
        for run, less, more in (("new", after, before), ("old", before, after)):
            missing = list(dict.fromkeys(where for where, name in more if (where, name) not in less))
            if missing:
                yield f"{side}: not in the {run} run: {', '.join(missing)}"
        for (where, name), figure in before.items():
            if name == "recall" and (where, name) in after and after[where, name].effort != figure.effort:
                yield f"{side}, {where}: effort {figure.effort} before, {after[where, name].effort} now"


def differing(before: Any, after: Any) -> str:
    """Two values of the environment, of mappings only what differs."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        parts = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        return ", ".join(f"{name} {before.get(name)} before, {after.get(name)} now" for name in parts)
    return f"{before} before, {after} now"


FORMS: Mapping[Kind, Callable[[float], str]] = {
    "time": lambda value: f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms",
    "size": size,
    "share": lambda value: f"{value:.3f}",
    "count": lambda value: f"{value:g}",
}


def regress_table(comparison: Comparison, *, everything: bool = False) -> Table:
    """What changed beyond the tolerance, or every figure, those of the yardstick too."""
    table = Table(title="Changes" if everything else "Changes beyond the tolerance")
    numbers = ("old", "new", "drift", "change")
    for name in ("side", "where", "what", *numbers, "verdict"):
        table.add_column(name, justify="right" if name in numbers else "left")
    for change in comparison.changes:
        direction = comparison.direction(change)
        if not everything and not (direction and change.judged):
            continue
        form = FORMS[change.kind]
        table.add_row(
            change.side,
            escape(change.where),
            change.name,
            form(change.old),
            form(change.new),
            "" if change.drift is None else f"x {change.drift:.2f}",
            f"{change.factor:+.3f}" if change.kind in ("share", "count") else f"x {change.factor:.2f}",
            verdict(change, direction),
        )
    return table


def verdict(change: Change, direction: int) -> str:
    """The change in a word."""
    if not direction:
        return ""
    if not change.judged:
        return "[dim]yardstick[/]"
    words = {"time": ("slower", "quicker"), "size": ("bigger", "smaller"), "share": ("less", "more")}
    worse, better = words.get(change.kind, ("more", "fewer"))
    return f"[red]{worse}[/]" if direction > 0 else f"[green]{better}[/]"


def summary(comparison: Comparison) -> Iterator[str]:
    """The comparison in sentences."""
    if comparison.yardstick:
        names = ", ".join(comparison.yardstick)
        times = [change for change in comparison.changes if change.judged and change.kind == "time"]
        without = list(
            dict.fromkeys(change.where for change in times if change.drift is None and change.old != change.new)
        )
        yield (
            f"times are divided by the drift of {names} in the same workload (column drift); "
            f"{names} is the yardstick and is not judged"
        )
        if without:
            yield (
                "[yellow]taken as they are, for want of a drift "
                f"({names} not measured again, or at another effort):[/] {escape(', '.join(without))}"
            )
    else:
        yield "[yellow]no rival is in both runs: times are compared as they are, with the machine's drift in them[/]"
    for note in comparison.notes:
        yield f"[yellow]differs:[/] {escape(note)}"
    judged = [change for change in comparison.changes if change.judged]
    better = sum(comparison.direction(change) < 0 for change in judged)
    worse = len(comparison.regressions)
    yield (
        f"{len(judged)} figures compared: [{'bold red' if worse else 'green'}]{worse} worse[/], {better} better "
        f"(beyond {comparison.tolerance:.0%}; recall and rows beyond {comparison.recall_tolerance:g})"
    )
