"""Rows of a JSONL file: one JSON object per line, a missing key is NULL."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import FileFormatError, ValueRefused
from ._infer import SAMPLE_ROWS, infer_text
from ._json import decode, double

_JSON = json.JSONDecoder()
_CHECKED = json.JSONDecoder(parse_float=double)  # takes a third more time
_SURROGATES = r"\uD800 to \uDFFF are characters only in pairs."
_UNSUITED = (pa.ArrowException, OverflowError, UnicodeEncodeError)
"""What Arrow raises where values have no common type, or none that has room for them."""


class JsonlReader:
    """Keys are columns. Each line is parsed on its own, so that what is wrong with one can be told.

    A key that comes after the first lines is passed over if ``wanted`` says which columns are asked for.
    """

    rows: int | None = None

    def __init__(self, path: Path, wanted: Sequence[str] | None = None) -> None:
        self.path = path
        self._wanted = wanted
        self._infinity_is_written = False

    @cached_property
    def schema(self) -> pa.Schema:
        """Keys and types of the first rows; objects, and values of several types, are JSON."""
        sample = [row for _, row in islice(self._lines(), SAMPLE_ROWS)]
        names = dict.fromkeys(name for row in sample for name in row)
        if not names:
            raise FileFormatError(
                f"{self.path}: no line names a column", 'A row is {"id": 1, "embedding": [0.1, 0.2]}.'
            )
        for name in names:
            if not _is_array([name]):
                raise FileFormatError(f"{self.path}: the key {name!r} has half of a surrogate pair", _SURROGATES)
        return pa.schema([(name, _infer([row.get(name) for row in sample])) for name in names])

    def batches(self, columns: Sequence[str], json_columns: Collection[str], size: int) -> Iterator[pa.RecordBatch]:
        """Up to ``size`` lines at a time, each column of the type its values have there."""
        known = set(self.schema.names)
        lines = self._lines()
        first = 1
        while block := list(islice(lines, size)):
            for number, row in block:
                if self._wanted is None and not known.issuperset(row):
                    key = next(key for key in row if key not in known)
                    raise FileFormatError(
                        f"{self.path}: line {number} has the key {key!r}, which the first {SAMPLE_ROWS:,} lines do not",
                        "Put a line that has every key among the first ones, or name the columns to load (--columns).",
                    )
            arrays = []
            for name in columns:
                values = [row.get(name) for _, row in block]
                if name in json_columns:
                    values = [None if value is None else json.dumps(value) for value in values]
                arrays.append(self._array(name, values, first))
            yield pa.record_batch(arrays, names=list(columns))
            first += len(block)

    def _lines(self, decoder: json.JSONDecoder = _JSON) -> Iterator[tuple[int, dict[str, Any]]]:
        """Line numbers and objects; blank lines are passed over."""
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if line.isspace():
                        continue
                    yield number, self._parse(number, line, decoder)
        except OSError as error:
            raise FileFormatError(f"{self.path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{self.path}: not UTF-8: {error}", "Convert it to UTF-8 first.") from error

    def _parse(self, number: int, line: str, decoder: json.JSONDecoder) -> dict[str, Any]:
        try:
            row = decode(decoder, line)
        except OverflowError as error:
            raise ValueRefused(
                f"{self.path}: line {number}: {error}", "Write it as a string, for a column of type numeric."
            ) from error
        except ValueError as error:
            raise FileFormatError(f"{self.path}: line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise FileFormatError(
                f"{self.path}: line {number} is not a JSON object but {line.strip()[:40]}",
                'Each line is one row: {"id": 1, "embedding": [0.1, 0.2]}.',
            )
        return row

    def _array(self, name: str, values: list[Any], first: int) -> pa.Array:
        """``values`` as an Arrow array; ValueRefused where they have no common type. ``first`` is their first row."""
        try:
            array = pa.array(values)
        except _UNSUITED as error:
            if _are_numbers(values):  # too long for Arrow; the column knows how to read them
                return pa.array([None if value is None else json.dumps(value) for value in values])
            bad = bisect_left(range(1, len(values) + 1), True, key=lambda length: not _is_array(values[:length]))
            if isinstance(error, UnicodeEncodeError):
                raise ValueRefused(
                    f"{self.path}: row {first + bad}, column {name!r}: {values[bad]!r} has half of a surrogate pair",
                    _SURROGATES,
                ) from error
            raise ValueRefused(
                f"{self.path}: row {first + bad}, column {name!r}: {values[bad]!r} is of another type than the values"
                " before it",
                "Values of one key have one type in all lines (or null); json and jsonb columns take any.",
            ) from error
        self._check_infinity(array)
        return array

    def _check_infinity(self, array: pa.Array) -> None:
        """ValueRefused if the file has a number that was read as infinity, instead of the word Infinity."""
        numbers = array.flatten() if pa.types.is_list(array.type) else array
        if self._infinity_is_written or not pa.types.is_floating(numbers.type):
            return
        if pc.any(pc.is_inf(numbers)).as_py():
            for _ in self._lines(_CHECKED):
                pass
            self._infinity_is_written = True


def _infer(values: list[Any]) -> pa.DataType:
    try:
        array = pa.array(values)
    except UnicodeEncodeError:
        return pa.string()  # to be refused with its row
    except _UNSUITED:
        return pa.json_()
    if pa.types.is_struct(array.type):
        return pa.json_()
    return infer_text(array, numbers=False) if pa.types.is_string(array.type) else array.type


def _is_array(values: list[Any]) -> bool:
    try:
        pa.array(values)
    except _UNSUITED:
        return False
    return True


def _are_numbers(values: list[Any]) -> bool:
    """Whether ``values`` are numbers, or lists of numbers, or None."""
    present = [value for value in values if value is not None]
    if all(type(value) is list for value in present):
        present = [item for value in present for item in value]
    return all(type(value) in (int, float) for value in present)
