"""The command ``pgwinnow demo``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import psycopg
import pyarrow as pa
import typer
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table

from pgwinnow.bench.report import wide_console
from pgwinnow.demo import database
from pgwinnow.demo.corpus import as_table, corpus_folder, load_or_collect, sample
from pgwinnow.demo.searches import COLUMNS, LIMIT, RIVALS, SEARCHES, WINNOW, Contender, Found, Outcome, ask
from pgwinnow.demo.vectors import VectorStore
from pgwinnow.embed import LocalModel, Provider
from pgwinnow.errors import WinnowError
from pgwinnow.psycopg import register
from pgwinnow.server import Server

app = typer.Typer(add_completion=False)

ROWS = 4000  # well under two minutes of embedding on two cores
EMBEDDED_CHARACTERS = 400  # of a docstring: its beginning says what the thing is
LEAST_ROWS = 500
SHOWN_HITS = 5


@app.callback(invoke_without_command=True)
def demo(
    rows: Annotated[int, typer.Option(min=LEAST_ROWS, help="Docstrings to embed, evenly from all packages.")] = ROWS,
    everything: Annotated[bool, typer.Option("--all", help="Embed every docstring found.")] = False,
    fresh: Annotated[bool, typer.Option(help="Load and index again even if nothing changed.")] = False,
    stop: Annotated[bool, typer.Option(help="Stop the server at the end.")] = False,
    version: Annotated[int, typer.Option("--version", help="PostgreSQL's major version.")] = 18,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder of the server; by default the one of pgwinnow server.")
    ] = None,
) -> None:
    """Search the documentation of the Python packages on this machine, filtered, beside pgvector."""
    console = wide_console()
    server = Server(data_dir, version=version)
    try:
        run(console, server, None if everything else rows, fresh, LocalModel())
    finally:
        if stop:
            server.stop()
    farewell(console, server, data_dir, stopped=stop)


def run(console: Console, server: Server, rows: int | None, fresh: bool, provider: Provider) -> list[Found]:
    """Everything from the server's start to the summary; returns what the searches found."""
    with console.status("starting PostgreSQL (the first time, this compiles the extension)"):
        started = time.perf_counter()
        server.start()
        database.make_database(server.dsn())
    console.print(f"PostgreSQL {server.version} with winnow is running ({time.perf_counter() - started:.1f} s)")
    dsn = server.dsn(database.DATABASE)
    with progress_bars(console) as progress:
        corpus = prepare_corpus(console, progress, corpus_folder(), rows, provider)
        # Their vectors are kept where those of the documents are.
        questions, _ = VectorStore(corpus_folder(), provider).vectors([search.question for search in SEARCHES])
        with connect(dsn) as connection:
            fill_tables(console, progress, dsn, connection, corpus, provider, fresh)
    with connect(dsn) as connection:
        register(connection, "public.vector")
        contenders = [WINNOW, *(RIVALS if database.has_pgvector(connection) else ())]
        found = []
        for search, vector in zip(SEARCHES, questions.astype("float32"), strict=True):
            found.append(ask(connection, search, vector, contenders))
            show_search(console, found[-1])
        show_summary(console, found, contenders)
        show_sizes(console, database.sizes(connection))
    return found


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A session of the demo."""
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=None, application_name="pgwinnow demo")


def progress_bars(console: Console) -> Progress:
    """Bars that are gone once the work is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


class Steps:
    """One progress bar that moves from step to step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def __call__(self, name: str, done: int, total: int) -> None:
        """Show a step and how far it is."""
        self._progress.update(self._task, description=name, completed=done, total=total or None)

    def done(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._task)


def prepare_corpus(
    console: Console, progress: Progress, folder: Path, rows: int | None, provider: Provider
) -> database.Corpus:
    """Read the docstrings, choose among them, and embed those that are new."""
    started = time.perf_counter()
    steps = Steps(progress)
    entries = load_or_collect(folder, progress=lambda done, total: steps("reading sources", done, total))
    steps.done()
    chosen = sample(entries, rows)
    if len(chosen) < LEAST_ROWS:
        raise WinnowError(
            f"only {len(chosen)} docstrings were found in the installed packages, too few to search",
            "run the demo in an environment with a few packages and the standard library's sources",
        )
    packages = len({entry.package for entry in entries})
    console.print(
        f"{len(entries):,} docstrings of {packages} packages read, {len(chosen):,} chosen "
        f"({time.perf_counter() - started:.1f} s)"
    )
    texts = [f"{entry.module} {entry.name}: {entry.doc}"[:EMBEDDED_CHARACTERS] for entry in chosen]
    started = time.perf_counter()
    store = VectorStore(folder, provider)
    steps = Steps(progress)
    vectors, new = store.vectors(texts, progress=lambda done, total: steps("embedding", done, total))
    steps.done()
    console.print(
        f"{new:,} of them embedded with {provider.name} ({time.perf_counter() - started:.1f} s), "
        f"{len(texts) - new:,} known from before"
    )
    table = as_table(chosen)
    corpus = database.Corpus(folder, table.add_column(0, "id", pa.array(range(len(table)), type=pa.int64())), vectors)
    corpus.save()
    return corpus


def fill_tables(
    console: Console,
    progress: Progress,
    dsn: str,
    connection: psycopg.Connection[Any],
    corpus: database.Corpus,
    provider: Provider,
    fresh: bool,
) -> None:
    """Load and index both tables where they do not hold the corpus yet."""
    steps = Steps(progress)
    for table in database.TABLES:
        if table == "docs_pgvector" and not database.has_pgvector(connection):
            console.print("this server has no pgvector to compare with")
            continue
        if not fresh and database.is_current(connection, table, corpus):
            console.print(f"table {table} is loaded and indexed already")
            continue
        started = time.perf_counter()
        if table == "docs":
            database.fill(dsn, connection, corpus, provider, steps)
        else:
            database.fill_pgvector(dsn, connection, corpus, steps)
        console.print(f"table {table} loaded and indexed ({time.perf_counter() - started:.1f} s)")
    steps.done()


def show_search(console: Console, found: Found) -> None:
    """The query, its nearest hits, and how every side answered it."""
    search = found.search
    console.rule(f"[bold]{search.question}[/]")
    console.print(f"{search.about}; {found.matching:,} rows match")
    console.print(
        Syntax(f"{search.sql(WINNOW.table, WINNOW.operator)};", "sql", background_color="default", word_wrap=True)
    )
    table = Table()
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for hit in found.hits[:SHOWN_HITS]:
        table.add_row(*(shown(value) for value in hit))
    console.print(table)
    for outcome in found.outcomes:
        console.print(
            f"{outcome.contender}: {outcome.rows} of {outcome.expected} rows, "
            f"recall {outcome.recall:.2f}, {outcome.milliseconds:.2f} ms"
        )
    console.print(f"exact, without an index: {found.exact_milliseconds:.2f} ms")


def shown(value: Any) -> str:
    """A value of a hit for people."""
    if value is None:
        return "NULL"
    return ", ".join(value) if isinstance(value, list) else str(value)


def show_summary(console: Console, found: Sequence[Found], contenders: Sequence[Contender]) -> None:
    """Every search in a line: rows, recall and time of each side."""
    console.rule("[bold]summary[/]")
    table = Table(caption=f"rows of {LIMIT} asked for, recall against the exact answer, median time in ms")
    table.add_column("question", overflow="fold")
    table.add_column("match", justify="right")
    for contender in contenders:
        table.add_column(contender.name, justify="right")
    table.add_column("exact", justify="right")
    for each in found:
        cells = [outcome_cell(outcome) for outcome in each.outcomes]
        table.add_row(each.search.question, f"{each.matching:,}", *cells, f"{each.exact_milliseconds:.2f}")
    console.print(table)


def outcome_cell(outcome: Outcome) -> str:
    """Rows, recall and time; red where rows are missing."""
    text = f"{outcome.rows:2}  {outcome.recall:.2f}  {outcome.milliseconds:.2f}"
    return text if outcome.rows >= outcome.expected else f"[red]{text}[/]"


def show_sizes(console: Console, sizes: dict[str, tuple[int, int]]) -> None:
    """What each side's indexes take."""
    for table, (heap, indexes) in sizes.items():
        console.print(f"{table}: rows {heap / 1e6:.1f} MB, search indexes {indexes / 1e6:.1f} MB")


def farewell(console: Console, server: Server, data_dir: Path | None, *, stopped: bool) -> None:
    """How to go on, and how to stop."""
    named = "" if data_dir is None else f" --data-dir {data_dir}"
    where = make_conninfo(server.dsn(database.DATABASE))
    console.rule("[bold]what next[/]")
    if stopped:
        console.print(f"The server is stopped. Start it again: pgwinnow server start{named}", soft_wrap=True)
    else:
        console.print("The server keeps running.", soft_wrap=True)
    lines = (
        ("look around in SQL", f"pgwinnow server psql{named} --dbname {database.DATABASE}"),
        ("connect from a program", f'psycopg.connect("{where}")'),
        (
            "ask something else",
            f'pgwinnow query \'parse a date\' --table docs --where "n_params < 3" --dsn "{where}"',
        ),
        ("exact answers", "SET winnow.recall = 1;"),
        ("measure on these texts", "pgwinnow bench run"),
        ("stop the server", f"pgwinnow server stop{named}"),
    )
    for what, command in lines:
        console.print(f"  [bold]{what}[/]: {command}", soft_wrap=True, highlight=False)
