"""Whatever is sent as a vector is either stored as sent or refused with a reason; the server stays up.

A model written in Python decides what must happen to each text and each binary message, and to which bytes an accepted
text leads. The C library's strtof() is the reference for the conversion of numbers.
"""

from __future__ import annotations

import ctypes
import locale
import math
import re
import struct
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.examples import fuzz
from fuzz.vectors import (
    MAX_DIM,
    assert_refused_with_reason,
    damaged_messages,
    floats,
    is_legal_message,
    packed,
)

SPACE = r"[ \t\n\r\v\f]*"
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
VECTOR = re.compile(rf"{SPACE}\[{SPACE}{NUMBER}{SPACE}(?:,{SPACE}{NUMBER}{SPACE})*\]{SPACE}")

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
COPY_TRAILER = struct.pack("!h", -1)

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def vectors(connection: Connection) -> Iterator[Connection]:
    """Connection to a database with tables ``any_dim (v vector)`` and ``three_dim (v vector(3))``."""
    connection.autocommit = True
    connection.execute("CREATE TABLE any_dim (v vector)")
    connection.execute("CREATE TABLE three_dim (v vector(3))")
    backend = connection.info.backend_pid
    yield connection
    assert fetch(connection, "SELECT pg_backend_pid()") == backend, "the backend did not survive"


def fetch(connection: Connection, query: str, *parameters: object) -> object:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def strtof(number: str) -> float:
    """Nearest float, as C reads it; infinite when out of range."""
    assert locale.localeconv()["decimal_point"] == "."
    function = ctypes.CDLL(None).strtof
    function.restype = ctypes.c_float
    return float(function(number.encode(), None))


def expected_of_text(text: str) -> bytes | None:
    """Binary form of what a text means, or None if it must be refused."""
    if VECTOR.fullmatch(text) is None:
        return None
    elements = [strtof(number) for number in re.findall(NUMBER, text)]
    if len(elements) > MAX_DIM or any(math.isinf(element) for element in elements):
        return None
    return packed(elements)


def send_text(connection: Connection, text: str, table: str = "any_dim") -> bytes | None:
    """Store a text by COPY; return the binary form of what was stored, or None if it was refused."""
    escaped = "".join({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(c, c) for c in text)
    return _send(connection, f"COPY {table} FROM STDIN", escaped.encode() + b"\n", table)


def send_message(connection: Connection, message: bytes, table: str = "any_dim") -> bytes | None:
    """Store a binary message by COPY; return the binary form of what was stored, or None if it was refused."""
    row = struct.pack("!hi", 1, len(message)) + message
    return _send(connection, f"COPY {table} FROM STDIN (FORMAT binary)", COPY_HEADER + row + COPY_TRAILER, table)


def _send(connection: Connection, statement: str, data: bytes, table: str) -> bytes | None:
    try:
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write(data)
    except psycopg.Error as error:
        assert_refused_with_reason(error)
        return None
    stored = fetch(connection, f"SELECT vector_send(v) FROM {table}")
    connection.execute(f"TRUNCATE {table}".encode())
    assert isinstance(stored, bytes)
    return stored


digits = st.text("0123456789", max_size=30)


def midpoint(bits: int, digits: int) -> str:
    """Return a number at, or next to, the middle between two floats: the hardest to round."""
    below, above = struct.unpack("!ff", struct.pack("!II", bits, bits + 1))
    return f"{(below + above) / 2:.{digits}g}"


numbers = st.one_of(
    floats.map(repr),
    # 16 digits of a number between 4 and 8 are few enough to be exact in a double, and enough to hit the middle
    st.builds(midpoint, st.integers(0x40800000, 0x40FFFFFF), st.just(16)),
    st.builds(midpoint, st.integers(0, 0x7F7FFFFE), st.integers(8, 24)),
    st.builds("{}{}.{}".format, st.sampled_from(["", "-", "+"]), digits, digits),
    st.builds("{}.{}e{}".format, digits, digits, st.integers(-60, 60)),
    st.builds("{}e{}".format, st.integers(2**23, 2**26), st.integers(-12, 12)),
    st.sampled_from(
        ["NaN", "-Infinity", "inf", "0x1p3", "1e", "-", ".", "null", "", "1e-400", "1e400", "3.4028236e38"]
    ),
)
spaces = st.text(" \t\n\r\v\f", max_size=2)
near_vectors = st.lists(st.builds("{}{}{}".format, spaces, numbers, spaces), max_size=8).map(
    lambda elements: "[" + ",".join(elements) + "]"
)
structure = st.text("[],.+-0123456789eE naif{}()'\"\\\t\nx_é", max_size=20)
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


@st.composite
def damaged_vectors(draw: st.DrawFn) -> str:
    """Return a vector's text with a part cut out and replaced."""
    text = draw(near_vectors)
    start = draw(st.integers(0, len(text)))
    stop = draw(st.integers(start, min(len(text), start + 3)))
    return text[:start] + draw(structure) + text[stop:]


@fuzz()
@given(text=st.one_of(near_vectors, structure, damaged_vectors(), any_text))
@example(text="[" + "9" * 40 + "]")
@example(text="[" + "0" * 40 + ".5]")
@example(text="[1.00000005960464477539062500]")
def test_text_is_stored_as_meant_or_refused(vectors: Connection, text: str) -> None:
    # COPY takes these for NULL and for the end of data.
    if text in {"\\N", "\\."}:
        return
    assert send_text(vectors, text) == expected_of_text(text)


@fuzz()
@given(elements=st.lists(floats, min_size=1, max_size=64))
@example(elements=[0.0, -0.0])
@example(elements=[1e-45, -3.4028234663852886e38])
def test_every_vector_survives_text_and_binary(vectors: Connection, elements: list[float]) -> None:
    message = packed(elements)
    assert send_message(vectors, message) == message

    text = fetch(vectors, "SELECT %s::vector::text", "[" + ",".join(map(repr, elements)) + "]")
    assert isinstance(text, str)
    assert send_text(vectors, text) == message


@fuzz()
@given(message=st.one_of(damaged_messages(), st.binary(max_size=40)))
@example(message=b"")
@example(message=struct.pack("!HH", 0, 0))
@example(message=struct.pack("!HHf", 1, 1, 1.0))
@example(message=struct.pack("!HHf", 1, 0, math.nan))
@example(message=struct.pack("!HHf", 1, 0, -math.inf))
@example(message=struct.pack("!HH", 0xFFFF, 0))
@example(message=struct.pack("!HH", MAX_DIM, 0))
def test_message_is_stored_as_sent_or_refused(vectors: Connection, message: bytes) -> None:
    assert send_message(vectors, message) == (message if is_legal_message(message) else None)


@pytest.mark.parametrize("dim", [1, MAX_DIM, MAX_DIM + 1, 2**16 - 1])
def test_dimensions_are_limited(vectors: Connection, dim: int) -> None:
    expected = packed([0.1] * dim) if dim <= MAX_DIM else None
    assert send_message(vectors, packed([0.1] * dim)) == expected
    assert send_text(vectors, "[" + ",".join(["0.1"] * dim) + "]") == expected


@pytest.mark.parametrize("part", ["[", ",", " ", "1", "[,", "1,", "é"])
def test_long_nonsense_is_refused(vectors: Connection, part: str) -> None:
    assert send_text(vectors, part * 1_000_000) is None
    assert send_text(vectors, "[" + part * 1_000_000) is None


@fuzz()
@given(elements=st.lists(floats, min_size=1, max_size=6))
def test_type_modifier_holds_for_text_and_binary(vectors: Connection, elements: list[float]) -> None:
    expected = packed(elements) if len(elements) == 3 else None
    assert send_message(vectors, packed(elements), "three_dim") == expected
    assert send_text(vectors, "[" + ",".join(map(repr, elements)) + "]", "three_dim") == expected


@fuzz()
@given(values=st.lists(st.decimals(allow_nan=True, allow_infinity=True, places=None), min_size=1, max_size=8))
@example(values=[Decimal("1.00000005960464477539062501"), Decimal("-0.1")])
@example(values=[Decimal("1e39")])
def test_numeric_array_becomes_what_its_text_means(vectors: Connection, values: list[Decimal]) -> None:
    # Not a number at all to PostgreSQL, or with more digits than numeric holds
    if any(value.is_snan() or (value.is_finite() and abs(value.adjusted()) > 1000) for value in values):
        return
    # numeric has no negative zero, and no number as small as some decimals
    texts = [format(value, "f") if value.is_finite() else str(value) for value in values]
    array = "{" + ",".join(texts) + "}"
    expected = expected_of_text("[" + ",".join(texts) + "]")
    try:
        query = "SELECT vector_send(%s::numeric[]::vector + array_fill(0, %s)::vector)"
        stored = fetch(vectors, query, array, [len(texts)])
    except psycopg.Error as error:
        assert_refused_with_reason(error)
        assert expected is None
        return
    assert expected is not None
    elements = struct.unpack_from(f"!{len(texts)}f", expected, 4)
    assert stored == packed([element + 0.0 for element in elements])


@fuzz()
@given(text=st.one_of(near_vectors, structure, any_text))
def test_validity_can_be_asked_without_an_error(vectors: Connection, text: str) -> None:
    if vectors.info.server_version < 160_000:
        pytest.skip("PostgreSQL 15 has no pg_input_is_valid()")
    expected = expected_of_text(text) is not None
    assert fetch(vectors, "SELECT pg_input_is_valid(%s, 'vector')", text) == expected
