"""Vectors in a .npy file: an n x d array of float16, float32 or float64."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import FileFormatError

_DTYPES = ("float16", "float32", "float64")


class NpyReader:
    """One column of vectors, called ``column``; the array is mapped, not read."""

    def __init__(self, path: Path, column: str) -> None:
        self.path = path
        self.column = column
        try:
            # Not numpy.load, which takes what is no array for pickled objects, and advises to allow them.
            self._array = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError, EOFError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FileFormatError(f"{path}: {reason}", "Write it with numpy.save(path, array).") from error
        if self._array.dtype.name not in _DTYPES:
            raise FileFormatError(
                f"{path}: vectors of {self._array.dtype} cannot be loaded",
                f"They are {', '.join(_DTYPES)}; convert with array.astype(numpy.float32).",
            )
        if self._array.ndim != 2 or self._array.shape[1] == 0:
            raise FileFormatError(
                f"{path}: the array has the shape {self._array.shape}",
                "One row per vector is needed: (rows, dimensions).",
            )
        self.rows: int | None = self._array.shape[0]

    @cached_property
    def schema(self) -> pa.Schema:
        """The one column, a fixed-size list of the array's own float type."""
        value_type = pa.from_numpy_dtype(self._array.dtype.newbyteorder("="))
        return pa.schema([(self.column, pa.list_(value_type, self._array.shape[1]))])

    def batches(self, columns: Sequence[str], json_columns: Collection[str], size: int) -> Iterator[pa.RecordBatch]:
        """Blocks of ``size`` vectors."""
        for start in range(0, len(self._array), size):
            yield self.block(start, size)

    def block(self, start: int, size: int) -> pa.RecordBatch:
        """The vectors from row ``start`` (0 is the first), at most ``size``."""
        block = self._array[start : start + size]
        values = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("=")).reshape(-1)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), type=self.schema.field(0).type)
        return pa.record_batch([vectors], schema=self.schema)
