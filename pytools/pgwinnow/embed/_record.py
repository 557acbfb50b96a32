"""Which model a column's vectors come from: a line in the column's comment."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg import sql

from .._tables import Column, Table
from ..errors import ModelMismatch
from ._models import DEFAULT_MODEL, LocalModel, Provider

_LINE = re.compile(r"^pgwinnow model: (.+)$", re.MULTILINE)


def recorded_model(connection: psycopg.Connection[Any], table: Table, column: Column) -> str | None:
    """The model recorded for the column, or None."""
    match = _LINE.search(_comment(connection, table, column))
    return match[1] if match else None


def provider_for(connection: psycopg.Connection[Any], table: Table, column: Column) -> Provider:
    """The local model recorded for the column; the default one where none is, if it fits. ModelMismatch if not."""
    recorded = recorded_model(connection, table, column)
    provider = LocalModel(recorded or DEFAULT_MODEL)
    if recorded is None:
        _check_dimensions(table, column, provider)
    return provider


def check_model(connection: psycopg.Connection[Any], table: Table, column: Column, provider: Provider) -> str | None:
    """The model recorded for the column; ModelMismatch if that is not the provider's, or the dimensions differ."""
    recorded = recorded_model(connection, table, column)
    if recorded is not None and recorded != provider.name:
        raise ModelMismatch(
            f"column {column.name!r} of table {table} holds vectors of model {recorded!r}, not of {provider.name!r}",
            f"Use {recorded!r}, or a column of its own for each model: distances between models mean nothing.",
        )
    _check_dimensions(table, column, provider)
    return recorded


def claim(connection: psycopg.Connection[Any], table: Table, column: Column, provider: Provider) -> None:
    """Record the provider's model for the column, unless another one's vectors are there: ModelMismatch."""
    with connection.transaction():
        # Two sessions with two models must not both find the column free.
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table.identifier))
        if check_model(connection, table, column, provider) is not None:
            return
        vectors = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)")
        line = f"pgwinnow model: {provider.name}"
        comment = sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
            table.identifier,
            sql.Identifier(column.name),
            sql.Literal("\n".join(filter(None, [_comment(connection, table, column), line]))),
        )
        if connection.execute(vectors.format(table.identifier, sql.Identifier(column.name))).fetchone() == (True,):
            raise ModelMismatch(
                f"column {column.name!r} of table {table} holds vectors of an unknown model",
                f"If they are of {provider.name!r}, say so: {comment.as_string(connection)};",
            )
        connection.execute(comment)


def _comment(connection: psycopg.Connection[Any], table: Table, column: Column) -> str:
    row = connection.execute(
        "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = %s AND attname = %s",
        [table.oid, column.name],
    ).fetchone()
    return row[0] or "" if row else ""


def _check_dimensions(table: Table, column: Column, provider: Provider) -> None:
    if column.dimensions not in (None, provider.dimensions):
        raise ModelMismatch(
            f"model {provider.name!r} makes vectors of {provider.dimensions} dimensions,"
            f" column {column.name!r} of table {table} is {column.formatted}",
            "Name the model the column was made for, or make a column of the model's dimensions.",
        )
