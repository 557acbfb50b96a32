"""Files as streams of Arrow record batches, one module per format.

A reader never holds a whole file: .npy files are mapped, parquet is read by row group, CSV and JSONL are streamed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

try:
    import pyarrow as pa
except ModuleNotFoundError as missing:
    from ..errors import MissingExtra

    raise MissingExtra("pyarrow", "io") from missing

from ..errors import FileFormatError
from .csv import CsvReader
from .jsonl import JsonlReader
from .npy import NpyReader
from .parquet import ParquetReader

__all__ = ["ATTRIBUTE_SUFFIXES", "CsvReader", "JsonlReader", "NpyReader", "ParquetReader", "Reader", "open_attributes"]


class Reader(Protocol):
    """A file, or several read in step, as rows of named columns."""

    path: Path
    rows: int | None
    """Rows in all, where the file says so beforehand."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns; inferred from the first rows where the format has no types."""

    def batches(self, columns: Sequence[str], json_columns: Collection[str], size: int) -> Iterator[pa.RecordBatch]:
        """The rows of ``columns`` in order, ``size`` at a time (or fewer).

        ``json_columns`` go to json or jsonb: a format whose values are JSON gives these as JSON text. FileFormatError
        where the file cannot be read on.
        """


_READERS: dict[str, type[ParquetReader] | type[CsvReader] | type[JsonlReader]] = {
    ".parquet": ParquetReader,
    ".csv": CsvReader,
    ".jsonl": JsonlReader,
    ".ndjson": JsonlReader,
}

ATTRIBUTE_SUFFIXES = tuple(_READERS)


def open_attributes(path: Path, wanted: Sequence[str] | None = None) -> Reader:
    """The reader for a file of attributes, by its suffix; FileFormatError for any other suffix.

    Only the columns ``wanted`` will be asked for, if given.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise FileFormatError(
            f"{path}: files ending in {path.suffix or 'nothing'} cannot be loaded",
            f"Attributes come from {', '.join(ATTRIBUTE_SUFFIXES)}; vectors also from .npy.",
        )
    try:
        return JsonlReader(path, wanted) if reader is JsonlReader else reader(path)
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror or error}") from error
