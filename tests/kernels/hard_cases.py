"""Vectors whose scores are hard to bound, and what their scores are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgwinnow import _kernels

Floats = NDArray[np.float32]


def true_scores(rows: Floats, query: Floats, metric: str) -> NDArray[np.float64]:
    wide, q = rows.astype(np.float64), query.astype(np.float64)
    return -(wide @ q) if metric == "ip" else np.square(wide - q).sum(axis=1)


@st.composite
def hard_cases(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    """Rows, a query and a centroid whose magnitudes have nothing to do with each other, some of them equal."""
    dim = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 33, 64, 65, 130, 384]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def vector(common: Floats) -> Floats:
        scale = 10.0 ** draw(st.integers(-38, 18) | st.integers(-2, 2))
        kind = draw(st.sampled_from(["normal", "sparse", "constant", "spike", "signs", "zero"]))
        values = {
            "normal": random.standard_normal(dim),
            "sparse": random.standard_normal(dim) * (random.random(dim) < 0.2),
            "constant": np.ones(dim),
            "spike": np.eye(dim)[random.integers(dim)],
            "signs": np.sign(random.standard_normal(dim)),
            "zero": np.zeros(dim),
        }[kind]
        near = draw(st.booleans())
        return np.asarray((common if near else 0) + values * scale, np.float32)

    common = vector(np.zeros(dim, np.float32))
    query = vector(common)
    centroid = vector(common)
    rows = [vector(common) for _ in range(draw(st.integers(1, 6)))]
    # The query or the centroid itself, its neighbour in float, and twice the same row.
    for special in (query, centroid, np.nextafter(query, np.float32(np.inf)), (2 * query - centroid), rows[0]):
        if draw(st.booleans()):
            rows.append(special.astype(np.float32))
    return np.array(rows), query, centroid


def check_certain_bounds(lower: Floats, rows: Floats, query: Floats, metric: _kernels.Metric) -> None:
    """A bound that is never wrong is above neither the scores nor what the float kernels make of them."""
    assert not np.isnan(lower).any()
    assert (lower <= true_scores(rows, query, metric)).all()
    computed = _kernels.distances(query, rows, metric)
    with np.errstate(over="ignore"):
        assert (lower <= (np.square(computed) if metric == "l2" else computed)).all()
    if metric == "l2":
        assert (lower >= 0).all()


def beyond_float() -> Iterator[tuple[list[Floats], Floats, Floats]]:
    """Rows, a query and a centroid with lengths that float cannot hold, infinities and NaN."""
    one = np.ones(8, np.float32)
    for value in (3e38, np.inf, np.nan):
        far = np.full(8, value, np.float32)
        yield from [([far], one, one), ([one], far, one), ([one], one, far), ([far], -far, far)]
