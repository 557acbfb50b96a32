"""JSON decoded, and numbers for ``json.JSONDecoder`` that are refused where they would become infinity or 0."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_NOT_ZERO = re.compile("[^eE]*[1-9]")


def double(text: str) -> float:
    """The number ``text``; ValueError where it is none, OverflowError where double precision does not reach it."""
    value = float(text)
    if (math.isinf(value) and "inf" not in text.lower()) or (value == 0 and _NOT_ZERO.match(text)):
        raise OverflowError(f"{_short(text)} is out of range for type double precision")
    return value


def bigint(text: str) -> int:
    """The whole number ``text``; OverflowError beyond 64 bits."""
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise OverflowError(f"{_short(text)} is out of range for type bigint")
    return value


def decode(decoder: json.JSONDecoder, text: str) -> Any:
    """What ``text`` says; ValueError where it is not JSON, or nested deeper than Python can follow."""
    try:
        return decoder.decode(text)
    except RecursionError:
        raise ValueError(f"{_short(text.strip())} is nested too deep") from None


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
