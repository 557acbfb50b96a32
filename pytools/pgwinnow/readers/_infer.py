"""Types of columns that come as text."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from ._json import decode

SAMPLE_ROWS = 10_000
"""Rows read to infer types from; later rows that do not fit are refused."""

_INTEGER = r"^-?(0|[1-9]\d{0,18})$"  # 007 is an identifier, not a number
_LONG_INTEGER = r"^-?[1-9]\d{15,}$"  # double precision would round it
_REAL = r"^-?(0|[1-9]\d*)?(\.\d+)?([eE][-+]?\d+)?$|^-?\d+\.$"
_DATE = r"^\d{4}-\d\d-\d\d$"
_TIME_OF_DAY = r"\d\d:\d\d(:\d\d(\.\d{1,9})?)?"
_TIMESTAMP = rf"^\d{{4}}-\d\d-\d\d[ T]{_TIME_OF_DAY}$"
_TIMESTAMP_ZONE = rf"^\d{{4}}-\d\d-\d\d[ T]{_TIME_OF_DAY}(Z|[-+]\d\d(:?\d\d)?)$"
_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

_NUMBERS = [
    (r"(?i)^(true|false)$", pa.bool_()),
    (_INTEGER, pa.int64()),
    (_REAL, pa.float64()),
]
_OTHERS = [
    (_DATE, pa.date32()),
    (_TIMESTAMP, pa.timestamp("us")),
    (_TIMESTAMP_ZONE, pa.timestamp("us", "UTC")),
    (_UUID, pa.uuid()),
]


def infer_text(values: pa.Array, *, numbers: bool) -> pa.DataType:
    """The narrowest type all of ``values`` (strings) are written in: a date, a timestamp, a uuid, or else text.

    With ``numbers`` (in CSV, where all is text) also bool, bigint, double precision, and arrays written as JSON; but
    text where double precision would round a whole number.
    """
    present = values.drop_null()
    if len(present) == 0:
        return pa.string()
    if numbers and pc.any(pc.match_substring_regex(present, _LONG_INTEGER)).as_py() and not _casts(present, pa.int64()):
        return pa.string()
    for pattern, arrow_type in (_NUMBERS if numbers else []) + _OTHERS:
        if pc.all(pc.match_substring_regex(present, pattern)).as_py() and _casts(present, arrow_type):
            return arrow_type
    if numbers and pc.all(pc.match_substring_regex(present, r"^\s*\[")).as_py():
        return _json_list(present.to_pylist())
    return pa.string()


def cut_fractions(texts: pa.Array) -> pa.Array:
    """Times of day and timestamps without what is below a microsecond, which Arrow's casts refuse."""
    return pc.replace_substring_regex(texts, r"(:\d\d\.\d{6})\d+", r"\1")


def _casts(values: pa.Array, arrow_type: pa.DataType) -> bool:
    """Whether text of the right form is also in range: 2024-02-31 is not a date."""
    if isinstance(arrow_type, pa.UuidType):
        return True
    try:
        pc.cast(cut_fractions(values) if pa.types.is_timestamp(arrow_type) else values, arrow_type)
    except pa.ArrowInvalid:
        return False
    return True


_JSON = json.JSONDecoder()


def _json_list(texts: list[str]) -> pa.DataType:
    try:
        inferred = pa.array([decode(_JSON, text) for text in texts]).type
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return pa.string()
    return inferred if pa.types.is_list(inferred) else pa.string()
