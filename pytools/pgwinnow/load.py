"""Files into a table: binary COPY, one transaction per file.

    load_files("dbname=shop", ["items.npy"], "items", create=True)

A file is loaded whole or not at all, and no whole file is ever in memory. Vectors come from a .npy file (float16,
float32 or float64) beside a .parquet, .csv or .jsonl file of attributes with the same stem, or from a column of lists
in that file.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from . import _tables
from ._connect import connect
from .errors import FileFormatError, LoadError, MissingExtra, UnknownName, ValueRefused

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ModuleNotFoundError as missing:
    raise MissingExtra("pyarrow", "io") from missing

from ._load import binary, ddl, ledger, values
from ._load.sources import Source, find_sources
from ._tables import Column, Table
from .readers import Reader

__all__ = ["LoadProgress", "LoadedFile", "load_files"]

T = TypeVar("T")

_BLOCK_BYTES = 8 << 20
_BLOCK_ROWS = (256, 8_192)  # fewest, most


@dataclass(frozen=True)
class LoadedFile:
    """A file whose rows are committed."""

    file: str
    rows: int
    seconds: float
    skipped: bool = False
    """Its rows were there already (``resume``), and it was passed over."""


@dataclass(frozen=True)
class LoadProgress:
    """Rows of ``file`` sent so far, not committed yet; ``total`` is None where the format does not tell."""

    file: str
    rows: int
    total: int | None


def load_files(
    dsn: str,
    files: Sequence[str | os.PathLike[str]],
    table: str,
    *,
    create: bool = False,
    vector: str = "embedding",
    columns: Sequence[str] | None = None,
    sql_types: Mapping[str, str] | None = None,
    vectors: str | os.PathLike[str] | None = None,
    attributes: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_progress: Callable[[LoadProgress], None] | None = None,
    on_loaded: Callable[[LoadedFile], None] | None = None,
) -> list[LoadedFile]:
    """Load ``files`` into ``table``, one transaction per file, in order.

    dsn: libpq connection string; "" takes libpq's environment.
    table: its name as in SQL, schema-qualified or not.
    create: create the table if there is none, with types inferred from the first file (for CSV and JSONL: from its
        first 10,000 rows) except where ``sql_types`` names one, and a counting ``id`` if the file has no column of that
        name.
    sql_types: types by column; if the table exists, its columns must have them.
    vector: the column that .npy vectors go to; of a new table, also the column of the file that holds vectors.
    columns: the columns of the files to load besides .npy vectors; all if None. Columns of the table that are not
        loaded get their default.
    vectors, attributes: the other half of a single file, where it has another stem.
    resume: pass over files whose contents were loaded with ``resume`` before (see ``pgwinnow._load.ledger``).
    on_loaded: called for each file once it is committed.

    Values are not rounded or cut to fit, except fractions of a microsecond, floats to float32 in vectors and real, and
    fractions by the server to the scale of a numeric column; fractions in JSONL are read as double precision.
    Timestamps in text without a zone are UTC, in whatever time zone the session is.

    Raises LoadError; files loaded before it stay loaded. Afterwards the table is analysed.
    """
    if isinstance(files, str | os.PathLike):
        raise TypeError(f"a list of files is needed, not one file: [{os.fspath(files)!r}]")
    if columns is not None:
        columns = _tables.names(columns)
    sources = find_sources(
        [Path(file) for file in files],
        None if vectors is None else Path(vectors),
        None if attributes is None else Path(attributes),
    )
    done = []
    with connect(dsn) as connection:
        for source in sources:
            job = _Job(connection, source, table, vector, columns, on_progress)
            loaded = job.run(create=create, sql_types=sql_types or {}, resume=resume)
            done.append(loaded)
            if on_loaded is not None:
                on_loaded(loaded)
        if any(not loaded.skipped for loaded in done):
            connection.execute(sql.SQL("ANALYZE {}").format(_tables.get_table(connection, table).identifier))
    return done


@dataclass
class _Job:
    """One source on its way into the table."""

    connection: psycopg.Connection[Any]
    source: Source
    table_name: str
    vector: str
    wanted: Sequence[str] | None
    on_progress: Callable[[LoadProgress], None] | None

    def run(self, *, create: bool, sql_types: Mapping[str, str], resume: bool) -> LoadedFile:
        start = time.monotonic()
        reader = self.source.open(self.vector, self.wanted)
        names = self._names(reader)
        contents = ledger.digest(self.source) if resume else ""
        try:
            found = _tables.find_table(self.connection, self.table_name)
            if found is None and not create:
                raise UnknownName(
                    f"there is no table {self.table_name} in this database", "Give --create to have it made."
                )
            if resume:
                self._make_ledger(found)
            with self.connection.transaction():
                if found is None:
                    self._make_table(reader, names, sql_types)
                table = _tables.get_table(self.connection, self.table_name)
                ddl.check_types(self.connection, table, sql_types)
                if resume and ledger.is_loaded(self.connection, table, self.source, contents):
                    return LoadedFile(str(self.source), 0, time.monotonic() - start, skipped=True)
                rows = self._copy(reader, table, self._targets(table, names))
                if resume:
                    ledger.record(self.connection, table, self.source, contents, rows)
        except psycopg.Error as error:
            where = f" ({error.diag.context.splitlines()[0]})" if error.diag.context else ""
            detail = f": {error.diag.message_detail}" if error.diag.message_detail else ""
            raise LoadError(
                f"{self.source} was not loaded: {error.diag.message_primary or error}{detail}{where}",
                error.diag.message_hint or "Nothing of this file is in the table.",
            ) from error
        return LoadedFile(str(self.source), rows, time.monotonic() - start)

    def _names(self, reader: Reader) -> list[str]:
        """The columns that are loaded, a .npy file's in any case; FileFormatError for one the file does not have."""
        available = reader.schema.names
        names = list(available if self.wanted is None else self.wanted)
        if self.source.vectors is not None and self.vector not in names:
            names.append(self.vector)
        if not names:
            raise LoadError(
                f"no column of {self.source} is to be loaded",
                "Name some with --columns, or leave it out for all of them.",
            )
        for name in names:
            if name not in available:
                raise FileFormatError(
                    f"{self.source} has no column {name!r}", f"Its columns are {', '.join(map(repr, available))}."
                )
        return names

    def _make_ledger(self, found: Table | None) -> None:
        schema = found.schema if found else ddl.schema_and_name(self.connection, self.table_name)[0]
        if schema is not None:  # else creating the table fails, and the server says why
            ledger.make(self.connection, schema)

    def _make_table(self, reader: Reader, names: Sequence[str], sql_types: Mapping[str, str]) -> None:
        """Create the table, unless another session that loads does so meanwhile."""
        ddl.reserve(self.connection, self.table_name)
        if _tables.find_table(self.connection, self.table_name) is None:
            self._check_vector(reader, names)
            ddl.create_table(self.connection, self.table_name, reader, names, self.vector, sql_types)

    def _check_vector(self, reader: Reader, names: Sequence[str]) -> None:
        """A new table is made for its vectors: FileFormatError if there are none under the name asked for."""
        if self.vector not in names:
            lists = [name for name in names if values.is_list(reader.schema.field(name).type)]
            raise FileFormatError(
                f"{self.source} has no column {self.vector!r} for the vectors of the new table",
                f"{ddl.VECTOR_HINT} Columns of lists: {', '.join(lists) or 'none'}.",
            )

    def _targets(self, table: Table, names: Sequence[str]) -> list[Column]:
        """The table's columns for ``names``; UnknownName for one it does not have."""
        known = _tables.get_columns(self.connection, table)
        for name in names:
            if name == self.vector and name not in known:
                vectors = [column.name for column in known.values() if column.is_vector]
                raise UnknownName(
                    f"table {table} has no column {name!r} for the vectors of {self.source}",
                    f"Name its column with --vector; vector columns: {', '.join(vectors) or 'none'}.",
                )
            if name not in known:
                others = ",".join(other for other in names if other in known)
                raise UnknownName(
                    f"{self.source} has a column {name!r}, table {table} does not (it has {', '.join(known)})",
                    f"Add it with ALTER TABLE, or leave it out with --columns {others or '...'}",
                )
        targets = [known[name] for name in names]
        for target in targets:
            values.encoding(target)  # refuses a type before anything is sent
        return targets

    def _copy(self, reader: Reader, table: Table, targets: list[Column]) -> int:
        """COPY all rows; how many they were."""
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            table.identifier, sql.SQL(", ").join(sql.Identifier(target.name) for target in targets)
        )
        done = 0
        self._report(done, reader)
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(binary.HEADER)
            for block, done in _made_ahead(self._blocks(reader, targets)):
                copy.write(block)
                self._report(done, reader)
            copy.write(binary.TRAILER)
        return done

    def _blocks(self, reader: Reader, targets: list[Column]) -> Iterator[tuple[memoryview, int]]:
        """The rows as COPY wants them, a block at a time, with the number of rows up to its end."""
        names = [target.name for target in targets]
        targets = list(targets)
        json_columns = [target.name for target in targets if target.type_name in ("json", "jsonb")]
        done = 0
        for batch in reader.batches(names, json_columns, _block_rows(targets)):
            pieces = []
            for at, column in enumerate(batch.columns):
                encoded, targets[at] = self._encode(column, targets[at], done)
                pieces.append(encoded)
            done += len(batch)
            yield binary.rows(pieces), done

    def _encode(self, array: pa.Array, target: Column, first: int) -> tuple[binary.Pieces, Column]:
        """The column's fields, and what the next rows of the file must fit.

        ValueRefused names the row, counted from 1 in the file, and the value.
        """
        try:
            frozen = _freeze(target, array)
            return values.encode(array, frozen), frozen
        except (ValueError, TypeError, NotImplementedError) as error:
            at, reason = values.first_refused(array, target)
            raise ValueRefused(
                f"{self.source}: row {first + at + 1}, column {target.name!r} ({target.formatted}): {reason}",
                "Nothing of this file is in the table. Rows are counted from 1.",
            ) from error

    def _report(self, rows: int, reader: Reader) -> None:
        if self.on_progress is not None:
            self.on_progress(LoadProgress(str(self.source), rows, reader.rows))


def _made_ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a thread while the one before it is used."""
    with ThreadPoolExecutor(1, "pgwinnow-load") as maker:
        made = maker.submit(next, items, None)
        while (item := made.result()) is not None:
            made = maker.submit(next, items, None)
            yield item


def _block_rows(targets: Sequence[Column]) -> int:
    """Rows that make a block of about ``_BLOCK_BYTES``, going by the vectors."""
    width = sum(4 * (target.dimensions or 1024) if target.is_vector else 32 for target in targets)
    least, most = _BLOCK_ROWS
    return max(least, min(most, _BLOCK_BYTES // width))


def _freeze(target: Column, array: pa.Array) -> Column:
    """A vector column of any dimensions takes those of the file's first vector, so that one file is not a mixture."""
    if not target.is_vector or target.dimensions is not None or array.null_count == len(array):
        return target
    first = values.as_lists(array.drop_null().slice(0, 1))
    return dataclasses.replace(target, modifier=int(pc.list_value_length(first)[0].as_py()))
