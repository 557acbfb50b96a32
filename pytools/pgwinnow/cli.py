"""The command ``pgwinnow``.

Exit codes: 0 done; 1 it failed, and a message says why; 2 wrong usage; 130 interrupted. ``pgwinnow server status`` ends
with 3 when the server does not run.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

try:
    import typer
except ModuleNotFoundError:
    raise SystemExit("the pgwinnow command needs typer and rich: pip install 'pgwinnow[cli]'") from None

from . import __version__
from ._cli_common import (
    INTERRUPTED,
    Dsn,
    Group,
    Json,
    TableName,
    VectorName,
    print_json,
    print_table,
    progress_bar,
    split_names,
    split_pairs,
)
from ._connect import resolve_dsn
from .errors import MissingExtra, WinnowError
from .types import Metric

app = typer.Typer(
    name="pgwinnow",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Vector search in PostgreSQL with ordinary WHERE clauses: load, embed, index, query.",
    epilog="Exit codes: 0 done, 1 failed (the message says why), 2 wrong usage, 130 interrupted.",
)
index_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Build winnow indexes.")
app.add_typer(index_app, name="index")


def main() -> None:
    """Entry point of the command ``pgwinnow``."""
    app(prog_name="pgwinnow")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def load(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".npy, .parquet, .csv or .jsonl files.")],
    table: TableName,
    create: Annotated[
        bool, typer.Option("--create", help="Create the table if there is none; types are inferred.")
    ] = False,
    vector: VectorName = "embedding",
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Columns of the files to load. Default: all.", show_default=False),
    ] = None,
    sql_type: Annotated[
        list[str] | None,
        typer.Option(
            "--type", metavar="COLUMN=TYPE", help="With --create: a column's type; repeatable.", show_default=False
        ),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="The .npy file for one FILE of attributes.", show_default=False)
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="The file of attributes for one .npy FILE.", show_default=False)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Record loaded files in table pgwinnow_loads, and pass over those recorded."),
    ] = False,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Load vectors and attributes into a table, one transaction per file.

    Vectors are a .npy file beside a file of attributes with the same stem, or a column of lists in that file. A file is
    loaded whole or not at all; what is reported as committed is committed. Timestamps without a zone are taken for UTC.

    With --resume, give it from the first run on: files are known again by their contents.

    For example:

        pgwinnow load items.npy --table items --create

        pgwinnow load base.f32.npy --attributes attributes.parquet -t items --create --type price=numeric

        pgwinnow load part-*.parquet -t items --vector emb --resume
    """
    from .load import LoadedFile, LoadProgress, load_files

    done: list[LoadedFile] = []

    def loaded(file: LoadedFile) -> None:
        done.append(file)
        if not as_json:
            what = "was loaded before, passed over" if file.skipped else f"{file.rows:,} rows committed"
            typer.echo(f"{file.file}: {what} ({file.seconds:.1f} s)")

    def read(event: LoadProgress) -> tuple[str, int, int | None]:
        return Path(event.file).name, event.rows, event.total

    try:
        with progress_bar(read, "rows") as show:
            load_files(
                resolve_dsn(dsn),
                files,
                table,
                create=create,
                vector=vector,
                columns=split_names(columns),
                sql_types=split_pairs("--type", sql_type, "price=numeric"),
                vectors=vectors,
                attributes=attributes,
                resume=resume,
                on_progress=show,
                on_loaded=loaded,
            )
    except WinnowError as error:
        if done:
            error.hint = f"{error.hint or ''} Loaded before it: {', '.join(file.file for file in done)}.".strip()
        raise
    if as_json:
        print_json({"files": [vars(file) for file in done], "rows": sum(file.rows for file in done)})


@app.command()
def embed(
    table: TableName,
    text: Annotated[str, typer.Option("--text", metavar="COLUMN", help="Column of texts.")],
    vector: VectorName = "embedding",
    model: Annotated[
        str, typer.Option(help="A sentence-transformers model on this machine: its name, or its folder.")
    ] = "all-MiniLM-L6-v2",
    create: Annotated[bool, typer.Option("--create", help="Add the vector column if the table has none.")] = False,
    batch_rows: Annotated[int, typer.Option("--batch", min=1, help="Texts given to the model at once.")] = 64,
    window_rows: Annotated[int, typer.Option("--commit", min=1, help="Rows locked and committed at a time.")] = 1024,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Fill a vector column from a text column, with a model on this machine.

    Rows whose vector is NULL are filled and committed window by window: stop it and run it again as you like, or run it
    several times at once. The model's name goes into the column's comment; another model is refused there. Nothing is
    downloaded (set HF_HUB_OFFLINE=0 to change that).

    For example:

        pgwinnow embed --table items --text description --create

        pgwinnow embed -t items --text description --vector big --model ./models/my-model
    """
    from .embed import EmbedProgress, LocalModel, embed_column

    def read(event: EmbedProgress) -> tuple[str, int, int | None]:
        return table, event.done, event.total

    provider = LocalModel(model)
    with progress_bar(read, "rows") as show:
        rows = embed_column(
            resolve_dsn(dsn),
            table,
            text=text,
            vector=vector,
            provider=provider,
            create=create,
            batch_rows=batch_rows,
            window_rows=window_rows,
            on_progress=show,
        )
    if as_json:
        print_json({"table": table, "vector": vector, "model": provider.name, "rows": rows})
    else:
        typer.echo(f"{table}.{vector}: {rows:,} rows embedded with {provider.name}")


@index_app.command("create")
def index_create(
    table: TableName,
    vector: VectorName = "embedding",
    metric: Annotated[Metric, typer.Option(help="Distance the index is for.")] = Metric.COSINE,
    columns: Annotated[
        str, typer.Option(metavar="A,B,...", help="Columns that searches filter by.", show_default=False)
    ] = "",
    name: Annotated[
        str | None, typer.Option(help="The index's name. Default: made of the columns'.", show_default=False)
    ] = None,
    concurrently: Annotated[bool, typer.Option("--concurrently", help="Let writes go on meanwhile.")] = False,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Build a winnow index over a vector column and the columns that searches filter by.

    The bar shows the server's own progress. Ctrl-C cancels the build on the server.

    For example:

        pgwinnow index create --table items --columns category,price,tags,created

        pgwinnow index create -t items --metric l2 --name items_search --concurrently
    """
    from .index import BuildProgress, create_index

    try:
        Metric.indexed(metric.value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--metric") from error

    def read(event: BuildProgress) -> tuple[str, int, int | None]:
        return event.phase, event.done, event.total or None

    with progress_bar(read, "") as show:
        index = create_index(
            resolve_dsn(dsn),
            table,
            vector=vector,
            metric=metric.value,
            columns=split_names(columns) or [],
            name=name,
            concurrently=concurrently,
            on_progress=show,
        )
    if as_json:
        print_json({"index": index, "table": table})
    else:
        typer.echo(f"index {index} on {table} is built")


@app.command()
def query(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    table: TableName,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Condition the rows must satisfy.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-k", min=1, help="Rows to return.")] = 10,
    recall: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="Share of the true nearest to find. Default: winnow.recall.", show_default=False
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Columns to show. Default: all but vectors.", show_default=False),
    ] = None,
    vector: VectorName = "embedding",
    metric: Annotated[
        Metric | None, typer.Option(help="Distance. Default: the one the column is indexed for.", show_default=False)
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also show the plan and what the index did.")] = False,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Find the rows nearest in meaning to TEXT among those that satisfy a condition.

    TEXT is embedded with the model recorded for the column. The condition is your own SQL, run as it stands with your
    own rights, in a read-only transaction that is rolled back.

    For example:

        pgwinnow query "warm gloves" --table items --where "price < 50 AND tags && '{wool}'"

        pgwinnow query "parse json" -t docs -k 5 --recall 0.99 --columns name,package --explain
    """
    from ._connect import connect
    from .query import search

    with connect(resolve_dsn(dsn)) as connection:
        result = search(
            connection,
            text,
            table=table,
            vector=vector,
            where=where,
            limit=limit,
            recall=recall,
            columns=split_names(columns),
            metric=metric.value if metric else None,
            explain=explain,
        )
    if as_json:
        rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
        print_json({"rows": rows, "plan": result.plan, "last_scan": result.last_scan})
        return
    print_table("", result.columns, result.rows)
    if result.last_scan is not None:
        print_table("what the index did", ("counter", "value"), list(result.last_scan.items()))
    for line in result.plan or ():
        typer.echo(line)


@app.command()
def check(
    index: Annotated[str, typer.Option("--index", metavar="INDEX", help="Index, as in SQL.")],
    heap: Annotated[bool, typer.Option("--heap", help="Also look for every row of the table in the index.")] = False,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Check a winnow index for damage, with the server's function winnow_check.

    Damage ends with exit code 1, and with what was found. The function is for those it was granted to.

    For example:

        pgwinnow check --index items_embedding_idx

        pgwinnow check --index shop.items_embedding_idx --heap
    """
    from .index import check_index

    check_index(resolve_dsn(dsn), index, heap=heap)
    if as_json:
        print_json({"index": index, "sound": True})
    else:
        typer.echo(f"index {index} is sound")


def _mount(name: str, module: str, extra: str, summary: str) -> None:
    """A command whose app is imported only when it is called: its module may need what is not installed."""

    # It takes all its arguments, --help among them, as they are: the app behind it reads them.
    @app.command(
        name,
        help=summary,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def run(context: typer.Context) -> None:
        try:
            mounted = importlib.import_module(module)
        except ModuleNotFoundError as missing:
            if (missing.name or "").startswith("pgwinnow"):
                raise
            raise MissingExtra(missing.name or module, extra) from missing
        # Not standalone, so that errors reach Group.invoke; then an exit code is what it returns, of Ctrl-C too.
        code = mounted.app(args=context.args, prog_name=f"pgwinnow {name}", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if isinstance(code, int):
            raise typer.Exit(code)


_mount("server", "pgwinnow._cli_server", "server", "Run an embedded PostgreSQL server with winnow installed.")
_mount("demo", "pgwinnow.demo.cli", "demo", "Build and search a small collection on this machine.")
_mount("bench", "pgwinnow.bench.cli", "bench", "Measure winnow and pgvector side by side.")
