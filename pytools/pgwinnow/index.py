"""Building a winnow index, watching it grow, and checking it.

create_index("dbname=shop", "items", metric="cosine", columns=["category", "price"])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from . import _tables
from ._connect import connect
from ._tables import Column, Table
from .errors import ExtensionMissing, IndexBuildError, IndexDamaged, UnknownName, WinnowError
from .types import Metric

__all__ = ["BuildProgress", "check_index", "create_index"]

_POLL_SECONDS = 0.2
_NAME_BYTES = 63


@dataclass(frozen=True)
class BuildProgress:
    """One look at ``pg_stat_progress_create_index``; ``total`` is 0 while the phase has nothing to count."""

    phase: str
    done: int
    total: int
    unit: str
    """``rows`` or ``blocks``."""


def create_index(
    dsn: str,
    table: str,
    *,
    vector: str = "embedding",
    metric: str = "cosine",
    columns: Sequence[str] = (),
    name: str | None = None,
    concurrently: bool = False,
    with_: Mapping[str, str | int | float | bool] | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
    method: str = "winnow",
) -> str:
    """CREATE INDEX over ``vector`` and the attribute ``columns`` that searches filter by; returns the index's name.

    metric: l2, ip or cosine (ValueError for another).
    name: by default made of the table's and the columns' names, as PostgreSQL does.
    concurrently: let writes go on meanwhile; the build is slower.
    with_: storage parameters.
    on_progress: called some times a second from this thread, while another one waits for the server.
    method: the access method.

    Raises UnknownName, ExtensionMissing, IndexBuildError. An interrupt (Ctrl-C) cancels the build on the server; the
    KeyboardInterrupt then says what a build with ``concurrently`` has left.
    """
    chosen = Metric.indexed(metric)
    columns = _tables.names(columns)
    if name is not None and len(name.encode()) > _NAME_BYTES:
        raise IndexBuildError(
            f"an index cannot be called {name!r}: the name has {len(name.encode())} bytes",
            f"PostgreSQL keeps the first {_NAME_BYTES} of a name; choose a shorter one.",
        )
    with connect(dsn) as connection, connect(dsn) as watcher:
        found = _tables.get_table(connection, table)
        known = _tables.get_columns(connection, found)
        column = _tables.pick_vector(known, vector, found)
        for attribute in columns:
            _tables.pick_column(known, attribute, found)
        index = name or _default_name(connection, found, [vector, *columns])
        statement = sql.SQL("CREATE INDEX {concurrently} {name} ON {table} USING {method} ({columns}) {with_}").format(
            concurrently=sql.SQL("CONCURRENTLY" if concurrently else ""),
            name=sql.Identifier(index),
            table=found.identifier,
            method=sql.Identifier(method),
            columns=sql.SQL(", ").join(
                [
                    sql.SQL("{} {}").format(sql.Identifier(vector), _opclass(connection, chosen, column, method)),
                    *map(sql.Identifier, columns),
                ]
            ),
            with_=_storage_parameters(with_ or {}),
        )
        try:
            _watch(connection, watcher, statement, on_progress or (lambda progress: None))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(*filter(None, [_left_over(watcher, found, index)])) from None
        except psycopg.Error as error:
            raise IndexBuildError(
                f"index {index} on {found} was not built: {error.diag.message_primary or error}",
                " ".join(filter(None, [_left_over(watcher, found, index), error.diag.message_hint])) or None,
            ) from error
    return index


def check_index(dsn: str, index: str, *, heap: bool = False) -> None:
    """Have the server check a winnow index, named as in SQL: IndexDamaged if something is wrong with it.

    heap: also look for every row of the table in the index; takes longer.
    """
    with connect(dsn) as connection:
        try:
            function = _tables.extension_function(connection, "winnow_check")
            if function is None:
                raise ExtensionMissing("this database has no extension winnow", "Run CREATE EXTENSION winnow.")
            connection.execute(sql.SQL("SELECT {}(%s::regclass, %s)").format(function), [index, heap])
        except (psycopg.errors.IndexCorrupted, psycopg.errors.DataCorrupted) as error:
            detail = f": {error.diag.message_detail}" if error.diag.message_detail else ""
            raise IndexDamaged(
                f"index {index} is damaged: {error.diag.message_primary}{detail}",
                error.diag.message_hint or f"REINDEX INDEX {index} builds it anew from the table.",
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise WinnowError(
                f"index {index} cannot be checked: {error.diag.message_primary}",
                "A superuser gives the right: GRANT EXECUTE ON FUNCTION winnow_check(regclass, boolean) TO ...;",
            ) from error
        except psycopg.errors.WrongObjectType as error:
            raise UnknownName(f"{index} is not a winnow index") from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidName) as error:
            raise UnknownName(f"there is no index {index} in this database", "Qualify it with its schema.") from error


def _opclass(connection: psycopg.Connection[Any], metric: Metric, column: Column, method: str) -> sql.Identifier:
    """The operator class, schema-qualified: with two vector types in a database, the name alone may mean another's."""
    row = connection.execute(
        "SELECT nspname, opcname FROM pg_opclass JOIN pg_am ON pg_am.oid = opcmethod"
        " JOIN pg_namespace n ON n.oid = opcnamespace WHERE amname = %s AND opcname = %s AND opcintype = %s",
        [method, metric.opclass, column.type_oid],
    ).fetchone()
    if row is None:
        raise ExtensionMissing(
            f"this database has no operator class {metric.opclass} for access method {method}"
            f" and type {column.type_schema}.{column.type_name}",
            "Run CREATE EXTENSION winnow. Columns of pgvector's type become winnow's by ALTER TABLE ... ALTER COLUMN"
            f" {column.name} TYPE winnow.vector; README.md has a section on that.",
        )
    return sql.Identifier(*row)


def _storage_parameters(parameters: Mapping[str, str | int | float | bool]) -> sql.Composable:
    if not parameters:
        return sql.SQL("")
    pairs = [sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value)) for key, value in parameters.items()]
    return sql.SQL("WITH ({})").format(sql.SQL(", ").join(pairs))


def _default_name(connection: psycopg.Connection[Any], table: Table, columns: Sequence[str]) -> str:
    """A free name like the one PostgreSQL would choose."""
    base = "_".join([table.name, *columns]).encode()[: _NAME_BYTES - 8].decode(errors="ignore")
    rows = connection.execute(
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = %s AND starts_with(relname, %s)",
        [table.schema, base],
    )
    taken = {name for (name,) in rows}
    number = 0
    while (name := f"{base}_idx{number or ''}") in taken:
        number += 1
    return name


def _watch(
    connection: psycopg.Connection[Any],
    watcher: psycopg.Connection[Any],
    statement: sql.Composed,
    on_progress: Callable[[BuildProgress], None],
) -> None:
    """Run ``statement`` on one connection and report its progress from the other until it ends."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        build: Future[object] = pool.submit(connection.execute, statement)
        try:
            while not wait([build], timeout=_POLL_SECONDS).done:
                progress = _progress(watcher, connection.info.backend_pid)
                if progress is not None:
                    on_progress(progress)
            build.result()
        except BaseException:
            if not build.done():
                connection.cancel_safe()
            raise


def _progress(watcher: psycopg.Connection[Any], pid: int) -> BuildProgress | None:
    row = watcher.execute(
        "SELECT phase, tuples_done, tuples_total, blocks_done, blocks_total FROM pg_stat_progress_create_index"
        " WHERE pid = %s",
        [pid],
    ).fetchone()
    if row is None:
        return None
    phase, tuples_done, tuples_total, blocks_done, blocks_total = row
    if tuples_total or not blocks_total:
        return BuildProgress(phase, tuples_done, tuples_total, "rows")
    return BuildProgress(phase, blocks_done, blocks_total, "blocks")


def _left_over(watcher: psycopg.Connection[Any], table: Table, index: str) -> str | None:
    """How to clear away the invalid index that a failed CONCURRENTLY has left, if it has."""
    if watcher.closed or watcher.broken:
        return None
    left = watcher.execute(
        "SELECT 1 FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
        " WHERE indrelid = %s AND relname = %s AND NOT indisvalid",
        [table.oid, index],
    ).fetchone()
    if left is None:
        return None
    drop = sql.SQL("DROP INDEX {}").format(sql.Identifier(table.schema, index)).as_string(watcher)
    return f"An invalid index is left over: {drop};"
