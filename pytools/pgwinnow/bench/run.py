"""One run from data set to results: the phases in their order, each with its progress."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pgwinnow.bench import tables
from pgwinnow.bench.curve import trace
from pgwinnow.bench.datasets import Dataset
from pgwinnow.bench.filters import Columns
from pgwinnow.bench.inprocess import Library, LibraryContestant, build
from pgwinnow.bench.measure import Contestant, ServerContestant, measure, memory_bandwidth, steps, throughput
from pgwinnow.bench.report import Results
from pgwinnow.bench.rivals import Side
from pgwinnow.bench.truth import Exact, rows_asked
from pgwinnow.bench.upkeep import STEPS, Plan, upkeep
from pgwinnow.bench.workloads import Workload, make_workloads
from pgwinnow.bench.writes import insert_costs, vacuum_costs
from pgwinnow.types import Metric

PHASES = ("build", "query", "clients", "write", "upkeep", "vacuum")
DATABASE = "winnow_bench"
# Plans are made for each query's own values, which suits both sides: a generic plan knows no selectivity.
SESSION = {"plan_cache_mode": "force_custom_plan", "search_path": "public"}


@dataclass(frozen=True)
class Options:
    """What to measure, and how."""

    phases: Sequence[str] = PHASES
    workloads: Sequence[str] = ("*",)  # shell patterns over names
    ks: Sequence[int] = (10,)
    metric: Metric = Metric.COSINE
    recall: float = 0.95
    rounds: int = 3
    seed: int = 7
    reuse: bool = False
    rebuild: Sequence[str] = ()  # names of sides whose indexes are built anew although the table is reused
    clients: int = os.cpu_count() or 1
    client_seconds: float = 3.0
    insert_rows: int = 1000
    insert_rounds: int = 3
    upkeep: Plan = field(default_factory=Plan)
    vacuum_share: float = 0.05
    cache: Path | None = None  # folder for exact answers
    curve: bool = False  # recall and time at several efforts besides
    efforts: Mapping[tuple[str, int | None, str], str] = field(default_factory=dict)  # found before: workload, k, side
    save: Callable[[Results], None] = lambda results: None  # called whenever there is something new


def run(
    dsn: str,
    dataset: Dataset,
    sides: Sequence[Side],
    options: Options,
    progress: Progress,
    libraries: Sequence[Library] = (),
) -> Results:
    """Run the chosen phases on the server at ``dsn`` (any database of it; the tables go to one of their own).

    The libraries, which run in this process, take part in the phases build and query.
    """
    searched = {"query", "clients"} & set(options.phases)
    workloads = make_workloads(dataset, seed=options.seed, patterns=options.workloads) if searched else []
    make_database(dsn)
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(dsn)) for _ in sides]
        for side, connection in zip(sides, connections, strict=True):
            side.create_extension(connection)
            connection.execute(side.load)
        results = Results(environment(connections[0], dataset, sides, libraries, options))
        options.save(results)
        for side, connection in zip(sides, connections, strict=True):
            prepare(connection, side, dataset, options, results, progress)
            options.save(results)
        if searched:
            built = build_libraries(libraries, dataset, options, results, progress)
            columns = Columns(dataset.attributes)
            crowd = [
                *map(ServerContestant, sides, connections),
                *(LibraryContestant(library, columns) for library in built),
            ]
            search(dsn, dataset, workloads, crowd, options, results, progress)
        pairs = list(zip(sides, connections, strict=True))
        if "write" in options.phases:
            with bar(progress, "insert", 2 * len(sides) * options.insert_rounds) as step:
                results.inserts = insert_costs(
                    pairs,
                    dataset,
                    rows=min(options.insert_rows, len(dataset.base)),
                    rounds=options.insert_rounds,
                    seed=options.seed,
                    progress=step,
                )
            options.save(results)
        if "upkeep" in options.phases:
            with bar(progress, "upkeep", STEPS * len(sides)) as step:
                results.upkeep, results.busy = upkeep(pairs, dataset, lambda: connect(dsn), options.upkeep, step)
            options.save(results)
        if "vacuum" in options.phases:
            with bar(progress, "vacuum", len(sides)) as step:
                results.vacuums = vacuum_costs(
                    pairs, dataset, share=options.vacuum_share, seed=options.seed, progress=step
                )
            options.save(results)
    return results


def make_database(dsn: str) -> None:
    """Create the benchmark's database unless it is there."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'")


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A session of the benchmark, with the settings every one has."""
    connection = psycopg.connect(
        dsn, dbname=DATABASE, autocommit=True, prepare_threshold=None, application_name="pgwinnow bench"
    )
    for name, value in SESSION.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    return connection


def prepare(
    connection: psycopg.Connection[Any],
    side: Side,
    dataset: Dataset,
    options: Options,
    results: Results,
    progress: Progress,
) -> None:
    """Table and indexes of one side; autovacuum stays off them, so that it disturbs no measurement."""
    task = progress.add_task(f"{side.name}: load", total=len(dataset.base))
    tables.ready_table(
        connection,
        side,
        dataset,
        reuse=options.reuse,
        progress=lambda done, total: progress.update(task, completed=done),
    )
    progress.remove_task(task)
    connection.execute(f"ALTER TABLE {side.table} SET (autovacuum_enabled = off)")
    task = progress.add_task(f"{side.name}: index", total=None)
    builds = tables.ready_indexes(
        connection,
        side,
        dataset,
        rebuild=side.name in options.rebuild,
        progress=lambda name: progress.update(task, description=f"{side.name}: {name}"),
    )
    progress.remove_task(task)
    connection.execute(f"ANALYZE {side.table}")
    if "build" in options.phases:
        results.builds += builds


def build_libraries(
    libraries: Sequence[Library], dataset: Dataset, options: Options, results: Results, progress: Progress
) -> Sequence[Library]:
    """Build the libraries' indexes, which are held in memory and hence made for every run that searches."""
    with bar(progress, "libraries", len(libraries)) as step:
        for library in libraries:
            step.show(f"{library.name}: index")
            built = build(library, dataset)
            if "build" in options.phases:
                results.builds.append(built)
                options.save(results)
            step()
    return libraries


def search(
    dsn: str,
    dataset: Dataset,
    workloads: Sequence[Workload],
    contestants: Sequence[Contestant],
    options: Options,
    results: Results,
    progress: Progress,
) -> None:
    """The query and clients phases over every workload and k."""
    for k in options.ks:
        exact = Exact(dataset, k, metric=options.metric, cache=options.cache)
        chosen = [each for each in workloads if each.limited or k == options.ks[0]]  # without LIMIT, once
        total = len(chosen) * (steps(len(contestants), options.rounds) + 1 + options.curve)
        with bar(progress, f"k = {k}", total) as step:
            for workload in chosen:
                step.show(f"k = {k}: {workload.name}, exact answers")
                truth = exact.answer(workload)
                step(f"k = {k}: {workload.name}")
                answers = measure(
                    contestants,
                    workload,
                    exact,
                    truth,
                    target=options.recall,
                    rounds=options.rounds,
                    known=options.efforts,
                    progress=step,
                )
                if "query" in options.phases:
                    results.answers += answers
                    options.save(results)
                    if options.curve:
                        step.show(f"k = {k}: {workload.name}, curve")
                        results.points += trace(contestants, workload, exact, truth, step)
                if "clients" in options.phases:
                    results.throughput += several_clients(dsn, contestants, workload, exact, options)
                options.save(results)


def several_clients(
    dsn: str, contestants: Sequence[Contestant], workload: Workload, exact: Exact, options: Options
) -> list[dict[str, Any]]:
    """Throughput of each side in the server at the effort it was just measured with, of one client and of several."""
    found = []
    for contestant in contestants:
        if not isinstance(contestant, ServerContestant):
            continue
        with ExitStack() as stack:
            crowd = []
            for _ in range(options.clients):
                client = ServerContestant(contestant.side, stack.enter_context(connect(dsn)))
                client.prepare(workload, exact)
                client.apply(contestant.effort)
                crowd.append(client)
            for clients in sorted({1, len(crowd)}):
                found.append(
                    {
                        "workload": workload.name,
                        "k": rows_asked(workload, exact),
                        "side": contestant.name,
                        "clients": clients,
                        "queries_per_second": throughput(crowd[:clients], options.client_seconds),
                    }
                )
    return found


def environment(
    connection: psycopg.Connection[Any],
    dataset: Dataset,
    sides: Sequence[Side],
    libraries: Sequence[Library],
    options: Options,
) -> dict[str, Any]:
    """What a reader needs to know to judge or repeat the run."""
    return {
        "command": command(sys.argv[1:]),
        "data": f"{dataset.name}: {len(dataset.base):,} x {dataset.dimensions}, {len(dataset.queries)} queries",
        "fingerprint": dataset.fingerprint(),
        "columns": {part: name for part, name in vars(dataset.roles).items() if name is not None},
        "metric": options.metric.value,
        "sides": ", ".join([*(side.name for side in sides), *(library.name for library in libraries)]),
        "libraries": {library.name: library.version() for library in libraries},
        "session": SESSION,
        **circumstances(connection, options),
    }


def command(arguments: Sequence[str]) -> str:
    """The command line, without what --dsn may hold of passwords."""
    shown = ["pgwinnow"]
    for argument in arguments:
        hidden = shown[-1] == "--dsn"
        shown.append("DSN" if hidden else "--dsn=DSN" if argument.startswith("--dsn=") else argument)
    return shlex.join(shown)


def circumstances(connection: psycopg.Connection[Any], options: Options) -> dict[str, Any]:
    """What any run notes of its options, the server and the machine."""
    names = ("server_version", "shared_buffers", "max_wal_size", "fsync", "full_page_writes", "wal_level")
    extensions = connection.execute(
        "SELECT extname, extversion FROM pg_extension WHERE extname IN ('vector', 'winnow')"
    ).fetchall()
    return {
        "recall": options.recall,
        "seed": options.seed,
        "rounds": options.rounds,
        "extensions": dict(extensions),
        "server": {name: tables.setting(connection, name) for name in (*names, *tables.BUILD_SETTINGS)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {processor()}",
        "memory_bytes_per_second": memory_bandwidth(),
    }


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


class Step:
    """Advances one progress bar, and renames it when given a description."""

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=total)

    def __call__(self, description: str | None = None) -> None:
        """One more is done."""
        self._progress.update(self._task, advance=1, description=description)

    def show(self, description: str) -> None:
        """Say what is going on, without a step."""
        self._progress.update(self._task, description=description)

    def done(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._task)


@contextmanager
def bar(progress: Progress, name: str, total: int) -> Iterator[Step]:
    """A progress bar that goes away when its phase is over."""
    step = Step(progress, name, total)
    try:
        yield step
    finally:
        step.done()


def progress_bars(console: Any) -> Progress:
    """The bars of a run, on standard error."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def server_settings(given: Mapping[str, str]) -> dict[str, str]:
    """Settings of the embedded server: a third of the memory for buffers, room to build, no surprises in between."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20)
    return {
        "shared_buffers": f"{max(128, memory // 3)}MB",
        "effective_cache_size": f"{max(256, memory * 2 // 3)}MB",
        "maintenance_work_mem": f"{max(64, min(2048, memory // 8))}MB",
        "max_wal_size": "64GB",
        "checkpoint_timeout": "1h",
        "autovacuum": "off",
        **given,
    }
