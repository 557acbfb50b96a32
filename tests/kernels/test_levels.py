"""Each SIMD level against numpy; check_kernels.c compares them with each other in more detail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgwinnow import _kernels

DIMS = [*range(1, 70), 127, 128, 129, 384, 1000, 16000]
# WINNOW_SUM_ERROR of kernels.h, and the rounding of the result and of the last steps of a cosine.
ROUNDING = 2.0**-24


def sum_error(dim: int) -> float:
    return (dim // 16 + 80) * ROUNDING


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine", "l1"])
def test_distances(level: str, random: np.random.Generator, metric: _kernels.Metric) -> None:
    for dim in DIMS:
        base = random.standard_normal((5, dim)).astype(np.float32)
        query = random.standard_normal(dim).astype(np.float32)
        wide, q = base.astype(np.float64), query.astype(np.float64)
        if metric == "l2":
            want = np.sqrt(np.square(wide - q).sum(axis=1))
            scale = want
        elif metric == "l1":
            want = scale = np.abs(wide - q).sum(axis=1)
        else:
            want, scale = -(wide @ q), np.abs(wide) @ np.abs(q)
            if metric == "cosine":
                lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(q)
                want, scale = 1 + want / lengths, 2 + scale / lengths
        got = _kernels.distances(query, base, metric)
        assert (np.abs(got - want) <= 2 * sum_error(dim) * scale).all(), dim


def test_cosine_of_zero_is_nan(level: str) -> None:
    found = _kernels.distances([0, 0, 0], [[1, 2, 3], [0, 0, 0]], "cosine")
    assert np.isnan(found).all()


def test_cosine_stays_within_its_range(level: str, random: np.random.Generator) -> None:
    rows = random.standard_normal((500, 37)).astype(np.float32)
    for row in rows[:20]:
        assert _kernels.distances(row, np.stack([row, row * 3]), "cosine").min() >= 0
        assert _kernels.distances(row, np.stack([-row, row * -7]), "cosine").max() <= 2


def test_huge_and_tiny_vectors(level: str) -> None:
    huge = np.full((1, 20), 3e38, np.float32)
    assert _kernels.distances(-huge[0], huge, "l2")[0] == np.inf
    tiny = np.full((1, 20), 1e-30, np.float32)
    assert _kernels.distances(-tiny[0], tiny, "l2")[0] == pytest.approx(math.sqrt(20) * 2e-30)


@given(
    column=st.sampled_from(["int8", "int16", "int32", "int64"]).flatmap(
        lambda kind: hnp.arrays(kind, st.integers(0, 300))
    ),
    low=st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200),
    high=st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200),
)
def test_range_filters(column: np.ndarray, low: int, high: int) -> None:
    core = _kernels._core
    words = (len(column) + 63) // 64
    wide = column.astype(object)
    want = np.zeros(words * 64, bool)
    want[: len(column)] = (wide >= low) & (wide <= high)
    for number, _ in enumerate(_kernels._LEVELS):
        table = core.lib.winnow_kernels_at(number)
        if table == core.ffi.NULL:
            continue
        mask = np.full(words + 1, 2**64 - 1, np.uint64)
        keep = getattr(table, f"range_{column.dtype}")
        keep(_kernels._at("void *", column), len(column), low, high, _kernels._at("uint64_t *", mask))
        assert (np.unpackbits(mask[:words].view(np.uint8), bitorder="little") == want).all()
        assert mask[words] == 2**64 - 1, "the word behind the rows was touched"


def test_use() -> None:
    before = _kernels.level()
    for name in _kernels.levels():
        _kernels.use(name)
        assert _kernels.level() == name
    _kernels.use(before)
    with pytest.raises(ValueError, match="no SIMD level 'mmx'"):
        _kernels.use("mmx")
