"""WHERE clauses as small trees that PostgreSQL and numpy both evaluate, with SQL's three-valued logic.

``to_sql`` renders a filter with numbered parameters; ``evaluate`` answers the same filter over the columns in memory,
independently of any server. Filters are frozen and hashable, and their ``repr`` names them in caches.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]
Scalar = str | int | float | bool | datetime.date | datetime.datetime


@dataclass(frozen=True)
class Outcome:
    """For each row whether a filter is true and whether it is false; neither means NULL."""

    true: Mask
    false: Mask


class Columns:
    """Attribute columns in the forms that filters are evaluated on; conversions are made once."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.rows = len(table)
        self._arrays: dict[str, Values] = {}

    def __getitem__(self, name: str) -> Values:
        if name not in self._arrays:
            self._arrays[name] = Values(self.table[name].combine_chunks())
        return self._arrays[name]

    def take(self, rows: npt.NDArray[np.int64]) -> Columns:
        """Only the given rows, in that order."""
        return Columns(self.table.take(pa.array(rows)))


class Values:
    """One column: comparable numpy values, its NULLs, and for sets the flattened elements."""

    def __init__(self, array: pa.Array) -> None:
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
        self.array = array
        self.null: Mask = np.asarray(array.is_null())

    @cached_property
    def _dictionary(self) -> pa.DictionaryArray:
        elements = self.array.flatten() if self.is_set else self.array
        return elements.dictionary_encode()

    @property
    def is_set(self) -> bool:
        """Whether the values are lists."""
        return bool(pa.types.is_list(self.array.type) or pa.types.is_large_list(self.array.type))

    @cached_property
    def comparable(self) -> npt.NDArray[Any]:
        """Values that compare with ``<``; rows that are NULL hold anything."""
        kind = self.array.type
        if pa.types.is_date(kind):
            return np.asarray(self.array.cast(pa.int32()).fill_null(0))
        if pa.types.is_timestamp(kind):
            return np.asarray(self.array.cast(pa.int64()).fill_null(0))
        return np.asarray(self.array.fill_null(0))

    def bound(self, value: Scalar) -> Any:
        """A constant in the units of ``comparable``."""
        scalar = pa.scalar(value, type=self.array.type)
        kind = self.array.type
        if pa.types.is_date(kind):
            return scalar.cast(pa.int32()).as_py()
        if pa.types.is_timestamp(kind):
            return scalar.cast(pa.int64()).as_py()
        return value

    def below(self, value: Scalar) -> Mask:
        """Rows less than a value. As in PostgreSQL, NaN equals itself and is greater than all other numbers."""
        bound = self.bound(value)
        return np.asarray(~np.isnan(self.comparable) if is_nan(bound) else self.comparable < bound)

    def up_to(self, value: Scalar) -> Mask:
        """Rows less than a value or equal to it, likewise."""
        bound = self.bound(value)
        return np.ones(len(self.null), dtype=np.bool_) if is_nan(bound) else np.asarray(self.comparable <= bound)

    def among(self, values: tuple[Scalar, ...]) -> Mask:
        """Rows (or, for a set, elements) equal to one of the values; False where NULL."""
        if pa.types.is_floating(self.array.type):  # Arrow takes 0 and -0 for different keys
            found = [self.up_to(value) & ~self.below(value) for value in values]
            return np.asarray(np.logical_or.reduce([self.null, *found]) & ~self.null)
        encoded = self._dictionary
        wanted = pc.is_in(encoded.dictionary, value_set=pa.array(values, type=encoded.dictionary.type))
        codes = np.asarray(encoded.indices.fill_null(len(wanted)))
        return np.asarray(np.append(np.asarray(wanted), False)[codes], dtype=np.bool_)

    def rows_with(self, elements: Mask) -> Mask:
        """For a set column, the rows that hold at least one of the flagged elements."""
        lengths = np.asarray(pc.list_value_length(self.array).fill_null(0))
        ends = np.cumsum(lengths)
        counts = np.concatenate([[0], np.cumsum(elements)])
        return np.asarray(counts[ends] > counts[ends - lengths])


@dataclass(frozen=True)
class Compare:
    """``column operator value`` for one of ``=``, ``<>``, ``<``, ``<=``, ``>``, ``>=``."""

    column: str
    operator: str
    value: Scalar


@dataclass(frozen=True)
class Between:
    """``column BETWEEN low AND high``, both ends included."""

    column: str
    low: Scalar
    high: Scalar


@dataclass(frozen=True)
class AnyOf:
    """``column IN (...)``, written as ``= ANY`` so that its values are one parameter."""

    column: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Overlaps:
    """``set && values``: the set and the values share an element."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Contains:
    """``set @> values``: the set holds every one of the values."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class IsNull:
    """``column IS NULL``."""

    column: str


@dataclass(frozen=True)
class And:
    """Every part holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """At least one part holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part is false (a part that is NULL stays NULL)."""

    part: Filter


Filter: TypeAlias = Compare | Between | AnyOf | Overlaps | Contains | IsNull | And | Or | Not


def is_nan(value: Any) -> bool:
    """Whether a constant is not a number."""
    return isinstance(value, float) and math.isnan(value)


def identifier(name: str) -> str:
    """A column's or index's name as SQL, whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def to_sql(wanted: Filter, parameters: list[str]) -> str:
    """Render the condition, appending its values to ``parameters`` in text form; $1 is the query vector."""
    match wanted:
        case Compare(column, operator, value):
            return f"{identifier(column)} {operator} {bind(parameters, value)}"
        case Between(column, low, high):
            return f"{identifier(column)} BETWEEN {bind(parameters, low)} AND {bind(parameters, high)}"
        case AnyOf(column, values):
            return f"{identifier(column)} = ANY ({bind(parameters, values)})"
        case Overlaps(column, values):
            return f"{identifier(column)} && {bind(parameters, values)}"
        case Contains(column, values):
            return f"{identifier(column)} @> {bind(parameters, values)}"
        case IsNull(column):
            return f"{identifier(column)} IS NULL"
        case And(parts):
            return " AND ".join(nested(part, parameters) for part in parts)
        case Or(parts):
            return " OR ".join(nested(part, parameters) for part in parts)
        case Not(part):
            return f"NOT ({to_sql(part, parameters)})"


def evaluate(wanted: Filter, columns: Columns) -> Outcome:
    """Answer the condition for every row."""
    match wanted:
        case And(parts) | Or(parts):
            found = [evaluate(part, columns) for part in parts]
            all_of, any_of = np.logical_and.reduce, np.logical_or.reduce
            of_true, of_false = (all_of, any_of) if isinstance(wanted, And) else (any_of, all_of)
            return Outcome(
                np.asarray(of_true([each.true for each in found])), np.asarray(of_false([each.false for each in found]))
            )
        case Not(part):
            inner = evaluate(part, columns)
            return Outcome(inner.false, inner.true)
        case IsNull(column):
            null = columns[column].null
            return Outcome(null, ~null)
        case _:
            values = columns[wanted.column]
            holds = known_rows(wanted, values)
            return Outcome(holds & ~values.null, ~holds & ~values.null)


def known_rows(wanted: Compare | Between | AnyOf | Overlaps | Contains, values: Values) -> Mask:
    """Rows of one column that satisfy the condition, as far as they are not NULL."""
    match wanted:
        case Compare(_, "=", value):
            return values.among((value,))
        case Compare(_, "<>", value):
            return ~values.among((value,))
        case Compare(_, "<" | ">=" as operator, value):
            below = values.below(value)
            return below if operator == "<" else ~below
        case Compare(_, operator, value):
            up_to = values.up_to(value)
            return up_to if operator == "<=" else ~up_to
        case Between(_, low, high):
            return ~values.below(low) & values.up_to(high)
        case AnyOf(_, listed):
            return values.among(listed)
        case Overlaps(_, listed):
            return values.rows_with(values.among(listed))
        case Contains(_, listed):
            parts = [values.rows_with(values.among((each,))) for each in listed]
            return np.asarray(np.logical_and.reduce([np.ones(len(values.null), dtype=np.bool_), *parts]))


def nested(part: Filter, parameters: list[str]) -> str:
    """A part's SQL, in parentheses where precedence asks for them."""
    text = to_sql(part, parameters)
    return f"({text})" if isinstance(part, And | Or) else text


def bind(parameters: list[str], value: Scalar | tuple[Scalar, ...]) -> str:
    """Append a value and return its placeholder; the first parameter of the statement is the query vector."""
    parameters.append(array_text(value) if isinstance(value, tuple) else scalar_text(value))
    return f"${len(parameters) + 1}"


def scalar_text(value: Scalar) -> str:
    """A value in PostgreSQL's text input format."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return str(value)


def array_text(values: Iterable[Scalar | None]) -> str:
    """An array in PostgreSQL's text input format, every element quoted but NULL."""
    return "{" + ",".join("NULL" if value is None else quoted(scalar_text(value)) for value in values) + "}"


def quoted(text: str) -> str:
    """An array element in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
