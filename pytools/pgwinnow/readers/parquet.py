"""Rows of a parquet file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import FileFormatError


class ParquetReader:
    """The file's own columns and types."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise FileFormatError(f"{path}: not a parquet file: {error}") from error
        repeated = [name for name, count in Counter(self._file.schema_arrow.names).items() if count > 1]
        if repeated:
            raise FileFormatError(f"{path}: it has several columns called {', '.join(repeated)}")
        self.rows: int | None = self._file.metadata.num_rows

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema in the file."""
        return self._file.schema_arrow

    def batches(self, columns: Sequence[str], json_columns: Collection[str], size: int) -> Iterator[pa.RecordBatch]:
        """Up to ``size`` rows of one row group at a time."""
        try:
            for batch in self._file.iter_batches(batch_size=size, columns=list(columns)):
                yield batch.select(columns)
        except (pa.ArrowException, OSError) as error:
            raise FileFormatError(f"{self.path}: {error}") from error
