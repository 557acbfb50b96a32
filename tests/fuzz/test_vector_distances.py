"""Distances of any legal vectors are right, also where a sum in float would overflow or vanish."""

from __future__ import annotations

import math
import struct

import psycopg
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.examples import fuzz

Connection = psycopg.Connection[tuple[object, ...]]

# Rounding of a float sum of up to 64 terms, with room to spare
TOLERANCE = 1e-5

# Elements of one scale, so that sums neither vanish beside one large term nor all round to zero
scales = st.sampled_from([1e-42, 1e-25, 1e-21, 1e-19, 1e-15, 1e-3, 1.0, 1e6, 1e15, 1e19, 1e25, 3e38])
units = st.floats(-1, 1, width=32)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Return two vectors of the same length, exactly representable in float4."""
    dim = draw(st.integers(1, 64))
    vectors = []
    for _ in range(2):
        scale = draw(scales)
        elements = draw(st.lists(units, min_size=dim, max_size=dim))
        vectors.append([to_float4(element * scale) for element in elements])
    return vectors[0], vectors[1]


def to_float4(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def text(elements: list[float]) -> str:
    return "[" + ",".join(map(repr, elements)) + "]"


@fuzz()
@given(pair=pairs())
@example(pair=([0.0], [0.0]))
@example(pair=([3e38, -3e38], [-3e38, 3e38]))
@example(pair=([1e-40, 0.0], [1e-40, 1e-40]))
def test_distances_are_right_at_any_scale(connection: Connection, pair: tuple[list[float], list[float]]) -> None:
    a, b = ([to_float4(element) for element in vector] for vector in pair)
    row = connection.execute(
        "SELECT a <-> b, a <#> b, a <=> b, a <+> b, b <-> a, vector_norm(a), l2_normalize(a) <-> l2_normalize(a)"
        " FROM (SELECT %s::vector AS a, %s::vector AS b) AS pair",
        [text(a), text(b)],
    ).fetchone()
    assert row is not None
    l2, negative_ip, cosine, l1, l2_reversed, norm, self_distance = (float(str(value)) for value in row)

    assert math.isclose(l2, math.dist(a, b), rel_tol=TOLERANCE)
    assert l2 == l2_reversed
    assert math.isclose(l1, math.fsum(abs(x - y) for x, y in zip(a, b, strict=True)), rel_tol=TOLERANCE)
    assert math.isclose(norm, math.hypot(*a), rel_tol=1e-12)
    assert self_distance == 0

    # Terms may cancel each other, and those below the smallest float are lost.
    products = [x * y for x, y in zip(a, b, strict=True)]
    magnitude = math.fsum(map(abs, products))
    assert math.isclose(negative_ip, -math.fsum(products), abs_tol=TOLERANCE * magnitude + 1e-37)

    lengths = math.hypot(*a) * math.hypot(*b)
    if lengths == 0:
        assert math.isnan(cosine)
    else:
        assert 0 <= cosine <= 2
        assert math.isclose(cosine, 1 - math.fsum(products) / lengths, abs_tol=TOLERANCE)
