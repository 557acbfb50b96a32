"""Vectors as bytes and as text."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from pgwinnow import types
from pgwinnow.types import Metric

Vector = npt.NDArray[np.float32]

vectors = st_numpy.arrays(
    np.float32, st.integers(1, 200), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@given(vectors)
def test_both_forms_bring_back_the_same_bits(vector: Vector) -> None:
    assert types.from_binary(types.to_binary(vector)).tobytes() == vector.tobytes()
    assert types.from_text(types.to_text(vector)).tobytes() == vector.tobytes()


def test_binary_form_is_that_of_vector_send() -> None:
    assert types.to_binary([1, -2.5]) == struct.pack(">hhff", 2, 0, 1.0, -2.5)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_other_number_types_become_float32(dtype: str) -> None:
    vector = types.from_binary(types.to_binary(np.arange(3, dtype=dtype)))
    assert vector.dtype == np.float32
    assert vector.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0]], r"the shape \(1, 1\)"),
        ([], "1 to 16000 dimensions, not 0"),
        (np.zeros(16_001), "not 16001"),
        ([0, float("nan")], r"not nan \(position 1\)"),
        ([1e39, 0], r"not inf \(position 0\)"),
    ],
)
def test_what_is_no_vector_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        types.as_vector(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"\0\2\0\0\0\0\0\0", types.to_binary([1]) + b"x"])
def test_binary_of_the_wrong_length_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="a binary vector"):
        types.from_binary(data)


@pytest.mark.parametrize("text", ["", "1,2", "{1,2}", "[1,2", "[1,x]"])
def test_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\[1,2,3\]|could not convert"):
        types.from_text(text)


def test_unknown_metric_names_those_there_are() -> None:
    assert Metric.named("ip") is Metric.IP
    with pytest.raises(ValueError, match="'dot'; there are l2, ip, cosine, l1"):
        Metric.named("dot")
