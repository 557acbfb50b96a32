"""Which files belong together: vectors in a .npy file beside a file of attributes, or all in one file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..errors import FileFormatError
from ..readers import ATTRIBUTE_SUFFIXES, NpyReader, Reader, open_attributes


@dataclass(frozen=True)
class Source:
    """What is loaded in one transaction: at least one of the two files."""

    vectors: Path | None
    attributes: Path | None

    @property
    def files(self) -> list[Path]:
        """The files, vectors first."""
        return [path for path in (self.vectors, self.attributes) if path is not None]

    def __str__(self) -> str:
        return " + ".join(map(str, self.files))

    def open(self, vector_column: str, wanted: Sequence[str] | None = None) -> Reader:
        """A reader over the file or the pair; a .npy file's vectors are called ``vector_column``.

        Of the attributes only ``wanted`` will be asked for, if given.
        """
        if self.vectors is None:
            assert self.attributes is not None
            return open_attributes(self.attributes, wanted)
        vectors = NpyReader(self.vectors, vector_column)
        if self.attributes is None:
            return vectors
        return PairReader(vectors, open_attributes(self.attributes, wanted), wanted)


def find_sources(files: Sequence[Path], vectors: Path | None = None, attributes: Path | None = None) -> list[Source]:
    """The sources ``files`` name, in order, each once.

    ``a.npy`` and ``a.parquet`` (or .csv, .jsonl) in one folder are a pair, whichever of them is named. ``vectors`` or
    ``attributes`` name the other half of a single file instead.
    """
    for file in (*files, vectors, attributes):
        if file is not None and not file.is_file():
            raise FileFormatError(f"there is no file {file}")
    if vectors or attributes:
        if len(files) != 1 or (vectors and attributes):
            raise FileFormatError(
                "--vectors and --attributes name the other half of one file",
                "Give one FILE with one of them, or name pairs alike: a.npy beside a.parquet.",
            )
        file = files[0]
        is_npy = file.suffix.lower() == ".npy"
        if is_npy == (vectors is not None):
            raise FileFormatError(f"{file} is {'vectors' if is_npy else 'attributes'} itself", "Name the other half.")
        return [Source(file, attributes) if is_npy else Source(vectors, file)]
    return list(dict.fromkeys(_source(file) for file in files))


def _source(file: Path) -> Source:
    if file.suffix.lower() != ".npy":
        beside = file.with_suffix(".npy")
        return Source(beside if beside.exists() else None, file)
    beside_it = [path for suffix in ATTRIBUTE_SUFFIXES if (path := file.with_suffix(suffix)).exists()]
    if len(beside_it) > 1:
        raise FileFormatError(
            f"{file} has several files of attributes beside it: {', '.join(map(str, beside_it))}",
            f"Say which: {file} --attributes {beside_it[0]}",
        )
    return Source(file, beside_it[0] if beside_it else None)


class PairReader:
    """A .npy file and a file of attributes, read in step: row i of one belongs to row i of the other."""

    def __init__(self, vectors: NpyReader, attributes: Reader, wanted: Sequence[str] | None = None) -> None:
        self.path = vectors.path
        self.rows = vectors.rows
        self._vectors = vectors
        self._attributes = attributes
        clash = vectors.column in attributes.schema.names
        if clash and (wanted is None or vectors.column in wanted):
            raise FileFormatError(
                f"{attributes.path} has a column {vectors.column!r}, and {vectors.path} has vectors for it as well",
                "Load the vectors into another column (--vector), or name the columns to load besides (--columns).",
            )
        if attributes.rows is not None and attributes.rows != vectors.rows:
            raise self._mismatch(str(attributes.rows))

    @property
    def schema(self) -> pa.Schema:
        """The columns of the attributes, then the vectors; these instead of a column that has their name."""
        others = [field for field in self._attributes.schema if field.name != self._vectors.column]
        return pa.schema([*others, *self._vectors.schema])

    def batches(self, columns: Sequence[str], json_columns: Collection[str], size: int) -> Iterator[pa.RecordBatch]:
        """Rows of both; FileFormatError at the end of the shorter file."""
        if list(columns) == [self._vectors.column]:
            yield from self._vectors.batches(columns, json_columns, size)
            return
        attribute_columns = [name for name in columns if name != self._vectors.column]
        total = self._vectors.rows or 0
        done = 0
        for batch in self._attributes.batches(attribute_columns, json_columns, size):
            if done + len(batch) > total:
                raise self._mismatch(f"more than {total}")
            block = self._vectors.block(done, len(batch))
            merged = {**dict(zip(attribute_columns, batch.columns, strict=True)), self._vectors.column: block.column(0)}
            yield pa.record_batch([merged[name] for name in columns], names=list(columns))
            done += len(batch)
        if done != total:
            raise self._mismatch(str(done))

    def _mismatch(self, attribute_rows: str) -> FileFormatError:
        return FileFormatError(
            f"{self._vectors.path} has {self._vectors.rows} vectors, {self._attributes.path} {attribute_rows} rows",
            "Row i of one belongs to row i of the other: both need the same number of rows.",
        )
