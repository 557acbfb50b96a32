"""Results as pictures: recall against time, ratios, ranges of time, and what the indexes cost.

Every chart is narrow, so that its text is still legible on a telephone, and exists in a light and a dark form.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pgwinnow.bench.curve import Point
from pgwinnow.bench.measure import Answer
from pgwinnow.bench.report import OWN, Results, by_workload, curve_of, points_in_order, ratio, rivals, short_name

WIDTH = 5.0  # inches
DPI = 180
ROW = 0.17  # inches of height for one bar
MARGINS = 1.3  # inches of height for title, axis and legend
LEAST_RECALL = 0.5  # what finds less is in the tables only
LONGEST_NAME = 60  # characters of a workload in a file name
TITLE_WIDTH, NAME_WIDTH = 64, 26  # characters of a line in a title and beside an axis
FADED = 0.35  # opacity of a bar that compares unequal recalls


@dataclass(frozen=True)
class Theme:
    """Colours of a chart; sides take the palette in their order, winnow first."""

    name: str
    text: str
    ground: str
    grid: str
    palette: Sequence[str]


LIGHT = Theme(
    "light",
    "#1f2328",
    "#ffffff",
    "#d8dee4",
    ("#0a6ebd", "#c9372c", "#8a6100", "#22753a", "#6b46a8", "#b4500b", "#555c63"),
)
DARK = Theme(
    "dark",
    "#e6edf3",
    "#12161c",
    "#30363d",
    ("#58a6ff", "#ff8a80", "#e3b341", "#6fd08c", "#c4a3ff", "#ffa657", "#adb5bd"),
)

Draw = Callable[[Theme], Figure]


@dataclass(frozen=True)
class Chart:
    """One picture: a name that serves in file names, a title, and the way to draw it in a theme."""

    name: str
    title: str
    draw: Draw

    def png(self, theme: Theme = LIGHT) -> bytes:
        """The picture as a PNG file."""
        file = io.BytesIO()
        with rc_context({"text.parse_math": False}):  # a dollar is a dollar: filters have placeholders
            figure = self.draw(theme)
            figure.suptitle(folded(self.title, TITLE_WIDTH, 3), fontsize=9.5, color=theme.text)
            FigureCanvasAgg(figure)
            figure.savefig(file, format="png", dpi=DPI, facecolor=theme.ground)
        return file.getvalue()


def charts(results: Results, sides: Sequence[str]) -> list[Chart]:
    """Every chart that the results have figures for; ``sides`` gives each side its colour."""
    found: list[Chart] = []
    results = replace(results, answers=[each for each in results.answers if each.measured])
    if rivals(results.answers):
        found.append(Chart("ratios", "Time of the rivals, as a multiple of winnow's", ratios(results, sides)))
    if results.answers:
        found.append(Chart("ranges", "Time: median to 99th percentile", ranges(results.answers, sides)))
        found += curves(results, sides)
    if costs := cost_panels(results):
        found.append(Chart("costs", "What the indexes cost", cost_bars(costs, sides)))
    return found


def side_order(runs: Sequence[Results]) -> list[str]:
    """All sides of several runs, winnow first."""
    names: dict[str, None] = {OWN: None}
    for results in runs:
        for part in (results.builds, results.answers, results.points, results.inserts, results.vacuums):
            names.update(dict.fromkeys(each.side for each in part))
    return list(names)


def colour(theme: Theme, sides: Sequence[str], side: str) -> str:
    """The colour of a side."""
    return theme.palette[sides.index(side) % len(theme.palette)]


def blank(theme: Theme, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of panels one below the other, in the colours of the theme."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=theme.ground)
    axes = [figure.add_subplot(panels, 1, place + 1) for place in range(panels)]
    for each in axes:
        each.set_facecolor(theme.ground)
        each.tick_params(colors=theme.text, labelsize=8)
        each.grid(color=theme.grid, linewidth=0.6)
        each.set_axisbelow(True)
        for spine in each.spines.values():
            spine.set_color(theme.grid)
        each.xaxis.label.set_color(theme.text)
        each.yaxis.label.set_color(theme.text)
    return figure, axes


def legend(figure: Figure, axes: Axes, theme: Theme) -> None:
    """The sides' names below the chart."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(
        list(unique.values()),
        list(unique),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        labelcolor=theme.text,
        fontsize=8,
    )


def logarithmic(axes: Axes, *, vertical: bool = False) -> None:
    """A logarithmic axis with plain numbers."""
    (axes.set_yscale if vertical else axes.set_xscale)("log")
    axis = axes.yaxis if vertical else axes.xaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def ratios(results: Results, sides: Sequence[str]) -> Draw:
    """Bars from 1: to the right winnow is quicker; faint where the two do not have the recall both."""
    target = float(results.environment["recall"])
    groups = by_workload(results.answers)
    others = rivals(results.answers)

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = blank(theme, MARGINS + ROW * len(groups) * (len(others) + 0.6))
        names = []
        for place, ((workload, k), row) in enumerate(groups):
            names.append(label(workload, k, groups))
            for n, rival in enumerate(others):
                value = ratio(row, rival)
                if value is None:
                    continue
                equal = all(answer.recall >= target for answer in row if answer.side in (OWN, rival))
                axes.barh(
                    place + (n + 0.5) / len(others) * 0.8 - 0.4,
                    value - 1,
                    0.8 / len(others),
                    left=1,
                    color=colour(theme, sides, rival),
                    alpha=1 if equal else FADED,
                    label=rival,
                )
        logarithmic(axes)
        axes.axvline(1, color=theme.text, linewidth=1)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("right of 1: winnow is quicker; faint: unequal recall", fontsize=8)
        legend(figure, axes, theme)
        return figure

    return draw


def ranges(answers: Sequence[Answer], sides: Sequence[str]) -> Draw:
    """A line from p50 to p99 for every workload and side, with a mark at p95."""
    groups = by_workload(answers)
    shown = [side for side in sides if any(answer.side == side for answer in answers)]

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = blank(theme, MARGINS + ROW * len(groups) * (len(shown) + 0.6))
        for place, (_, row) in enumerate(groups):
            for answer in row:
                height = place + (shown.index(answer.side) + 0.5) / len(shown) * 0.8 - 0.4
                low, middle, high = (answer.milliseconds[name] for name in ("p50", "p95", "p99"))
                paint = colour(theme, sides, answer.side)
                axes.plot([low, high], [height, height], color=paint, linewidth=1.6)
                axes.plot([middle], [height], "|", color=paint, markersize=5)
                axes.plot([low], [height], "o", color=paint, markersize=3.5, label=answer.side)
        logarithmic(axes)
        axes.set_yticks(range(len(groups)), [label(workload, k, groups) for (workload, k), _ in groups])
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_xlabel("ms: median (dot), 95th percentile (stroke), 99th (end)", fontsize=8)
        legend(figure, axes, theme)
        return figure

    return draw


def curves(results: Results, sides: Sequence[str]) -> Iterator[Chart]:
    """Recall against median time for each workload, from the curves or else from the answers."""
    used: dict[str, int] = {}
    points = points_in_order(results.points or [as_point(answer) for answer in results.answers])
    for (workload, k), group in groupby(points, key=lambda each: (each.workload, each.k)):
        listed = list(group)
        asked = "" if k is None else f"k = {k}, "
        title = f"{workload}, {asked}{listed[0].matching:.2%} of the rows match"
        name = f"curve-{slug(workload)[:LONGEST_NAME]}" + ("" if k is None else f"-k{k}")
        used[name] = used.get(name, 0) + 1
        yield Chart(name if used[name] == 1 else f"{name}-{used[name]}", title, curve(listed, sides))


def as_point(answer: Answer) -> Point:
    """A side's answer as the one point of its curve."""
    return Point(
        workload=answer.workload,
        side=answer.side,
        k=answer.k,
        effort=answer.effort,
        matching=answer.matching,
        recall=answer.recall,
        returned=answer.returned,
        expected=answer.expected,
        milliseconds=answer.milliseconds,
    )


def curve(points: Sequence[Point], sides: Sequence[str]) -> Draw:
    """A line for each side through its efforts, from half the recall up; a hollow mark where rows were missing."""

    def draw(theme: Theme) -> Figure:
        figure, (axes,) = blank(theme, 3.4)
        for (_, _, side), group in groupby(points, key=curve_of):
            listed = sorted(group, key=lambda each: (each.recall, each.milliseconds["p50"]))
            paint = colour(theme, sides, side)
            recalls, times = [each.recall for each in listed], [each.milliseconds["p50"] for each in listed]
            axes.plot(recalls, times, color=paint, linewidth=1.2)
            for recall, milliseconds, each in zip(recalls, times, listed, strict=True):
                full = each.returned >= each.expected
                axes.plot(
                    [recall],
                    [milliseconds],
                    "o",
                    color=paint,
                    markersize=5,
                    label=side,
                    markerfacecolor=paint if full else theme.ground,
                )
        logarithmic(axes, vertical=True)
        low = min(0.9, max(LEAST_RECALL, min(each.recall for each in points)))
        axes.set_xlim(low - 0.05 * (1 - low), 1 + 0.05 * (1 - low))
        axes.set_xlabel("recall (hollow: rows were missing)", fontsize=8)
        axes.set_ylabel("median ms", fontsize=8)
        legend(figure, axes, theme)
        return figure

    return draw


def cost_panels(results: Results) -> list[tuple[str, Mapping[str, float]]]:
    """Each cost that was measured: its title with the unit, and each side's figure."""
    built = dict.fromkeys(build.side for build in results.builds)
    own = {side: [build for build in results.builds if build.side == side] for side in built}
    peaks = {side: max((build.peak_bytes or 0 for build in builds), default=0) / 1e6 for side, builds in own.items()}
    panels: list[tuple[str, dict[str, float]]] = [
        ("building the indexes, s", {side: sum(each.seconds for each in builds) for side, builds in own.items()}),
        (
            "size of the indexes, MB",
            {side: sum(each.size_bytes for each in builds) / 1e6 for side, builds in own.items()},
        ),
        ("peak memory of building, MB", {side: peak for side, peak in peaks.items() if peak}),
        ("WAL of the indexes per inserted row, kB", {c.side: c.index_wal_bytes_per_row / 1e3 for c in results.inserts}),
        (
            "the same without most page images, kB",
            {c.side: c.index_wal_bytes_per_row_again / 1e3 for c in results.inserts if c.wal_bytes_per_row_again},
        ),
        (
            "time to insert a row, ms",
            {cost.side: 1e3 / cost.rows_per_second for cost in results.inserts if cost.rows_per_second},
        ),
        *upkeep_panels(results),
        ("VACUUM, s", {cost.side: cost.seconds for cost in results.vacuums}),
        ("WAL of VACUUM, MB", {cost.side: cost.wal_bytes / 1e6 for cost in results.vacuums}),
        (
            "the indexes' part of it, MB",
            {cost.side: cost.index_wal_bytes / 1e6 for cost in results.vacuums if cost.plain_wal_bytes},
        ),
    ]
    return [(title, figures) for title, figures in panels if figures]


def upkeep_panels(results: Results) -> Iterator[tuple[str, dict[str, float]]]:
    """What rows take that come or change one way, and a search meanwhile."""
    for task, clients in dict.fromkeys((cost.task, cost.clients) for cost in results.upkeep):
        costs = [
            cost for cost in results.upkeep if (cost.task, cost.clients) == (task, clients) and cost.rows_per_second
        ]
        crowd = f", {clients} clients" if clients > 1 else ""
        yield f"{task}{crowd}: ms a row", {cost.side: 1e3 / cost.rows_per_second for cost in costs}
    for writers in dict.fromkeys(search.writers for search in results.busy):
        searches = [search for search in results.busy if search.writers == writers]
        title = f"99th percentile of a search while {writers} clients insert, ms"
        yield title, {search.side: search.busy["p99"] for search in searches}


def cost_bars(panels: Sequence[tuple[str, Mapping[str, float]]], sides: Sequence[str]) -> Draw:
    """A panel for each cost with a bar for each side, its figure beside it."""

    def draw(theme: Theme) -> Figure:
        heights = [0.55 + 0.24 * len(figures) for _, figures in panels]
        figure, all_axes = blank(theme, sum(heights), len(panels))
        for axes, (title, figures) in zip(all_axes, panels, strict=True):
            for place, (side, value) in enumerate(figures.items()):
                axes.barh(place, max(value, 0), 0.7, color=colour(theme, sides, side))
                axes.annotate(
                    f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
                    (max(value, 0), place),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    color=theme.text,
                    fontsize=8,
                )
            axes.set_yticks(range(len(figures)), list(figures))
            axes.set_ylim(len(figures) - 0.4, -0.6)
            axes.set_xlim(0, max([*figures.values(), 1e-9]) * 1.15)
            axes.set_title(title, fontsize=9, loc="left", color=theme.text)
            axes.set_xticks([])
        return figure

    return draw


def label(workload: str, k: int | None, groups: Sequence[tuple[tuple[str, int | None], Sequence[Answer]]]) -> str:
    """The name of a workload on an axis, with k where there are several."""
    name = short_name(workload, k, [answer for _, row in groups for answer in row])
    return folded(name, NAME_WIDTH, 2)


def folded(text: str, width: int, lines: int) -> str:
    """A text in no more than so many lines, with its middle left out where it is too long."""
    wrapped = textwrap.wrap(text, width)
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], "\u2026" + text[1 - width :]]
    return "\n".join(wrapped)


def slug(name: str) -> str:
    """A name as a part of a file name; operators keep apart what letters alone would not."""
    words = {"&&": "overlaps", "@>": "contains", "%": "percent", "<": "below"}
    for sign, word in words.items():
        name = name.replace(sign, word)
    return re.sub(r"[^\w.]+", "-", name.lower()).strip("-")
