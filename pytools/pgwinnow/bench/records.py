"""What an earlier run wrote as JSON, taken apart with checks: people edit, merge and cut such files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

UNKNOWN = ("recall", "worst_decile")  # null where no query has a row that matches; then NaN
TIMES = {"milliseconds": ("mean", "p50", "p95", "p99"), "idle": ("p50", "p99"), "busy": ("p50", "p99")}

RecordT = TypeVar("RecordT")


def records(kind: type[RecordT], kept: Mapping[str, Any], part: str) -> list[RecordT]:
    """A part of the run, each as a dataclass of this kind; what the class derives itself is left out.

    Raises ValueError where something is missing or of another type.
    """
    return [record(kind, each, f"{part}[{place}]") for place, each in enumerate(listed(kept, part))]


def listed(kept: Mapping[str, Any], part: str) -> list[Any]:
    """The list of this name."""
    if not isinstance(kept.get(part), list):
        raise ValueError(f"it has no list {part!r}")
    return list(kept[part])


def record(kind: type[RecordT], kept: Any, where: str) -> RecordT:
    """One record."""
    values, hints = {}, get_type_hints(kind)
    for field in fields(kind):  # type: ignore[arg-type]  # all kinds are dataclasses
        if isinstance(kept, Mapping) and field.name in kept:
            values[field.name] = checked(hints[field.name], kept[field.name], field.name, where)
        elif field.default is MISSING:
            raise ValueError(f"{where} has no {field.name!r}")
    return kind(**values)


def checked(kind: Any, value: Any, name: str, where: str) -> Any:
    """A value, if it is of the type; numbers must be finite and not negative, as all that is measured is."""
    if value is None and name in UNKNOWN:
        return math.nan
    wanted = [get_origin(each) or each for each in (get_args(kind) if isinstance(kind, UnionType) else (kind,))]
    fits = isinstance(value, tuple((int, float) if each is float else each for each in wanted))
    if isinstance(value, bool) and bool not in wanted:
        fits = False
    if isinstance(value, (int, float)) and not 0 <= value < math.inf:
        fits = False
    if not fits:
        raise ValueError(f"{where}: {name!r} is {value!r}")
    if isinstance(value, Mapping):
        of = get_args(kind)[1]
        if missing := [each for each in TIMES.get(name, ()) if each not in value]:
            raise ValueError(f"{where}: {name!r} has no {missing[0]!r}")
        return {str(each): checked(of, item, str(each), f"{where}: {name!r}") for each, item in value.items()}
    return value
