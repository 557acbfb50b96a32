"""The binary form of vectors, and how what is no vector must be refused."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import psycopg
from hypothesis import strategies as st

MAX_DIM = 16_000

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def packed(elements: Sequence[float]) -> bytes:
    """Binary form of a vector."""
    return struct.pack(f"!HH{len(elements)}f", len(elements), 0, *elements)


def is_legal_message(message: bytes) -> bool:
    """Whether a binary message is a vector."""
    if len(message) < 4:
        return False
    dim, unused = struct.unpack_from("!HH", message)
    if not 1 <= dim <= MAX_DIM or unused != 0 or len(message) != 4 + 4 * dim:
        return False
    return all(math.isfinite(element) for element in struct.unpack_from(f"!{dim}f", message, 4))


@st.composite
def damaged_messages(draw: st.DrawFn) -> bytes:
    """Return a legal message with some bytes changed, added or taken away; perhaps none."""
    message = bytearray(packed(draw(st.lists(floats, min_size=1, max_size=8))))
    for _ in range(draw(st.integers(0, 3))):
        message[draw(st.integers(0, len(message) - 1))] = draw(st.integers(0, 255))
    end = draw(st.one_of(st.just(len(message)), st.integers(0, len(message))))
    return bytes(message[:end]) + draw(st.one_of(st.just(b""), st.binary(max_size=5)))


def assert_refused_with_reason(error: psycopg.Error) -> None:
    """Data exception or program limit, with a message: never an internal error or a lost connection."""
    assert error.sqlstate is not None, f"connection lost: {error}"
    assert error.sqlstate[:2] in {"22", "54"}, f"{error.sqlstate}: {error}"
    assert error.diag.message_primary
