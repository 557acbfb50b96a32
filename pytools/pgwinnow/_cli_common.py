"""What the commands share: options, output, progress bars, errors and exit codes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from .errors import WinnowError

FAILED, INTERRUPTED = 1, 130  # 2 is wrong usage, from typer

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="Database, as libpq connection string or URI. Default: libpq's environment (PGHOST, PGDATABASE, PGSERVICE,"
        " ...), else the running embedded server.",
        show_default=False,
    ),
]


class _Output:
    """Whether the command that runs was asked for JSON."""

    as_json = False


def _note_json(value: bool) -> bool:
    _Output.as_json = value
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.", callback=_note_json)]
TableName = Annotated[
    str, typer.Option("--table", "-t", metavar="TABLE", help="Table, as in SQL: items, shop.items, '\"Items\"'.")
]
VectorName = Annotated[str, typer.Option("--vector", metavar="COLUMN", help="Vector column.")]


class Group(TyperGroup):
    """Prints the errors people can cause as a message and its way out, and ends with their exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        import psycopg

        _Output.as_json = False
        try:
            return super().invoke(ctx)
        except WinnowError as error:
            print_error(str(error), error.hint)
        except psycopg.Error as error:
            print_error(str(error.diag.message_primary or error), error.diag.message_hint)
        except OSError as error:
            print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error), None)
        except KeyboardInterrupt as interrupt:
            print_error("interrupted", str(interrupt) or None)
            raise typer.Exit(INTERRUPTED) from None
        raise typer.Exit(FAILED)


def print_error(message: str, hint: str | None) -> None:
    """The error on standard error, or with --json as an object on standard output."""
    if _Output.as_json:
        print_json({"error": message, "hint": hint})
        return
    typer.secho(f"error: {message}", fg=None if os.environ.get("NO_COLOR") else "red", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)


def print_json(value: Any) -> None:
    """``value`` on standard output; what JSON does not know as text, NaN and infinity (it has neither) as null."""
    typer.echo(json.dumps(plain(value)))


def plain(value: Any) -> Any:
    """``value`` in what JSON knows: anything else as text, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; NULL is left empty."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def split_names(names: str | None) -> list[str] | None:
    """``a,b,c`` as a list."""
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def split_pairs(option: str, pairs: Sequence[str] | None, example: str, *, empty: bool = False) -> dict[str, str]:
    """What was given to an option that takes NAME=VALUE; wrong usage where that is something else, or empty."""
    split = {}
    for pair in pairs or ():
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and (value or empty)):
            raise typer.BadParameter(f"{pair!r} is not of the form {example}", param_hint=option)
        split[name] = value
    return split


ProgressT = TypeVar("ProgressT")


@contextmanager
def progress_bar(
    read: Callable[[ProgressT], tuple[str, int, int | None]], unit: str
) -> Iterator[Callable[[ProgressT], None]]:
    """A bar on standard error, when that is a terminal; ``read`` gives an event's label, done and total."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        tasks: dict[str, Any] = {}

        def show(event: ProgressT) -> None:
            label, done, total = read(event)
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done, total=total)

        yield show
