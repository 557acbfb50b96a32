"""Results as tables on the screen and as JSON in a file.

A ratio is a rival's mean time over winnow's, at the recall that both were asked for: above one winnow is quicker.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress, groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pgwinnow._cli_common import plain
from pgwinnow.bench.curve import Point
from pgwinnow.bench.measure import Answer
from pgwinnow.bench.prepared import BenchError
from pgwinnow.bench.records import record, records
from pgwinnow.bench.tables import BUILD_SETTINGS, Build
from pgwinnow.bench.upkeep import BusySearch, UpkeepCost
from pgwinnow.bench.writes import InsertCost, VacuumCost
from pgwinnow.errors import WinnowError

OWN = "winnow"  # the side that the others are compared with
PAGE = 8192
SURPLUS = (("lists_probed", "lists_needed"), ("rows_tested", "rows_needed"))  # counters: had, needed
FILE_WIDTH = 160  # columns of a report that does not go to a terminal
FULL_WIDTH = 110  # columns that the table of all figures takes
LEFT_OUT = ("matching", "worst", "p95", "effort")  # where there are fewer


@dataclass(frozen=True)
class Environment:
    """What reports need of a run's environment, which has more."""

    recall: float
    memory_bytes_per_second: float | None = None


@dataclass(frozen=True)
class Rate:
    """What a record of the throughput has."""

    workload: str
    k: int | None
    side: str
    clients: int
    queries_per_second: float


@dataclass
class Results:
    """Everything one run found."""

    environment: dict[str, Any]
    builds: list[Build] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)  # of the curves
    throughput: list[dict[str, Any]] = field(default_factory=list)  # workload, side, clients, queries_per_second
    inserts: list[InsertCost] = field(default_factory=list)
    upkeep: list[UpkeepCost] = field(default_factory=list)
    busy: list[BusySearch] = field(default_factory=list)
    vacuums: list[VacuumCost] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "environment": self.environment,
            "builds": [each.as_json() for each in self.builds],
            "answers": [each.as_json() for each in self.answers],
            "points": [each.as_json() for each in self.points],
            "throughput": self.throughput,
            "inserts": [each.as_json() for each in self.inserts],
            "upkeep": [each.as_json() for each in self.upkeep],
            "busy": [each.as_json() for each in self.busy],
            "vacuums": [each.as_json() for each in self.vacuums],
        }

    @classmethod
    def read(cls, path: Path) -> Results:
        """The results that an earlier run wrote to a JSON file. Raises BenchError where it holds no whole run."""
        hint = "name a file that 'pgwinnow bench run --json' wrote"
        try:
            kept = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise BenchError(f"no results in {path}: {error}", hint) from error
        if not isinstance(kept, dict) or not isinstance(kept.get("environment"), dict):
            raise BenchError(f"{path} holds no run", hint)
        kept = {"points": [], "upkeep": [], "busy": [], **kept}  # which older runs lack
        try:
            if math.isnan(record(Environment, kept["environment"], "environment").recall):
                raise ValueError("environment: 'recall' is None")
            return cls(
                environment=kept["environment"],
                builds=records(Build, kept, "builds"),
                answers=records(Answer, kept, "answers"),
                points=records(Point, kept, "points"),
                throughput=[asdict(each) for each in records(Rate, kept, "throughput")],
                inserts=records(InsertCost, kept, "inserts"),
                upkeep=records(UpkeepCost, kept, "upkeep"),
                busy=records(BusySearch, kept, "busy"),
                vacuums=records(VacuumCost, kept, "vacuums"),
            )
        except ValueError as error:
            raise BenchError(f"the run in {path} is not whole: {error}", hint) from error

    def write(self, path: Path) -> None:
        """Write the results to a JSON file, which holds all of them or, until that is done, the earlier ones."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(plain(self.as_json()), indent=1) + "\n")
        partial.replace(path)


def check_writable(path: Path | None) -> None:
    """Make the folder of a file for results. Raises WinnowError where none can be written, before anything is done."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise WinnowError(
            f"cannot write results to {path}: {error.strerror}", "name a file in a folder that you may write to"
        ) from error
    if not path.stat().st_size:
        path.unlink()


def wide_console() -> Console:
    """Standard output, and where that is a file or a pipe, wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, FILE_WIDTH))


def show(results: Results, console: Console) -> None:
    """Print every part that the run has."""
    for table in tables(results, full=console.width >= FULL_WIDTH):
        console.print(table)
    if results.answers:
        for line in verdict(results.answers, float(results.environment["recall"])):
            console.print(escape(line))


def tables(results: Results, *, full: bool = True) -> Iterator[Table]:
    """The tables that the run has figures for; not ``full``: without what a narrow terminal has no room for."""
    yield environment_table(results.environment)
    if results.builds:
        yield builds_table(results.builds)
    if results.answers:
        yield answers_table(results.answers, float(results.environment["recall"]), full=full)
    if measured := [each for each in results.answers if each.measured]:
        yield work_table(measured, results.environment.get("memory_bytes_per_second"))
        if (surplus := surplus_table(measured)).row_count:
            yield surplus
    if results.points:
        yield curves_table(results.points)
    if results.throughput:
        yield throughput_table(results.throughput)
    if results.inserts:
        yield inserts_table(results.inserts)
    if results.upkeep:
        yield upkeep_table(results.upkeep)
    if results.busy:
        yield busy_table(results.busy)
    if results.vacuums:
        yield vacuums_table(results.vacuums)


def environment_table(environment: Mapping[str, Any]) -> Table:
    """What the run was made with."""
    table = Table(title="Run", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in environment.items():
        shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, Mapping) else value
        text = f"{shown:,.0f}" if isinstance(shown, float) and shown > 100 else str(shown)
        table.add_row(name.replace("_", " "), escape(text))
    return table


def builds_table(builds: Sequence[Build]) -> Table:
    """Every index, and each side's sum."""
    table = Table(title="Indexes")
    for name in ("side", "index", "build", "size", "peak memory", "maintenance_work_mem", "workers"):
        table.add_column(name, justify="left" if name in ("side", "index") else "right")
    for side, group in groupby(builds, key=lambda each: each.side):
        listed = list(group)
        for each in listed:
            table.add_row(
                side,
                each.index,
                f"{each.seconds:.1f} s",
                size(each.size_bytes),
                "-" if each.peak_bytes is None else size(each.peak_bytes),
                *(each.settings.get(name, "-") for name in BUILD_SETTINGS),
            )
        if len(listed) > 1:
            seconds, total = sum(each.seconds for each in listed), sum(each.size_bytes for each in listed)
            table.add_row(side, "all", f"{seconds:.1f} s", size(total), "", "", "", style="bold")
        table.add_section()
    return table


def answers_table(answers: Sequence[Answer], target: float, *, full: bool = True) -> Table:
    """Each workload with one line for each side; not ``full``: without what a narrow terminal has no room for."""
    table = Table(title=f"Searches at recall {target:g} (worst: mean recall of the worst tenth of the queries)")
    numbers = ("recall", "worst", "rows", "mean ms", "p50", "p95", "p99", "ratio")
    names = ("workload", "matching", "side", *numbers, "effort")
    shown = [full or name not in LEFT_OUT for name in names]
    for name in compress(names, shown):
        table.add_column(
            name,
            justify="right" if name in (*numbers, "matching") else "left",
            no_wrap=name not in ("workload", "effort"),
            overflow="fold",
            min_width=14 if name == "workload" else None,
        )
    for (workload, k), row in by_workload(answers):
        for answer in row:
            first = answer is row[0]
            cells = [
                label(workload, k) + some_queries(answer) if first else "",
                f"{answer.matching:.2%}" if first else "",
                answer.side,
                *answer_cells(answer, target),
                ratio_text(row, answer.side),
                answer.effort
                if answer.reached or not answer.measured
                else f"[red]never reaches it[/], best: {answer.effort}",
            ]
            table.add_row(*compress(cells, shown))
        table.add_section()
    return table


def answer_cells(answer: Answer, target: float) -> list[str]:
    """Recall, rows and times; red where the recall is missed, rows are missing or wrong."""
    if not answer.measured:
        return ["no matches", *(["-"] * 6)]
    recall = f"{answer.recall:.3f}" if answer.recall >= target else f"[red]{answer.recall:.3f}[/]"
    rows = "all" if answer.returned == answer.expected else f"[red]{answer.returned / max(1, answer.expected):.1%}[/]"
    if answer.wrong:
        rows = f"[bold red]{answer.wrong} wrong[/]"
    worst = "-" if math.isnan(answer.worst_decile) else f"{answer.worst_decile:.2f}"
    return [recall, worst, rows, *(f"{answer.milliseconds[name]:.2f}" for name in ("mean", "p50", "p95", "p99"))]


def some_queries(answer: Answer) -> str:
    """For how many queries there was an answer, where not for all."""
    if not answer.answered or answer.answered == answer.queries:
        return ""
    return f", {answer.answered} of {answer.queries} queries have matches"


def work_table(answers: Sequence[Answer], bytes_per_second: float | None) -> Table:
    """The pages that each side accessed, and how far that is from reading as many bytes at the speed of memory."""
    table = Table(title="Where the time goes (means over some queries; a page counts each time it is accessed)")
    numbers = ("page accesses", "MB", "mean ms", "x memory limit")
    for name in ("workload", "side", "plan", *numbers, "counters"):
        table.add_column(name, justify="right" if name in numbers else "left")
    for (workload, k), row in by_workload(answers):
        for answer in row:
            accessed = answer.pages * PAGE
            limit = accessed / bytes_per_second * 1000 if bytes_per_second else 0.0
            table.add_row(
                label(workload, k),
                answer.side,
                escape(", ".join(f"{plan} {count}" for plan, count in answer.plans.items())),
                f"{answer.pages:.0f}" if accessed else "-",
                f"{accessed / 1e6:.2f}" if accessed else "-",
                f"{answer.milliseconds['mean']:.2f}",
                f"{answer.milliseconds['mean'] / limit:.1f}" if limit else "-",
                ", ".join(f"{name} {value:g}" for name, value in answer.counters.items() if value)
                if answer.bitmap_milliseconds is None
                else f"and {answer.bitmap_milliseconds:.2f} ms for the filter's bitmap",
            )
        table.add_section()
    return table


def surplus_table(answers: Sequence[Answer]) -> Table:
    """What winnow read, and what an oracle would have that stopped with the last row of the answer."""
    table = Table(title="What was read beyond what the answer needed (means over some queries)")
    for name in ("workload", "lists read", "needed", "x", "rows tested", "needed", "x"):
        table.add_column(name, justify="left" if name == "workload" else "right")
    for (workload, k), row in by_workload(answers):
        for counters in (answer.counters for answer in row):
            if not all(counters.get(name) for pair in SURPLUS for name in pair):
                continue
            cells = [label(workload, k)]
            for had, needed in SURPLUS:
                cells += [f"{counters[had]:.0f}", f"{counters[needed]:.0f}", f"{counters[had] / counters[needed]:.1f}"]
            table.add_row(*cells)
    return table


def verdict(answers: Sequence[Answer], target: float) -> list[str]:
    """The run in a few sentences, losses as plainly as wins."""
    answers = [answer for answer in answers if answer.measured]
    lines = []
    for side in dict.fromkeys(answer.side for answer in answers):
        own = [answer for answer in answers if answer.side == side]
        missed = [short_name(answer.workload, answer.k, answers) for answer in own if answer.recall < target]
        short = [short_name(answer.workload, answer.k, answers) for answer in own if answer.returned < answer.expected]
        lines.append(
            f"{side}: recall {target:g} on {len(own) - len(missed)} of {len(own)} workloads"
            + (f" (missed: {', '.join(missed)})" if missed else "")
            + (f"; too few rows on: {', '.join(short)}" if short else "")
        )
    for rival in rivals(answers):
        lines += rival_verdict(rival, answers, target)
    return lines


def rival_verdict(rival: str, answers: Sequence[Answer], target: float) -> list[str]:
    """How winnow does against one rival where both have the recall."""
    same = [
        (short_name(workload, k, answers), value)
        for (workload, k), row in by_workload(answers)
        if all(answer.recall >= target for answer in row if answer.side in (OWN, rival))
        and (value := ratio(row, rival)) is not None
    ]
    if not same:
        return []
    mean = math.exp(sum(math.log(value) for _, value in same) / len(same))
    lost = [f"{workload} ({value:.2f})" for workload, value in same if value < 1]
    bitmaps = [each.bitmap_milliseconds for each in answers if each.side == rival and each.bitmap_milliseconds]
    return [
        f"where winnow and {rival} reach it ({len(same)} workloads) the geometric mean of the ratios is {mean:.2f}"
        + (f"; {rival} is quicker on: {', '.join(lost)}" if lost else "; winnow is quicker on every one")
        + (f"; not counting {rival}'s bitmaps, {sum(bitmaps) / len(bitmaps):.2f} ms each" if bitmaps else "")
    ]


def curves_table(points: Sequence[Point]) -> Table:
    """Recall and median time of each side at each effort."""
    table = Table(title="Recall against median time")
    for name in ("workload", "side", "effort", "recall", "rows", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name in ("workload", "side", "effort") else "right")
    for (workload, k, side), group in groupby(points_in_order(points), key=lambda each: curve_of(each)):
        for place, point in enumerate(group):
            table.add_row(
                "" if place else label(workload, k),
                "" if place else side,
                point.effort,
                f"{point.recall:.3f}",
                "all" if point.returned == point.expected else f"{point.returned / max(1, point.expected):.1%}",
                f"{point.milliseconds['p50']:.2f}",
                f"{point.milliseconds['p99']:.2f}",
            )
        table.add_section()
    return table


def curve_of(point: Point) -> tuple[str, int | None, str]:
    """What the points of one curve have in common."""
    return point.workload, point.k, point.side


def points_in_order(points: Sequence[Point]) -> list[Point]:
    """The points of each curve together, curves and efforts in the order they were measured."""
    first: dict[tuple[str, int | None, str], int] = {}
    for place, point in enumerate(points):
        first.setdefault(curve_of(point), place)
    workloads: dict[tuple[str, int | None], int] = {}
    for place, point in enumerate(points):
        workloads.setdefault((point.workload, point.k), place)
    return sorted(points, key=lambda each: (workloads[each.workload, each.k], first[curve_of(each)]))


def throughput_table(measured: Sequence[Mapping[str, Any]]) -> Table:
    """Queries per second, a column for each side and number of clients."""
    crowds = list(dict.fromkeys((each["side"], each["clients"]) for each in measured))
    table = Table(title="Throughput, queries per second")
    table.add_column("workload")
    for side, clients in crowds:
        table.add_column(f"{side}, {clients} client{'s' if clients > 1 else ''}", justify="right")
    rates: dict[tuple[str, int | None], dict[tuple[str, int], float]] = {}
    for each in measured:
        row = rates.setdefault((each["workload"], each["k"]), {})
        row[each["side"], each["clients"]] = each["queries_per_second"]
    for (workload, k), row in rates.items():
        table.add_row(label(workload, k), *(f"{row[crowd]:,.0f}" if crowd in row else "-" for crowd in crowds))
    return table


def inserts_table(costs: Iterable[InsertCost]) -> Table:
    """WAL and speed of single-row inserts."""
    table = Table(
        title="INSERT, one row a statement (WAL from a CHECKPOINT on, with page images; again: without most of them)"
    )
    columns = ("side", "rows", "rows/s", "rows/s without indexes", "WAL/row", "indexes' own", "again", "indexes' own")
    for name in columns:
        table.add_column(name, justify="left" if name == "side" else "right")
    for cost in costs:
        table.add_row(
            cost.side,
            f"{cost.rounds} x {cost.rows:,}",
            f"{cost.rows_per_second:,.0f}",
            f"{cost.plain_rows_per_second:,.0f}",
            size(cost.wal_bytes_per_row),
            size(cost.index_wal_bytes_per_row),
            size(cost.wal_bytes_per_row_again),
            size(cost.index_wal_bytes_per_row_again),
        )
    return table


def upkeep_table(costs: Sequence[UpkeepCost]) -> Table:
    """Rows added and changed, with all indexes in place; the ratio is that of the time per row to the first side's."""
    table = Table(title="Upkeep, with all indexes in place (WAL: all that is written, the heap's part included)")
    for name in ("task", "clients", "side", "rows", "time", "rows/s", "WAL/row", "ratio"):
        table.add_column(name, justify="left" if name in ("task", "side") else "right")
    for task, clients in dict.fromkeys((cost.task, cost.clients) for cost in costs):
        row = [cost for cost in costs if (cost.task, cost.clients) == (task, clients)]
        for cost in row:
            first = cost is row[0]
            table.add_row(
                task if first else "",
                str(clients) if first else "",
                cost.side,
                f"{cost.rows:,}",
                f"{cost.seconds:.3f} s",
                f"{cost.rows_per_second:,.0f}",
                size(cost.wal_bytes / cost.rows) if cost.rows else "-",
                f"{row[0].rows_per_second / cost.rows_per_second:.2f}" if not first and cost.rows_per_second else "",
            )
        table.add_section()
    return table


def busy_table(searches: Iterable[BusySearch]) -> Table:
    """A search while clients insert rows."""
    table = Table(title="Searches while clients insert")
    for name in ("workload", "side", "writers", "idle p50 ms", "idle p99", "busy p50", "busy p99"):
        table.add_column(name, justify="left" if name in ("workload", "side") else "right")
    for each in searches:
        times = [each.idle["p50"], each.idle["p99"], each.busy["p50"], each.busy["p99"]]
        table.add_row(each.workload, each.side, str(each.writers), *(f"{value:.2f}" for value in times))
    return table


def vacuums_table(costs: Iterable[VacuumCost]) -> Table:
    """VACUUM after random deletions."""
    table = Table(title="VACUUM after deleting rows at random")
    for name in ("side", "deleted", "time", "WAL", "of the indexes"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for cost in costs:
        own = size(cost.index_wal_bytes) if cost.plain_wal_bytes else "-"
        table.add_row(cost.side, f"{cost.deleted:,}", f"{cost.seconds:.2f} s", size(cost.wal_bytes), own)
    return table


def called(workload: str, k: int | None) -> str:
    """A workload's name with the rows asked for, if it has a LIMIT."""
    return workload if k is None else f"{workload} (k {k})"


def label(workload: str, k: int | None) -> str:
    """A workload's name in a table; a filter of the user's may hold what looks like markup."""
    return escape(called(workload, k))


def short_name(workload: str, k: int | None, answers: Iterable[Answer]) -> str:
    """A workload's name where k need not be said unless the answers have several."""
    several = len({answer.k for answer in answers if answer.k is not None}) > 1
    return called(workload, k) if several else workload


def by_workload(answers: Sequence[Answer]) -> list[tuple[tuple[str, int | None], list[Answer]]]:
    """Answers grouped by workload and k, in the order they were measured."""
    groups: dict[tuple[str, int | None], list[Answer]] = {}
    for answer in answers:
        groups.setdefault((answer.workload, answer.k), []).append(answer)
    return list(groups.items())


def rivals(answers: Sequence[Answer]) -> list[str]:
    """The sides that winnow is compared with."""
    sides = dict.fromkeys(answer.side for answer in answers)
    return [side for side in sides if side != OWN] if OWN in sides else []


def ratio(row: Sequence[Answer], rival: str) -> float | None:
    """The rival's mean time over winnow's; None where one of them is missing or had nothing to do or to find."""
    times = {answer.side: answer.milliseconds["mean"] for answer in row if answer.measured}
    if not times.get(OWN) or not times.get(rival):
        return None
    return times[rival] / times[OWN]


def ratio_text(row: Sequence[Answer], side: str) -> str:
    """The ratio of a rival, or a dash where winnow is missing; nothing for winnow itself."""
    value = ratio(row, side)
    return "" if side == OWN else "-" if value is None else f"{value:.2f}"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
