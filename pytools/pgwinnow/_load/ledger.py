"""The record of files loaded with ``resume``: table ``pgwinnow_loads`` in the target's schema.

A file's row is written in the transaction that loads the file, so the record says a file is loaded exactly if its rows
are. Files are known by their contents (SHA-256), not by their names; of two sessions that load the same contents at
once, one waits for the other. The record does not notice TRUNCATE or DELETE: remove its rows as well to load a file
again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from .. import _tables
from .._tables import Table
from ..errors import LoadError
from . import locks
from .sources import Source

NAME = "pgwinnow_loads"


def digest(source: Source) -> str:
    """SHA-256 over the contents of the source's files."""
    total = hashlib.sha256()
    for path in source.files:
        total.update(_digest(path))
    return total.hexdigest()


def _digest(path: Path) -> bytes:
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.digest()


def make(connection: psycopg.Connection[Any], schema: str) -> None:
    """Create the record if ``schema`` has none, in a transaction of its own: other sessions do not wait for a load."""
    ledger = sql.Identifier(schema, NAME)
    if _tables.find_table(connection, ledger.as_string(connection)) is not None:
        return
    with connection.transaction():
        locks.take(connection, "ledger", schema)
        if _tables.find_table(connection, ledger.as_string(connection)) is not None:  # by whom this one waited for
            return
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} (target regclass, digest text, file text NOT NULL, rows bigint NOT NULL,"
                " loaded_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (target, digest))"
            ).format(ledger)
        )
        connection.execute(
            sql.SQL("COMMENT ON TABLE {} IS 'files that pgwinnow load --resume has loaded'").format(ledger)
        )


def is_loaded(connection: psycopg.Connection[Any], table: Table, source: Source, contents: str) -> bool:
    """Whether ``table`` has these contents; LoadError if it has other contents of a file with this name.

    Waits for a session that is loading them, and keeps others waiting until the transaction ends.
    """
    ledger = sql.Identifier(table.schema, NAME)
    locks.take(connection, "file", str(table.oid), contents)
    rows = connection.execute(
        sql.SQL("SELECT digest, loaded_at FROM {} WHERE target = %s AND (digest = %s OR file = %s)").format(ledger),
        [table.oid, contents, _file(source)],
    ).fetchall()
    if any(known == contents for known, _ in rows):
        return True
    if rows:
        raise LoadError(
            f"{source} was loaded into {table} at {rows[0][1]:%Y-%m-%d %H:%M}, and has changed since",
            f"Load it without --resume, or delete its row from {table.schema}.{NAME} if its old rows are gone.",
        )
    return False


def record(connection: psycopg.Connection[Any], table: Table, source: Source, contents: str, rows: int) -> None:
    """Note that ``table`` has these contents; belongs into the transaction that put them there."""
    connection.execute(
        sql.SQL("INSERT INTO {} (target, digest, file, rows) VALUES (%s, %s, %s, %s)").format(
            sql.Identifier(table.schema, NAME)
        ),
        [table.oid, contents, _file(source), rows],
    )


def _file(source: Source) -> str:
    return " + ".join(str(path.resolve()) for path in source.files)
