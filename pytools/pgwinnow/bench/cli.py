"""The commands ``pgwinnow bench run|regress|plot|plans|data|synthetic|load|kernels``."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeVar

import platformdirs
import typer
from rich.console import Console

from pgwinnow._cli_common import print_error, split_names, split_pairs
from pgwinnow._connect import connect, resolve_dsn
from pgwinnow.bench import datasets, kernels, plans
from pgwinnow.bench.grow import grow
from pgwinnow.bench.inprocess import LIBRARIES
from pgwinnow.bench.loading import compare_loads, loads_table
from pgwinnow.bench.regress import RECALL_TOLERANCE, TOLERANCE, compare, regress_table, summary
from pgwinnow.bench.report import Results, check_writable, show, wide_console
from pgwinnow.bench.rivals import Ivfflat, Pgvector, Side, Winnow
from pgwinnow.bench.run import DATABASE, PHASES, Options, progress_bars, run, server_settings
from pgwinnow.bench.synthetic import generate
from pgwinnow.bench.usertable import measure_table
from pgwinnow.demo.corpus import DATASET, corpus_folder
from pgwinnow.errors import WinnowError
from pgwinnow.server import Server
from pgwinnow.types import MAX_DIMENSIONS, Metric

ValueT = TypeVar("ValueT")

app = typer.Typer(
    help="Measure winnow and others side by side at the same recall, and compare runs.",
    no_args_is_help=True,
    add_completion=False,
)

SERVER_RIVALS: dict[str, type[Side]] = {"hnsw": Pgvector, "ivfflat": Ivfflat}
RIVALS = (*SERVER_RIVALS, *LIBRARIES)

SYNTHETIC_ROWS, SYNTHETIC_DIMENSIONS = 20_000, 384
ALL_PHASES = ",".join(PHASES)
DEMO_QUERIES = 200  # held out of the demo's documents


def commas(numbers: Sequence[int]) -> str:
    """Numbers as one option takes them."""
    return ",".join(map(str, numbers))


ON_SERVER = f"on this server (libpq DSN; database {DATABASE}, which is made and kept); by default an embedded one"
Dsn = Annotated[str | None, typer.Option(help=f"Measure {ON_SERVER}.")]
Version = Annotated[int, typer.Option("--version", help="PostgreSQL's major version of the embedded server.")]
ServerDir = Annotated[
    Path | None, typer.Option("--server-dir", help="Data folder of the embedded server.", show_default=False)
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Setting of the embedded server; repeatable.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of everything drawn at random.")]


class Distance(str, Enum):
    """The metrics that indexes are for."""

    COSINE = "cosine"
    L2 = "l2"
    IP = "ip"


# The options of "run", which has many

Data = Annotated[Path | None, typer.Option(help="Data set folder; by default the demo's, or a small synthetic one.")]
Only = Annotated[str, typer.Option(help="Phases, separated by commas.")]
Workloads = Annotated[list[str] | None, typer.Option(help="Workload name or pattern; repeatable.")]
RowsAskedFor = Annotated[list[int] | None, typer.Option("--k", min=1, help="Rows asked for; repeatable (default 10).")]
Queries = Annotated[int, typer.Option(min=1, help="Queries of each workload.")]
Recall = Annotated[float, typer.Option(min=0.5, max=1.0, help="Recall every side must reach.")]
Rounds = Annotated[int, typer.Option(min=1, help="Times each query is timed.")]
MetricName = Annotated[
    Distance | None,
    typer.Option(help="Distance; by default cosine, or with --table that of its index.", show_default=False),
]
TableName = Annotated[
    str | None, typer.Option(help="Measure searches in this table of yours, which is only read.", show_default=False)
]
VectorName = Annotated[str, typer.Option(help="With --table: its vector column.")]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="CONDITION",
        help="With --table: search under this SQL condition, in which $name is the value that the row the query is"
        " taken from has in column name; repeatable.",
        show_default=False,
    ),
]
RivalNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help=f"Measure beside winnow: {', '.join(RIVALS)} or none; repeatable (default hnsw)."
    ),
]
MeasureWinnow = Annotated[bool, typer.Option(help="Measure winnow.")]
Bits = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=8,
        help="Bits per dimension of winnow's index; more than 1: refinement codes. Default: the server's choice.",
        show_default=False,
    ),
]
Reuse = Annotated[bool, typer.Option(help="Take over tables and indexes that hold the same data already.")]
Rebuild = Annotated[
    list[str] | None, typer.Option(help="With --reuse: the side whose indexes are built anew; repeatable.")
]
Curve = Annotated[
    bool, typer.Option("--curve", help="Measure recall and time of every side at several efforts besides.")
]
InsertRows = Annotated[int, typer.Option(min=1, help="Rows inserted in a round, after a CHECKPOINT.")]
Clients = Annotated[int, typer.Option(min=1, help="Connections of the clients phase.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the raw results to this file, as they come in.")]
Efforts = Annotated[
    Path | None, typer.Option(help="Raw results of an earlier run: take the efforts found there, search for none.")
]
RunDsn = Annotated[
    str | None,
    typer.Option(help=f"Measure {ON_SERVER}. With --table: the database of the table; by default that of PGHOST."),
]
Keep = Annotated[bool, typer.Option(help="Leave the embedded server running afterwards.")]


# What "run" takes only without --table, and only without --dsn
OF_DATA_SETS = (
    "data", "only", "workload", "rival", "winnow", "bits", "reuse", "rebuild", "insert_rows", "clients", "efforts",
    "version", "server_dir", "setting", "keep",
)  # fmt: skip
OF_EMBEDDED_SERVERS = ("version", "server_dir", "setting", "keep")


def refuse(context: typer.Context, names: Sequence[str], other: str, reason: str) -> None:
    """Raise WinnowError where an option of these parameters is given, beside which ``other`` has no place."""
    given = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            forms = (parameter.opts, parameter.secondary_opts)  # --winnow, --no-winnow
            given.append("/".join(max(each, key=len) for each in forms if each))
    if given:
        raise WinnowError(f"{other} takes no {', '.join(given)}: {reason}", f"leave out {other}, or the others")


def check_together(context: typer.Context, *, table: str | None, where: list[str] | None, dsn: str | None) -> None:
    """Raise WinnowError where options of "run" do not go together."""
    if table is None and where:
        raise WinnowError("--filter needs a table of yours", "name it: --table; --workload chooses those of a data set")
    if table is not None:
        refuse(context, OF_DATA_SETS, "--table", "it searches by the indexes that the table has, and does nothing else")
    elif dsn is not None:
        refuse(context, OF_EMBEDDED_SERVERS, "--dsn", "they are for the embedded server")


@app.command("run")
def run_command(
    context: typer.Context,
    data: Data = None,
    only: Only = ALL_PHASES,
    workload: Workloads = None,
    k: RowsAskedFor = None,
    queries: Queries = 200,
    recall: Recall = 0.95,
    rounds: Rounds = 3,
    metric: MetricName = None,
    table: TableName = None,
    vector: VectorName = "embedding",
    where: Conditions = None,
    rival: RivalNames = None,
    winnow: MeasureWinnow = True,
    bits: Bits = None,
    reuse: Reuse = False,
    rebuild: Rebuild = None,
    curve: Curve = False,
    insert_rows: InsertRows = 1000,
    clients: Clients = Options.clients,
    seed: Seed = 7,
    json_file: JsonFile = None,
    efforts: Efforts = None,
    dsn: RunDsn = None,
    version: Version = 18,
    server_dir: ServerDir = None,
    setting: Settings = None,
    keep: Keep = False,
) -> None:
    """Build, search, insert and vacuum on every side, and compare.

    The rivals hnsw and ivfflat are pgvector's, in the same server; the others search in this process on one
    thread, with the filter as a bitmap.

    For example:

        pgwinnow bench run --data DIR --json results.json

        pgwinnow bench run --only build,query --workload 'EM *' --k 10 --k 100 --curve

        pgwinnow bench run --rival hnsw --rival ivfflat --rival faiss-hnsw --only build,query

    With --table it measures the indexes that a table of yours has, winnow's and pgvector's, in one read-only
    transaction: rows of the table are the queries, and scans of it tell the exact answers.

        pgwinnow bench run --dsn 'host=... dbname=shop' --table items --vector embedding

        pgwinnow bench run --table items --filter 'price < $price AND category = $category' --k 10 --k 100
    """
    check_together(context, table=table, where=where, dsn=dsn)
    phases = chosen_phases(only)
    check_writable(json_file)
    names = chosen_rivals(rival)
    options = Options(
        phases=phases,
        workloads=once(workload) or ["*"],
        ks=once(k) or [10],
        metric=Metric(metric or Metric.COSINE),
        recall=recall,
        rounds=rounds,
        seed=seed,
        reuse=reuse,
        rebuild=rebuild or [],
        clients=clients,
        curve=curve,
        insert_rows=insert_rows,
        cache=cache_folder() / "truth",
        efforts=known_efforts(efforts) if efforts is not None else {},
    )
    if table is not None:
        with (
            reporting(options, json_file) as noting,
            progress_bars(Console(stderr=True)) as progress,
            connect(resolve_dsn(dsn), autocommit=False) as connection,
        ):
            measure_table(
                connection,
                table,
                vector=vector,
                filters=once(where),
                queries=queries,
                metric=Metric(metric) if metric else None,
                options=noting,
                progress=progress,
            )
        return
    libraries = [LIBRARIES[name](options.metric) for name in names if name in LIBRARIES]
    ours = [Winnow(options.metric, recall, bits)] if winnow else []
    sides = server_sides(ours, names, options)
    with reporting(options, json_file) as noting, progress_bars(Console(stderr=True)) as progress:
        dataset = datasets.open_dataset(data or default_data(seed), queries=queries)
        if len(dataset.queries) < queries:
            typer.echo(
                f"note: {dataset.name} has {len(dataset.queries)} queries, not {queries}; all are taken", err=True
            )
        shown = f"{dataset.name}: {len(dataset.base):,} x {dataset.dimensions}, seed {seed}"
        wide_console().print(shown, markup=False)
        with serving(dsn, version, server_dir, setting, keep) as address:
            run(address, dataset, sides, noting, progress, libraries)


def server_sides(ours: Sequence[Side], names: Sequence[str], options: Options) -> list[Side]:
    """The sides that are measured in the server; an error if there is none, or not those to be rebuilt."""
    rivals = [SERVER_RIVALS[name](options.metric, options.recall) for name in names if name in SERVER_RIVALS]
    sides = [*ours, *rivals]
    if not sides:
        raise WinnowError("no side in the server is left to measure", "drop --no-winnow, or name hnsw as --rival")
    known = [side.name for side in sides]
    if unknown := [name for name in options.rebuild if name not in known]:
        raise WinnowError(f"unknown side {', '.join(unknown)}", f"there are {', '.join(known)}")
    return sides


@app.command()
def regress(
    old: Annotated[Path, typer.Argument(help="Raw results of the earlier run.")],
    new: Annotated[Path, typer.Argument(help="Raw results of the later run, over the same data.")],
    tolerance: Annotated[float, typer.Option(min=0, help="How much slower or bigger is let pass: 0.1 is 10 %.")] = (
        TOLERANCE
    ),
    recall_tolerance: Annotated[
        float, typer.Option(min=0, help="How much recall, or share of the rows, may be lost; absolute.")
    ] = RECALL_TOLERANCE,
    everything: Annotated[bool, typer.Option("--all", help="Show what stayed within the tolerance too.")] = False,
) -> None:
    """Compare two runs: what became slower, bigger or less complete.

    The exit status is 0 if nothing did, 1 if something did, and 2 if the runs cannot be compared.

    Where both runs hold the same rival, times are divided by the rival's own change in the same workload, as absolute
    times drift from run to run; the rival is then the yardstick and is not judged.

    For example:

        pgwinnow bench regress before.json after.json

        pgwinnow bench regress before.json after.json --tolerance 0.2 --all
    """
    console = wide_console()
    try:
        comparison = compare(
            Results.read(old), Results.read(new), tolerance=tolerance, recall_tolerance=recall_tolerance
        )
        table = regress_table(comparison, everything=everything)
        if table.row_count:
            console.print(table)
        for line in summary(comparison):
            console.print(line)
        worse = bool(comparison.regressions)
    except WinnowError as error:
        print_error(str(error), error.hint)
        raise typer.Exit(2) from error
    except Exception as error:  # whatever it is: 1 is for what became worse alone
        traceback.print_exc()
        raise typer.Exit(2) from error
    if worse:
        raise typer.Exit(1)


@app.command()
def plot(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS.json...", help="Raw results of one or more runs.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write to; made if it is missing.")],
) -> None:
    """Draw runs: PNG files, and a page index.html that holds them all and the tables, and needs nothing else.

    Recall against time has a point for every effort where the run was made with --curve, and one for each side
    otherwise.

    For example:

        pgwinnow bench plot results.json --out plots

        pgwinnow bench plot small.json large.json --out plots
    """
    try:
        from pgwinnow.bench.page import write_page
    except ModuleNotFoundError as error:
        raise WinnowError(
            f"plotting needs the module {error.name}, which is not installed", "pip install 'pgwinnow[bench]'"
        ) from error
    names = [file.stem for file in results]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise WinnowError(
            f"several files are called {', '.join(repeated)}", "rename them: pictures are called after their files"
        )
    runs = [(file.stem, Results.read(file)) for file in results]
    with progress_bars(Console(stderr=True)) as progress:
        task = progress.add_task("pictures", total=None)
        page = write_page(runs, out, lambda done, total: progress.update(task, completed=done, total=total))
        pictures = int(progress.tasks[0].completed)
    wide_console().print(f"{page}, and {pictures} pictures beside it")


@app.command()
def data(
    source: Annotated[
        Path,
        typer.Argument(
            help=f"Folder with {', '.join(datasets.SOURCES[:-1])} or {datasets.SOURCES[-1]}, and {datasets.ATTRIBUTES}."
        ),
    ],
    out: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write the data set to.")],
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows to grow to; by default the real rows alone.", show_default=False)
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Rows held out as queries.")] = 1000,
    jitter: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Integer column that is varied in grown rows.")
    ] = None,
    seed: Seed = 7,
) -> None:
    """Split embeddings into base and queries, and grow the base near its own manifold.

    For example:

        pgwinnow bench data embedded data --queries 500

        pgwinnow bench data embedded data1m --rows 1000000 --jitter size
    """
    with progress_bars(Console(stderr=True)) as progress:
        tasks = {}

        def step(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        made = grow(source, out, rows or 0, held_out=queries, seed=seed, jitter=jitter, progress=step)
    Console().print(f"{made:,} rows and {queries:,} queries in {out}, seed {seed}")


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write the data set to.")],
    rows: Annotated[int, typer.Option(min=1000)] = SYNTHETIC_ROWS,
    dimensions: Annotated[int, typer.Option(min=2, max=MAX_DIMENSIONS)] = SYNTHETIC_DIMENSIONS,
    queries: Annotated[int, typer.Option(min=1)] = 1000,
    seed: Seed = 7,
) -> None:
    """Make up a data set in the shape of the published filtered-search benchmark on paper abstracts.

    For example:

        pgwinnow bench synthetic papers --rows 100000 --dimensions 768
    """
    with progress_bars(Console(stderr=True)) as progress:
        task = progress.add_task("rows", total=rows)
        generate(
            out,
            rows,
            dimensions,
            queries=queries,
            seed=seed,
            progress=lambda name, done, total: progress.update(task, completed=done),
        )
    Console().print(f"{rows:,} x {dimensions} rows and {queries:,} queries in {out}, seed {seed}")


@app.command()
def load(
    data: Annotated[
        Path | None, typer.Option(help="Data set folder; by default the demo's, or a small synthetic one.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows to load each way.")] = 50_000,
    repeats: Annotated[int, typer.Option(min=1, help="Times each way is tried; the best counts.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the raw results to this file.")] = None,
    dsn: Dsn = None,
    version: Version = 18,
    server_dir: ServerDir = None,
    setting: Settings = None,
) -> None:
    """Compare ways to load vectors: text rows, binary rows, and pgwinnow's loader.

    For example:

        pgwinnow bench load --rows 20000
    """
    check_writable(json_file)
    with progress_bars(Console(stderr=True)) as progress:
        dataset = datasets.open_dataset(data or default_data(7))
        with serving(dsn, version, server_dir, setting, keep=False) as address:
            loads = compare_loads(address, dataset, min(rows, len(dataset.base)), repeats, progress)
    wide_console().print(loads_table(loads))
    if json_file is not None:
        json_file.write_text(loads.as_json() + "\n")


@contextmanager
def reporting(options: Options, json_file: Path | None) -> Iterator[Options]:
    """The options of a run whose results are kept as they come in, and shown at its end, whichever that is."""
    latest: list[Results] = []

    def keep(results: Results) -> None:
        latest[:] = [results]
        if json_file is not None:
            results.write(json_file)

    try:
        yield replace(options, save=keep)
    finally:
        if latest:
            console = wide_console()
            show(latest[0], console)
            if json_file is not None:
                console.print(f"raw results: {json_file}", markup=False)


def once(values: Iterable[ValueT] | None) -> list[ValueT]:
    """What was given to a repeatable option, each once."""
    return list(dict.fromkeys(values or ()))


def chosen_phases(only: str) -> list[str]:
    """The phases named on the command line."""
    chosen = split_names(only) or []
    if unknown := [name for name in chosen if name not in PHASES]:
        raise WinnowError(f"unknown phase {', '.join(unknown)}", f"there are {', '.join(PHASES)}")
    if not chosen:
        raise WinnowError("--only names no phase", f"there are {', '.join(PHASES)}")
    return chosen


def chosen_rivals(names: list[str] | None) -> list[str]:
    """The rivals named on the command line, each once; pgvector's HNSW unless any is named."""
    chosen = once(names) or ["hnsw"]
    if unknown := [name for name in chosen if name not in (*RIVALS, "none")]:
        raise WinnowError(f"unknown rival {', '.join(unknown)}", f"there are {', '.join(RIVALS)} and none")
    return [name for name in chosen if name != "none"]


@app.command("plans")
def plans_command(
    rows: Annotated[str, typer.Option(help="Numbers of rows, separated by commas.")] = commas(plans.Options.rows),
    dims: Annotated[str, typer.Option(help="Numbers of dimensions.")] = commas(plans.Options.dimensions),
    k: Annotated[str, typer.Option("--k", help="Numbers of rows asked for.")] = commas(plans.Options.ks),
    queries: Annotated[int, typer.Option(min=1, help="Queries of each search.")] = plans.Options.queries,
    rounds: Annotated[
        int,
        typer.Option(
            min=1, help="Times each is timed, eight times as often if shorter than half a millisecond; the best counts."
        ),
    ] = plans.Options.rounds,
    within: Annotated[
        float, typer.Option(min=0, help="What is slower by no more than this share counts as the quickest.")
    ] = plans.Options.within,
    recall: Annotated[float, typer.Option(min=0.01, max=1.0, help="winnow.recall.")] = plans.Options.recall,
    seed: Seed = plans.Options.seed,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the raw results to this file, as they come in.")
    ] = None,
    dsn: Dsn = None,
    version: Version = 18,
    server_dir: ServerDir = None,
    setting: Settings = None,
) -> None:
    """Compare the planner's choices with what is quickest, over a grid of searches."""
    options = plans.Options(numbers(rows), numbers(dims), numbers(k), queries, rounds, within, recall, seed)
    check_writable(json_file)

    def save(points: list[plans.Point]) -> None:
        if json_file is not None:
            json_file.write_text(json.dumps(plans.as_json(points, options), indent=1) + "\n")

    with progress_bars(Console(stderr=True)) as progress, serving(dsn, version, server_dir, setting, False) as address:
        points = plans.measure_grid(address, options, progress, save)
    console = wide_console()
    console.print(plans.misses_table(points, within))
    console.print(plans.verdict_table(points, within))


@app.command("kernels")
def kernels_command(
    dims: Annotated[str, typer.Option(help="Numbers of dimensions, separated by commas.")] = commas(
        kernels.Options.dimensions
    ),
    level: Annotated[
        list[str] | None, typer.Option(help="Instruction set; repeatable (default: all that the machine has).")
    ] = None,
    megabytes: Annotated[
        int, typer.Option(min=1, help="Memory that is gone through: more than the CPU's caches hold.")
    ] = kernels.Options.megabytes,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Time the vector instructions by themselves, at each level, beside the speed of the memory.

    For example:

        pgwinnow bench kernels --dims 384,1536 --level avx2 --level scalar
    """
    options = kernels.Options(numbers(dims), level or [], megabytes)
    check_writable(json_file)
    with progress_bars(Console(stderr=True)) as progress:
        times, bandwidth = kernels.run(options, progress)
    if json_file is not None:
        json_file.write_text(json.dumps(kernels.as_json(times, bandwidth), indent=1) + "\n")
    wide_console().print(kernels.kernels_table(times, bandwidth))


def numbers(text: str) -> list[int]:
    """The positive numbers of a list separated by commas."""
    found = [word.strip().replace("_", "") for word in text.split(",")]
    if wrong := [word for word in found if not word.isdecimal() or int(word) < 1]:
        raise WinnowError(f"{wrong[0]!r} is not a positive number", "separate numbers by commas: 1000,10000")
    return [int(word) for word in found]


@contextmanager
def serving(
    dsn: str | None, version: int, server_dir: Path | None, setting: list[str] | None, keep: bool
) -> Iterator[str]:
    """The server to measure on: the given one, or an embedded one that is stopped afterwards unless kept."""
    if dsn is not None:
        if setting:
            raise WinnowError("--set changes the embedded server only", "set it on the server named by --dsn itself")
        yield dsn
        return
    folder = server_dir or Server(version=version).data_dir.with_name(f"bench-{version}")
    settings = server_settings(split_pairs("--set", setting, "work_mem=64MB", empty=True))
    server = Server(folder, version=version, settings=settings)
    server.stop()  # settings take effect at the start
    server.start()
    try:
        yield server.dsn()
    finally:
        if not keep:
            server.stop()


def known_efforts(path: Path) -> dict[tuple[str, int | None, str], str]:
    """The efforts of an earlier run's raw results, by workload, k and side."""
    return {(each.workload, each.k, each.side): each.effort for each in Results.read(path).answers}


def cache_folder() -> Path:
    """Where data sets and exact answers are kept between runs."""
    return platformdirs.user_cache_path("pgwinnow") / "bench"


def default_data(seed: int) -> Path:
    """The data set measured when none is named: the demo's documents, else a small synthetic one, made once."""
    embedded = corpus_folder()
    if datasets.is_source(embedded):
        folder = embedded / DATASET
        if not datasets.is_dataset(folder):
            grow(embedded, folder, 0, held_out=DEMO_QUERIES, seed=seed)
        return folder
    folder = cache_folder() / f"synthetic-{seed}"
    if not datasets.is_dataset(folder):
        generate(folder, SYNTHETIC_ROWS, SYNTHETIC_DIMENSIONS, seed=seed)
    return folder
