"""The commands ``pgwinnow bench run|data|synthetic|load|plans``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console

from pgwinnow._cli_server import _parse_settings
from pgwinnow._errors import WinnowError
from pgwinnow.bench import datasets, plans
from pgwinnow.bench.grow import grow
from pgwinnow.bench.loading import compare_loads, loads_table
from pgwinnow.bench.report import show, wide_console
from pgwinnow.bench.rivals import Pgvector, Side, Winnow
from pgwinnow.bench.run import PHASES, Options, progress_bars, run, server_settings
from pgwinnow.bench.synthetic import generate
from pgwinnow.demo.corpus import DATASET, corpus_folder
from pgwinnow.server import Server
from pgwinnow.types import Metric

app = typer.Typer(
    help="Measure winnow against pgvector, side by side at the same recall.", no_args_is_help=True, add_completion=False
)

SYNTHETIC_ROWS, SYNTHETIC_DIMENSIONS = 20_000, 384
DEMO_QUERIES = 200  # held out of the demo's documents


def commas(numbers: Sequence[int]) -> str:
    """Numbers as one option takes them."""
    return ",".join(map(str, numbers))


Dsn = Annotated[
    str | None, typer.Option(help="Measure on this server (libpq DSN); by default on an embedded one of its own.")
]
Version = Annotated[int, typer.Option("--version", help="PostgreSQL's major version of the embedded server.")]
ServerDir = Annotated[
    Path | None, typer.Option("--server-dir", help="Data folder of the embedded server.", show_default=False)
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Setting of the embedded server; repeatable.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything drawn at random.")]


@app.command("run")
def run_command(
    data: Annotated[
        Path | None, typer.Option(help="Data set folder; by default the demo's, or a small synthetic one.")
    ] = None,
    only: Annotated[str, typer.Option(help="Phases, separated by commas.")] = ",".join(PHASES),
    workload: Annotated[list[str] | None, typer.Option(help="Workload name or pattern; repeatable.")] = None,
    k: Annotated[list[int] | None, typer.Option("--k", help="Rows asked for; repeatable (default 10).")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries of each workload.")] = 200,
    recall: Annotated[float, typer.Option(min=0.5, max=1.0, help="Recall both sides must reach.")] = 0.95,
    rounds: Annotated[int, typer.Option(min=1, help="Times each query is timed.")] = 3,
    metric: Annotated[Metric, typer.Option(help="Distance.")] = Metric.COSINE,
    pgvector: Annotated[bool, typer.Option(help="Measure pgvector too.")] = True,
    winnow: Annotated[bool, typer.Option(help="Measure winnow.")] = True,
    reuse: Annotated[bool, typer.Option(help="Take over tables and indexes that hold the same data already.")] = False,
    rebuild: Annotated[
        list[str] | None, typer.Option(help="With --reuse: the side whose indexes are built anew; repeatable.")
    ] = None,
    insert_rows: Annotated[int, typer.Option(min=1, help="Rows inserted in a round, after a CHECKPOINT.")] = 1000,
    clients: Annotated[int, typer.Option(min=1, help="Connections of the clients phase.")] = Options.clients,
    seed: Seed = 7,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the raw results to this file, as they come in.")
    ] = None,
    efforts: Annotated[
        Path | None, typer.Option(help="Raw results of an earlier run: take the efforts found there, search for none.")
    ] = None,
    dsn: Dsn = None,
    version: Version = 18,
    server_dir: ServerDir = None,
    setting: Settings = None,
    keep: Annotated[bool, typer.Option(help="Leave the embedded server running afterwards.")] = False,
) -> None:
    """Build, search, insert and vacuum on both sides, and compare."""
    phases = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in phases if name not in PHASES]:
        raise WinnowError(f"unknown phase {', '.join(unknown)}", f"there are {', '.join(PHASES)}")
    sides: list[Side] = [
        *([Winnow(metric, recall)] if winnow else []),
        *([Pgvector(metric, recall)] if pgvector else []),
    ]
    if not sides:
        raise WinnowError("neither side is left to measure", "drop --no-winnow or --no-pgvector")
    if unknown := [name for name in rebuild or [] if name not in [side.name for side in sides]]:
        raise WinnowError(f"unknown side {', '.join(unknown)}", f"there are {', '.join(side.name for side in sides)}")
    console, progress = wide_console(), progress_bars(Console(stderr=True))
    with progress:
        dataset = datasets.open_dataset(data or default_data(seed), queries=queries)
        console.print(f"{dataset.name}: {len(dataset.base):,} x {dataset.dimensions}, seed {seed}")
        options = Options(
            phases=phases,
            workloads=workload or ["*"],
            ks=k or [10],
            metric=metric,
            recall=recall,
            rounds=rounds,
            seed=seed,
            reuse=reuse,
            rebuild=rebuild or [],
            clients=clients,
            insert_rows=insert_rows,
            cache=cache_folder() / "truth",
            efforts=known_efforts(efforts) if efforts is not None else {},
            save=(lambda results: None) if json_file is None else (lambda results: results.write(json_file)),
        )
        with serving(dsn, version, server_dir, setting, keep) as address:
            results = run(address, dataset, sides, options, progress)
    show(results, console)
    if json_file is not None:
        console.print(f"raw results: {json_file}")


@app.command()
def data(
    source: Annotated[Path, typer.Argument(help="Folder with embeddings.f16.npy and attributes.parquet.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the data set to.")],
    rows: Annotated[int, typer.Option(help="Rows to grow to; by default the real rows alone.")] = 0,
    queries: Annotated[int, typer.Option(min=1, help="Rows held out as queries.")] = 1000,
    jitter: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Integer column that is varied in grown rows.")
    ] = None,
    seed: Seed = 7,
) -> None:
    """Split embeddings into base and queries, and grow the base near its own manifold."""
    with progress_bars(Console(stderr=True)) as progress:
        tasks = {}

        def step(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        made = grow(source, out, rows, held_out=queries, seed=seed, jitter=jitter, progress=step)
    Console().print(f"{made:,} rows and {queries:,} queries in {out}, seed {seed}")


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="Folder to write the data set to.")],
    rows: Annotated[int, typer.Option(min=1000)] = SYNTHETIC_ROWS,
    dimensions: Annotated[int, typer.Option(min=2, max=16000)] = SYNTHETIC_DIMENSIONS,
    queries: Annotated[int, typer.Option(min=1)] = 1000,
    seed: Seed = 7,
) -> None:
    """Make up a data set in the shape of the published filtered-search benchmark on paper abstracts."""
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
    """Compare ways to load vectors: text rows, binary rows, and pgwinnow's loader."""
    with progress_bars(Console(stderr=True)) as progress:
        dataset = datasets.open_dataset(data or default_data(7))
        with serving(dsn, version, server_dir, setting, keep=False) as address:
            loads = compare_loads(address, dataset, min(rows, len(dataset.base)), repeats, progress)
    wide_console().print(loads_table(loads))
    if json_file is not None:
        json_file.write_text(loads.as_json() + "\n")


@app.command("plans")
def plans_command(
    rows: Annotated[str, typer.Option(help="Numbers of rows, separated by commas.")] = commas(plans.Options.rows),
    dims: Annotated[str, typer.Option(help="Numbers of dimensions.")] = commas(plans.Options.dimensions),
    k: Annotated[str, typer.Option("--k", help="Numbers of rows asked for.")] = commas(plans.Options.ks),
    queries: Annotated[int, typer.Option(min=1, help="Queries of each search.")] = plans.Options.queries,
    rounds: Annotated[int, typer.Option(min=1, help="Times each is timed; the best counts.")] = plans.Options.rounds,
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

    def save(points: list[plans.Point]) -> None:
        if json_file is not None:
            json_file.write_text(json.dumps(plans.as_json(points, options), indent=1) + "\n")

    with progress_bars(Console(stderr=True)) as progress, serving(dsn, version, server_dir, setting, False) as address:
        points = plans.measure_grid(address, options, progress, save)
    console = wide_console()
    console.print(plans.misses_table(points, within))
    console.print(plans.verdict_table(points, within))


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
    server = Server(folder, version=version, settings=server_settings(_parse_settings(setting or [])))
    server.stop()  # settings take effect at the start
    server.start()
    try:
        yield server.dsn()
    finally:
        if not keep:
            server.stop()


def known_efforts(path: Path) -> dict[tuple[str, int, str], str]:
    """The efforts of an earlier run's raw results, by workload, k and side."""
    try:
        answers = json.loads(path.read_text())["answers"]
        return {(each["workload"], each["k"], each["side"]): each["effort"] for each in answers}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WinnowError(
            f"no results in {path}: {error}", "name a file that --json of an earlier run wrote"
        ) from error


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
