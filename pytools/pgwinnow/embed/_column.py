"""Filling a vector column, a window of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types import TypeInfo

from .. import _tables
from .._connect import connect
from .._tables import Column, Table
from ..errors import EmbedError, UnknownName
from ..psycopg import register_type
from ._models import LocalModel, Provider, embed_checked
from ._record import claim


@dataclass(frozen=True)
class EmbedProgress:
    """Rows committed so far, of those that had no vector at the start."""

    done: int
    total: int


def embed_column(
    dsn: str,
    table: str,
    *,
    text: str,
    vector: str = "embedding",
    provider: Provider | None = None,
    create: bool = False,
    batch_rows: int = 64,
    window_rows: int = 1024,
    on_progress: Callable[[EmbedProgress], None] | None = None,
) -> int:
    """Fill column ``vector`` from column ``text`` where it is NULL and the text is not; how many rows were filled.

    provider: the model; the packaged all-MiniLM-L6-v2 by default.
    create: add the vector column if the table has none of that name.
    batch_rows: texts given to the model at once. They are sorted by length within a window, as a batch costs as much
        as its longest text.
    window_rows: rows locked, embedded and committed at a time.

    It can be stopped at any time and run again, and run several times at once: rows another session is at work on are
    passed over. Raises UnknownName, ModelMismatch, ModelMissing, EmbedError; what was committed stays.
    """
    for name, rows in (("batch_rows", batch_rows), ("window_rows", window_rows)):
        if rows < 1:
            raise ValueError(f"{name} is at least 1, not {rows}")
    provider = provider or LocalModel()
    with connect(dsn) as connection:
        found = _tables.get_table(connection, table)
        _tables.pick_column(_tables.get_columns(connection, found), text, found)
        column = _vector_column(connection, found, vector, provider, create)
        register_type(TypeInfo("vector", column.type_oid, 0), connection)
        try:
            claim(connection, found, column, provider)
            filling = _Filling(connection, provider, text, vector, batch_rows, window_rows, on_progress)
            return filling.run(found)
        except psycopg.Error as error:
            raise EmbedError(
                f"column {vector!r} of table {found} was not filled to its end: {error.diag.message_primary or error}",
                error.diag.message_hint or "The batches before this one are committed; run it again to go on.",
            ) from error


def _vector_column(
    connection: psycopg.Connection[Any], table: Table, vector: str, provider: Provider, create: bool
) -> Column:
    columns = _tables.get_columns(connection, table)
    if vector not in columns:
        add = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}({})").format(
            table.identifier,
            sql.Identifier(vector),
            _tables.vector_type(connection),
            sql.Literal(provider.dimensions),
        )
        if not create:
            raise UnknownName(
                f"table {table} has no column {vector!r}", f"Give --create, or run: {add.as_string(connection)};"
            )
        connection.execute(add)
        columns = _tables.get_columns(connection, table)
    return _tables.pick_vector(columns, vector, table)


@dataclass
class _Filling:
    connection: psycopg.Connection[Any]
    provider: Provider
    text: str
    vector: str
    batch_rows: int
    window_rows: int
    on_progress: Callable[[EmbedProgress], None] | None

    def run(self, table: Table) -> int:
        (total,) = self._fetch("SELECT count(*) FROM {table} WHERE {missing}", table.identifier)[0]
        done = 0
        self._report(done, total)
        for leaf in self._leaves(table):
            # A row updated by somebody else meanwhile may have moved behind the pass: pass until nothing is left.
            while filled := self._pass(leaf, done, total):
                done += filled
        return done

    def _pass(self, leaf: sql.Identifier, before: int, total: int) -> int:
        """From the first page to the last, window by window; how many rows were filled."""
        filled = 0
        last = "(0,0)"
        while True:
            with self.connection.transaction():
                # Each window starts where the one before ended, not at the first page again.
                rows = self._fetch(
                    "SELECT ctid::text, {text}::text FROM ONLY {table} WHERE ctid > %s::tid AND {missing}"
                    " LIMIT %s FOR UPDATE SKIP LOCKED",
                    leaf,
                    [last, self.window_rows],
                )
                self._fill(leaf, rows)
            if not rows:
                return filled
            last = rows[-1][0]
            filled += len(rows)
            self._report(before + filled, total)

    def _fill(self, leaf: sql.Identifier, rows: list[tuple[str, str]]) -> None:
        rows = sorted(rows, key=lambda row: len(row[1]))
        update = sql.SQL("UPDATE ONLY {} SET {} = %b WHERE ctid = %s::tid").format(leaf, sql.Identifier(self.vector))
        with self.connection.cursor() as cursor:
            for start in range(0, len(rows), self.batch_rows):
                batch = rows[start : start + self.batch_rows]
                vectors = embed_checked(self.provider, [text for _, text in batch])
                cursor.executemany(update, [(v, ctid) for v, (ctid, _) in zip(vectors, batch, strict=True)])

    def _leaves(self, table: Table) -> list[sql.Identifier]:
        """The tables that hold the rows: ctid means nothing across partitions, or tables that inherit from this one."""
        rows = self.connection.execute(
            "WITH RECURSIVE tables AS (SELECT %s::oid AS oid UNION"
            " SELECT inhrelid FROM pg_inherits JOIN tables ON inhparent = tables.oid)"
            " SELECT nspname, relname FROM tables JOIN pg_class c USING (oid)"
            " JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind <> 'p' ORDER BY c.oid",
            [table.oid],
        ).fetchall()
        return [sql.Identifier(*row) for row in rows]

    def _fetch(self, query: str, table: sql.Identifier, values: list[Any] | None = None) -> list[Any]:
        vector, text = sql.Identifier(self.vector), sql.Identifier(self.text)
        missing = sql.SQL("{} IS NULL AND {} IS NOT NULL").format(vector, text)
        return self.connection.execute(
            sql.SQL(query).format(table=table, text=text, missing=missing), values
        ).fetchall()

    def _report(self, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(EmbedProgress(done, total))
