"""Arrays that become vectors, and vectors that become arrays; vectors as parameters of a statement."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import pq

from fuzz.examples import fuzz
from fuzz.vectors import assert_refused_with_reason, damaged_messages, floats, is_legal_message, packed

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def session(connection: Connection) -> Iterator[Connection]:
    connection.autocommit = True
    backend = connection.info.backend_pid
    yield connection
    assert connection.execute("SELECT pg_backend_pid()").fetchone() == (backend,), "the backend did not survive"


def to_float4(value: float) -> float:
    """Nearest float, infinite when out of range."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


ELEMENTS: dict[str, st.SearchStrategy[float]] = {
    "integer": st.integers(-(2**31), 2**31 - 1),
    "real": st.floats(width=32),
    "double precision": st.one_of(st.floats(), floats),
}


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, str, list[float] | None]:
    """Return an element type, the text of an array, and the vector that it is, or None."""
    type_name = draw(st.sampled_from(sorted(ELEMENTS)))
    elements = draw(st.lists(st.one_of(ELEMENTS[type_name], st.none()), max_size=6))
    if draw(st.booleans()):
        elements = [element for element in elements if element is not None]
    numbers = [element for element in elements if element is not None]
    texts = ["NULL" if element is None else repr(element) for element in elements]
    legal = 0 < len(numbers) == len(elements) and all(math.isfinite(to_float4(number)) for number in numbers)
    text = "{" + ",".join(texts) + "}"
    form = draw(st.sampled_from(["plain", "plain", "plain", "bounds", "nested"]))
    if form == "bounds" and elements:
        start = draw(st.integers(-3, 3))
        text = f"[{start}:{start + len(elements) - 1}]={text}"
    if form == "nested" and elements:
        text, legal = "{" + text + "}", False
    return type_name, text, [to_float4(number) for number in numbers] if legal else None


@fuzz(0.5)
@given(array=arrays())
@example(array=("integer", "{}", None))
@example(array=("real", "{NULL}", None))
@example(array=("double precision", "{3.4028235677973366e+38}", None))
def test_array_becomes_vector(session: Connection, array: tuple[str, str, list[float] | None]) -> None:
    type_name, text, elements = array
    try:
        record = session.execute(f"SELECT vector_send(%s::{type_name}[]::vector)", [text]).fetchone()
    except psycopg.Error as error:
        assert_refused_with_reason(error)
        record = None
    assert record == (None if elements is None else (packed(elements),))


@fuzz(0.5)
@given(elements=st.lists(floats, min_size=1, max_size=8))
def test_vector_becomes_array(session: Connection, elements: list[float]) -> None:
    text = "[" + ",".join(map(repr, elements)) + "]"
    for type_name in ("real", "double precision", "numeric"):
        record = session.execute(f"SELECT vector_send(%s::vector::{type_name}[]::vector)", [text]).fetchone()
        # numeric has no negative zero, and the cast to it writes the digits that tell a float from its neighbours
        expected = [element + 0.0 for element in elements] if type_name == "numeric" else elements
        assert record == (packed(expected),)
    try:
        record = session.execute("SELECT %s::vector::integer[]", [text]).fetchone()
    except psycopg.Error as error:
        assert_refused_with_reason(error)
        assert any(not -(2**31) <= round(element) <= 2**31 - 1 for element in elements)
        return
    assert record == ([round(element) for element in elements],)


@fuzz(0.5)
@given(message=damaged_messages())
def test_binary_parameter(session: Connection, message: bytes) -> None:
    """Through the protocol itself, with the result in binary as well."""
    record = session.execute("SELECT 'vector'::regtype::oid").fetchone()
    assert record is not None
    result = session.pgconn.exec_params(
        b"SELECT $1, vector_dims($1), $1 <-> $1", [message], [int(str(record[0]))], [pq.Format.BINARY], pq.Format.BINARY
    )
    if result.status != pq.ExecStatus.TUPLES_OK:
        code = result.error_field(pq.DiagnosticField.SQLSTATE)
        assert code is not None
        assert code[:2] in {b"22", b"54", b"08"}, result.error_message
        assert not is_legal_message(message)
        return
    assert is_legal_message(message)
    assert result.get_value(0, 0) == message
    assert result.get_value(0, 1) == struct.pack("!i", (len(message) - 4) // 4)
    assert result.get_value(0, 2) == struct.pack("!d", 0)
