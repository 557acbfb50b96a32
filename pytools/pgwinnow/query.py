"""Filtered searches.

Example::

    result = search(connection, "red running shoes", table="items", where="price < 50", limit=5)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.types import TypeInfo

from . import _tables
from ._tables import Column, Table
from .errors import QueryError
from .psycopg import register_type
from .types import Metric, VectorLike, as_vector

if TYPE_CHECKING:
    from .embed import Provider

__all__ = ["SearchResult", "search"]


_LONG_VECTOR = re.compile(r"'\[[-+.,e0-9]{40,}\]'")


@dataclass(frozen=True)
class SearchResult:
    """The rows of a search, nearest first; the last column is ``distance``."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    plan: list[str] | None = None
    """Lines of EXPLAIN (ANALYZE, BUFFERS), if asked for."""
    last_scan: dict[str, int] | None = None
    """The counters of ``winnow_last_scan()``, if asked for and if a winnow index was used."""


def search(
    connection: psycopg.Connection[Any],
    query: str | VectorLike,
    *,
    table: str,
    vector: str = "embedding",
    where: str | None = None,
    limit: int = 10,
    recall: float | None = None,
    columns: Sequence[str] | None = None,
    metric: str | None = None,
    explain: bool = False,
    provider: Provider | None = None,
) -> SearchResult:
    """The ``limit`` rows nearest to ``query`` among those that satisfy ``where``.

    query: a vector, or a text to embed, with ``provider`` or else the model recorded for the column.
    where: an SQL condition, used as it stands and with this connection's rights, in a read-only transaction (a
        savepoint where one is open): never build it from what strangers typed; write SQL with parameters for that.
    recall: ``winnow.recall`` for this search alone; in [0.01, 1].
    columns: those to return besides the distance; by default all but vectors.
    metric: l2, ip, cosine or l1; by default that of the column's index, or cosine without one.
    explain: also run it under EXPLAIN ANALYZE, and report what the index did.

    Raises UnknownName, ModelMismatch, QueryError; ValueError for a vector, recall or metric out of range.
    """
    if isinstance(connection, str):
        raise TypeError("an open connection is needed, not a string: psycopg.connect(...)")
    if recall is not None and not 0.01 <= recall <= 1:
        raise ValueError(f"recall is from 0.01 to 1, not {recall}")
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    with _tables.plain_rows(connection), connection.transaction(force_rollback=True):
        found = _tables.get_table(connection, table)
        known = _tables.get_columns(connection, found)
        column = _tables.pick_vector(known, vector, found)
        if columns is None:
            columns = [other.name for other in known.values() if not other.is_vector]
        columns = _tables.names(columns)
        for name in columns:
            _tables.pick_column(known, name, found)
        chosen = Metric.named(metric) if metric else _tables.find_metric(connection, found, column) or Metric.COSINE
        if isinstance(query, str):
            query = _embed(connection, query, found, column, provider)
        statement = _statement(found, column, chosen, columns, where)
        cursor = connection.cursor()
        register_type(TypeInfo("vector", column.type_oid, 0), cursor)
        try:
            cursor.execute("SET TRANSACTION READ ONLY")
            if recall is not None:
                cursor.execute("SELECT set_config('winnow.recall', %s, true)", [str(recall)])
            return _run(cursor, statement, {"query": as_vector(query), "limit": limit}, explain)
        except psycopg.Error as error:
            raise QueryError(
                f"the search failed: {error.diag.message_primary or error}", error.diag.message_hint
            ) from error


def _embed(
    connection: psycopg.Connection[Any], text: str, table: Table, column: Column, provider: Provider | None
) -> VectorLike:
    from .embed import check_model, provider_for

    if provider is None:
        provider = provider_for(connection, table, column)
    else:
        check_model(connection, table, column, provider)
    vector: VectorLike = provider.embed([text])[0]
    return vector


def _statement(table: Table, column: Column, metric: Metric, columns: Sequence[str], where: str | None) -> sql.Composed:
    # The operator is qualified: a search_path without the type's schema must not matter.
    distance = sql.SQL("{} OPERATOR({}.{}) %(query)b").format(
        sql.Identifier(column.name), sql.Identifier(column.type_schema), sql.SQL(metric.operator)
    )
    outputs = [*map(sql.Identifier, columns), sql.SQL("{} AS distance").format(distance)]
    return sql.SQL("SELECT {} FROM {} {} ORDER BY {} LIMIT %(limit)s").format(
        sql.SQL(", ").join(outputs),
        table.identifier,
        # A line of its own, so that a comment at the end of the condition ends there.
        sql.SQL("WHERE (" + where.replace("%", "%%") + "\n)" if where else ""),
        distance,
    )


def _run(cursor: psycopg.Cursor[Any], statement: sql.Composed, values: dict[str, Any], explain: bool) -> SearchResult:
    cursor.execute(statement, values)
    names = tuple(column.name for column in cursor.description or ())
    rows = cursor.fetchall()
    if not explain:
        return SearchResult(names, rows)
    last_scan = _last_scan(cursor, statement, values)
    cursor.execute(sql.SQL("EXPLAIN (ANALYZE, BUFFERS) {}").format(statement), values)
    plan = [_LONG_VECTOR.sub("'[...]'", line) for (line,) in cursor]
    return SearchResult(names, rows, plan, last_scan)


def _last_scan(cursor: psycopg.Cursor[Any], statement: sql.Composed, values: dict[str, Any]) -> dict[str, int] | None:
    """What the index did for the statement that ran last; None where its plan has no winnow index."""
    function = _tables.extension_function(cursor.connection, "winnow_last_scan")
    if function is None:
        return None
    # asked first, as the next statement may search too
    counters = dict(cursor.execute(sql.SQL("SELECT counter, value FROM {}()").format(function)).fetchall())
    row = cursor.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(statement), values).fetchone()
    indexes = _indexes(row[0][0]["Plan"] if row else {})
    return counters if _tables.count_winnow_indexes(cursor.connection, indexes) else None


def _indexes(plan: dict[str, Any]) -> list[str]:
    """The names of the indexes in a plan."""
    found = [plan["Index Name"]] if "Index Name" in plan else []
    for below in plan.get("Plans", []):
        found += _indexes(below)
    return found
