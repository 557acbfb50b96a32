"""From what a file holds to what a column takes: Arrow types, PostgreSQL types, and the casts between them."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .._tables import Column
from ..errors import LoadError
from ..readers._infer import cut_fractions
from ..readers._json import bigint, decode, double
from . import binary
from .binary import Encoding, Pieces

_TEXT = pa.large_string()

_ENCODINGS = {
    "bool": Encoding(pa.bool_(), binary.fixed("u1")),
    "int2": Encoding(pa.int16(), binary.fixed(">i2")),
    "int4": Encoding(pa.int32(), binary.fixed(">i4")),
    "int8": Encoding(pa.int64(), binary.fixed(">i8")),
    "oid": Encoding(pa.uint32(), binary.fixed(">u4")),
    "float4": Encoding(pa.float32(), binary.fixed(">f4")),
    "float8": Encoding(pa.float64(), binary.fixed(">f8")),
    "numeric": Encoding(_TEXT, binary.numeric),
    "date": Encoding(pa.date32(), binary.fixed(">i4", binary.EPOCH_DAYS)),
    "time": Encoding(pa.time64("us"), binary.fixed(">i8")),
    "timestamp": Encoding(pa.timestamp("us"), binary.fixed(">i8", binary.EPOCH_MICROSECONDS)),
    "timestamptz": Encoding(pa.timestamp("us", "UTC"), binary.fixed(">i8", binary.EPOCH_MICROSECONDS)),
    "uuid": Encoding(pa.binary(16), binary.uuid),
    "bytea": Encoding(pa.large_binary(), binary.text),
    "text": Encoding(_TEXT, binary.text),
    "varchar": Encoding(_TEXT, binary.text),
    "bpchar": Encoding(_TEXT, binary.text),
    "name": Encoding(_TEXT, binary.text),
    "json": Encoding(_TEXT, binary.text),
    "jsonb": Encoding(_TEXT, binary.jsonb),
}


def encoding(column: Column) -> Encoding:
    """How values go into ``column``; LoadError for a type that is not known here."""
    if column.is_vector:
        return Encoding(None, binary.vector(column.dimensions))
    if column.type_schema == "pg_catalog" and column.type_name in _ENCODINGS:
        return _ENCODINGS[column.type_name]
    if column.type_kind == "e" or column.category == "S":  # an enum, or a type that is text to its receive function
        return _ENCODINGS["text"]
    if column.element is not None and not column.element.is_vector:
        element = encoding(column.element)
        assert element.arrow is not None
        return Encoding(pa.large_list(element.arrow), binary.array_of(element.encode, column.element.type_oid))
    raise LoadError(
        f"column {column.name!r} is of type {column.formatted}, which files cannot be loaded into",
        "Load that column as text into a staging table, and cast it there.",
    )


def sql_type(arrow: pa.DataType) -> str | None:
    """The PostgreSQL type for a new column; None where there is none. Vectors are not recognised here."""
    if pa.types.is_dictionary(arrow):
        return sql_type(arrow.value_type)
    if isinstance(arrow, pa.UuidType):
        return "uuid"
    if isinstance(arrow, pa.JsonType) or pa.types.is_struct(arrow) or pa.types.is_map(arrow):
        return "jsonb"
    if isinstance(arrow, pa.BaseExtensionType):
        return sql_type(arrow.storage_type)
    if pa.types.is_decimal(arrow):
        return f"numeric({arrow.precision},{arrow.scale})"
    if pa.types.is_timestamp(arrow):
        return "timestamptz" if arrow.tz else "timestamp"
    if is_list(arrow):
        element = sql_type(arrow.value_type)
        return None if element is None or element.endswith("[]") else f"{element}[]"
    return next((name for is_type, name in _SQL_TYPES if is_type(arrow)), None)


_SQL_TYPES = [
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_uint64, "numeric(20,0)"),
    (lambda arrow: arrow in (pa.int64(), pa.uint32()), "bigint"),
    (lambda arrow: arrow in (pa.int32(), pa.uint16()), "integer"),
    (pa.types.is_integer, "smallint"),
    (lambda arrow: arrow in (pa.float16(), pa.float32()), "real"),
    (pa.types.is_floating, "double precision"),
    (lambda arrow: _is_text(arrow) or pa.types.is_null(arrow), "text"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
    (lambda arrow: pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow), "bytea"),
]


def encode(array: pa.Array, column: Column) -> Pieces:
    """The pieces of ``column``'s fields for the values of ``array``.

    ValueError, TypeError or NotImplementedError (Arrow's errors are among these) where a value does not fit.
    """
    target = encoding(column)
    return target.encode(_cast(array, target.arrow, column))


def first_refused(array: pa.Array, column: Column) -> tuple[int, str]:
    """Of an array that ``encode`` refuses: position of the first value at fault, and what is wrong with it."""

    def reason(part: pa.Array) -> str | None:
        try:
            encode(part, column)
        except (ValueError, TypeError, NotImplementedError) as error:
            return str(error)
        return None

    at = bisect_left(range(1, len(array) + 1), True, key=lambda length: reason(array.slice(0, length)) is not None)
    # A value may be at fault only beside those before it: a vector of another length than the first.
    why = reason(array.slice(at, 1)) or reason(array.slice(0, at + 1))
    return at, why or "cannot be loaded"


def _is_text(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow))


def is_list(arrow: pa.DataType) -> bool:
    """Whether values of type ``arrow`` are lists."""
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow))


def _cast(array: pa.Array, target: pa.DataType | None, column: Column) -> pa.Array:
    """``array`` as type ``target``; text is read as that type is written, anything lossy is refused."""
    array = _unwrapped(array)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), target or pa.list_(pa.float32()))
    if column.type_name in ("json", "jsonb") and not _is_text(array.type):
        values = array.to_pylist()
        return pa.array([None if value is None else json.dumps(value, default=str) for value in values], _TEXT)
    if target is None:
        return as_lists(array)
    if column.element is not None and pa.types.is_large_list(target):
        return _cast_elements(as_lists(array, target.value_type), target, column.element)
    if _is_text(array.type):
        array = _parsable(array, target)
    if pa.types.is_timestamp(target) and pa.types.is_timestamp(array.type) and bool(array.type.tz) != bool(target.tz):
        with_, without = ("with", "without") if array.type.tz else ("without", "with")
        raise TypeError(f"a timestamp {with_} time zone, for a column {without}")
    # PostgreSQL keeps nothing below a microsecond; that alone may be cut off.
    cast = pc.cast(array, options=pc.CastOptions(target_type=target, allow_time_truncate=True))
    if pa.types.is_floating(target):
        _check_range(array, cast, column.formatted)
    return cast


def _check_range(given: pa.Array, cast: pa.Array, type_name: str) -> None:
    """ValueError where a finite number became infinite, or one other than 0 became 0: COPY from text refuses both."""
    suspect = pc.or_(pc.is_inf(cast), pc.equal(cast, 0.0))
    given, cast = given.filter(suspect), cast.filter(suspect)
    if _is_text(given.type):
        meant = pc.if_else(
            pc.is_inf(cast),
            pc.match_substring_regex(given, "(?i)inf"),
            pc.match_substring_regex(given, "^[^eE1-9]*([eE]|$)"),
        )
    else:
        meant = pc.equal(pc.cast(given, pa.float64()), pc.cast(cast, pa.float64()))
    lost = given.filter(pc.invert(meant))
    if len(lost):
        raise ValueError(f"{lost[0].as_py()} is out of range for type {type_name}")


def _unwrapped(array: pa.Array) -> pa.Array:
    """``array`` without what Arrow wraps values in: extension types and dictionaries."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def as_lists(array: pa.Array, element: pa.DataType | None = None) -> pa.Array:
    """``array`` as lists; text is parsed, with the numbers in it as ``element`` or, without it, a vector needs them."""
    array = _unwrapped(array)
    if _is_text(array.type):
        try:
            return pa.array([None if value is None else _parse_list(value, element) for value in array.to_pylist()])
        except OverflowError as error:
            raise ValueError(str(error)) from error
    if not is_list(array.type):
        raise TypeError(f"a value of type {array.type}, not a list")
    return array


def _cast_elements(array: pa.Array, target: pa.DataType, element: Column) -> pa.Array:
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), target)
    lengths = pc.list_value_length(pc.cast(array, pa.large_list(array.type.value_type))).fill_null(0)
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))])
    elements = _cast(array.flatten(), target.value_type, element)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), elements, mask=array.is_null())


# Numbers in lists: of a vector, which is checked for infinity later; of double precision; as they are written (for text
# and numeric); whole.
_VECTOR = json.JSONDecoder(parse_int=float)
_ROUNDED = json.JSONDecoder(parse_int=double, parse_float=double)
_WRITTEN = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_WHOLE = json.JSONDecoder(parse_int=bigint, parse_float=double)


def _decoder(element: pa.DataType | None) -> json.JSONDecoder:
    if element is None:
        return _VECTOR
    return _ROUNDED if pa.types.is_floating(element) else _WRITTEN if _is_text(element) else _WHOLE


def _parse_list(text: str, element: pa.DataType | None) -> list[Any]:
    """A list written as JSON, ``[1,2]``, or as a one-dimensional array of PostgreSQL, ``{a,"b c",NULL}``."""
    text = text.strip()
    if text.startswith("["):
        values = decode(_decoder(element), text)
        assert isinstance(values, list)
        return values
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueError(f"{text[:40]!r} is not a list; write [1,2] or {{1,2}}")
    elements = _array_elements(text)
    if element is not None and not pa.types.is_floating(element):
        return elements
    return [None if value is None else _number(value) for value in elements]


def _number(text: str) -> float:
    try:
        if "_" not in text:  # Python's digits may be grouped, PostgreSQL's not
            return double(text)
    except ValueError:
        pass
    raise ValueError(f"{text[:40]!r} is not a number")


_ELEMENT = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,{}"\\\s][^,{}"\\]*))\s*(,|$)')


def _array_elements(text: str) -> list[str | None]:
    inner = text[1:-1]
    elements: list[str | None] = []
    position, more = 0, bool(inner.strip())
    while more:
        match = _ELEMENT.match(inner, position)
        if match is None:
            raise ValueError(f"{text[:40]!r} is not a one-dimensional array")
        quoted, plain, separator = match.groups()
        if plain is not None:
            plain = plain.strip()
            elements.append(None if plain.upper() == "NULL" else plain)
        else:
            elements.append(re.sub(r"\\(.)", r"\1", quoted))
        position, more = match.end(), separator == ","
    return elements


def _parsable(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Text as Arrow's casts to ``target`` read it, where PostgreSQL's own way of writing differs."""
    if pa.types.is_boolean(target):
        return pc.replace_substring_regex(pc.replace_substring_regex(array, "^t$", "true"), "^f$", "false")
    if pa.types.is_timestamp(target):
        return _with_zone(cut_fractions(array)) if target.tz else cut_fractions(array)
    if pa.types.is_time(target):
        texts = cut_fractions(array.cast(pa.string()))
        return pc.cast(pc.binary_join_element_wise("1970-01-01", texts, " "), pa.timestamp("us"))
    if pa.types.is_fixed_size_binary(target):
        return pa.array([None if value is None else _uuid(value) for value in array.to_pylist()], target)
    if pa.types.is_large_binary(target):
        return pa.array([None if value is None else _bytes(value) for value in array.to_pylist()], target)
    return array


def _with_zone(array: pa.Array) -> pa.Array:
    """Dates and timestamps with their zone; where none is written, UTC is meant."""
    has_time = pc.match_substring(array, ":")
    has_zone = pc.match_substring_regex(array, r":\d\d(\.\d+)?(Z|[-+]\d\d(:?\d\d)?)$")
    missing = pc.if_else(has_zone, "", pc.if_else(has_time, "Z", " 00:00:00Z"))
    return pc.binary_join_element_wise(array, missing.cast(array.type), "")


def _uuid(value: str) -> bytes:
    try:
        return UUID(value).bytes
    except ValueError:
        raise ValueError(f"{value[:40]!r} is not a uuid") from None


def _bytes(value: str) -> bytes:
    if not value.startswith("\\x"):
        raise ValueError(f"{value[:40]!r} is not bytes in hexadecimal, as \\xdeadbeef")
    return bytes.fromhex(value[2:])
