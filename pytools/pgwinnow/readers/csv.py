"""Rows of a CSV file with a header line.

An unquoted empty cell is NULL and a quoted one is the empty string, as in PostgreSQL's own CSV format. Arrays and
vectors are written as JSON (``"[1,2]"``) or as PostgreSQL writes arrays (``"{a,b}"``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc_csv

from ..errors import FileFormatError
from ._infer import SAMPLE_ROWS, infer_text

_BLOCK_BYTES = 8 << 20  # a row must fit in a block


class CsvReader:
    """All columns come as text; what they become is decided by the table."""

    rows: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            if not file.read(1):
                raise FileFormatError(f"{path}: the file is empty", "Its first line names the columns.")
        self._names = self._open(None).schema.names
        repeated = {name for name in self._names if self._names.count(name) > 1}
        if repeated:
            raise FileFormatError(f"{path}: the header names {', '.join(sorted(repeated))} more than once")

    @cached_property
    def schema(self) -> pa.Schema:
        """Names from the header, types inferred from the first rows."""
        sample = []
        for batch in self.batches(self._names, (), SAMPLE_ROWS):
            sample.append(batch)
            if sum(map(len, sample)) >= SAMPLE_ROWS:
                break
        if not sample:
            return pa.schema([(name, pa.string()) for name in self._names])
        rows = pa.Table.from_batches(sample)
        return pa.schema([(name, infer_text(rows.column(name).combine_chunks(), numbers=True)) for name in self._names])

    def batches(self, columns: Sequence[str], json_columns: Collection[str], size: int) -> Iterator[pa.RecordBatch]:
        """Text columns, up to ``size`` rows at a time."""
        try:
            for batch in self._open(list(columns)):
                for start in range(0, len(batch), size):
                    yield batch.slice(start, size)
        except pa.ArrowException as error:
            raise FileFormatError(f"{self.path}: {error}") from error

    def _open(self, columns: list[str] | None) -> pc_csv.CSVStreamingReader:
        names = columns if columns is not None else []
        try:
            return pc_csv.open_csv(
                self.path,
                read_options=pc_csv.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=pc_csv.ParseOptions(newlines_in_values=True),
                convert_options=pc_csv.ConvertOptions(
                    column_types={name: pa.string() for name in names},
                    include_columns=names,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowException as error:
            raise FileFormatError(f"{self.path}: {error}") from error
