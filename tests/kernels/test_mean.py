"""Means that outliers do not move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgwinnow import _kernels


def distances(rows: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.square(rows.astype(np.float64) - mean.astype(np.float64)).sum(axis=1))


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 80), dim=st.sampled_from([1, 3, 16, 33]), weighted=st.booleans()
)
def test_mean_of_the_rows_within(seed: int, n: int, dim: int, weighted: bool) -> None:
    """It is the weighted mean of all rows, or of those without outliers; it says which these are."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, dim)) * 10.0 ** random.integers(-3, 4, (n, 1)) ** random.integers(0, 2)
    rows = rows[random.integers(n, size=n)].astype(np.float32)
    weights = random.integers(1, 300, n).astype(np.float64) if weighted else np.ones(n)
    mean, squared, far = _kernels.mean(rows, weights if weighted else None)
    np.testing.assert_allclose(squared, distances(rows, mean), rtol=1e-4, atol=1e-30)
    within = squared <= far
    assert weights[~within].sum() <= weights.sum() / 4
    expected = np.average(rows[within].astype(np.float64), axis=0, weights=weights[within])
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=float(np.abs(rows[within]).max()) * 1e-6)
    if not np.isinf(far):
        ordered = np.argsort(squared, kind="stable")
        share = np.cumsum(weights[ordered]) / weights.sum()
        usual, most = (squared[ordered][np.searchsorted(share, part - 1e-9) :] for part in (7 / 8, 3 / 4))
        assert far >= min(100 * usual[usual > 0][0], 1e6 * most[most > 0][0]) * (1 - 1e-6)


@pytest.mark.parametrize(
    ("count", "length"),
    [(count, length) for count in (1, 5, 35) for length in (1e3, 1e6, 1e15, 1e25, 1e38)]
    + [(70, length) for length in (1e5, 1e6, 1e15, 1e25, 1e38)],
)
def test_outliers_are_left_out(level: str, random: np.random.Generator, length: float, count: int) -> None:
    rows = random.standard_normal((300, 24)).astype(np.float32)
    directions = random.standard_normal((count, 24))
    directions *= length / np.abs(directions).max(axis=1, keepdims=True)
    far_rows = random.permutation(300)[:count]
    rows[far_rows] = directions
    mean, squared, far = _kernels.mean(rows)
    assert sorted(np.flatnonzero(squared > far)) == sorted(far_rows)
    ordered = np.sort(squared)
    assert far == pytest.approx(min(100 * ordered[262], 1e6 * ordered[224]))
    np.testing.assert_allclose(mean, np.delete(rows, far_rows, axis=0).mean(axis=0), atol=1e-5)


def test_most_rows_are_equal(random: np.random.Generator) -> None:
    """The mean may be theirs alone, but how far others may be is judged by the others."""
    rows = np.full((320, 8), 0.1, np.float32)
    assert (_kernels.mean(rows)[0] == rows[0]).all()
    rows[:35] = random.standard_normal((35, 8))
    mean, squared, far = _kernels.mean(rows)
    assert (squared <= far).all()
    assert (np.abs(mean - 0.1) <= np.abs(rows.mean(axis=0) - 0.1) + 1e-5).all()
    rows[3] *= 1e6
    mean, squared, far = _kernels.mean(rows)
    assert list(np.flatnonzero(squared > far)) == [3]


def test_a_quarter_is_no_outlier_at_ten_times(random: np.random.Generator) -> None:
    """It may be a cluster of its own; at a thousand times it is left out even so, as one row of four is."""
    rows = random.standard_normal((100, 16)).astype(np.float32)
    rows[:20] += 500
    np.testing.assert_allclose(_kernels.mean(rows)[0], rows.mean(axis=0), atol=1e-3)
    rows[:20] += 1e5
    np.testing.assert_allclose(_kernels.mean(rows)[0], rows[20:].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(_kernels.mean(rows[19:23])[0], rows[20:23].mean(axis=0), atol=1e-4)


def test_the_order_of_rows_does_not_matter(random: np.random.Generator) -> None:
    """Few heavy rows are the usual ones wherever they are; 12 % each of the weight is far away."""
    for first in (0, 2):
        rows = np.array([[1e7], [-2e7], [2e7]], np.float32)
        weights = np.full(3, 12.0)
        rows[first], weights[first] = 0, 76
        assert _kernels.mean(rows, weights, np.ones(3))[0] == 0
    rows = random.standard_normal((100, 16)).astype(np.float32)
    rows[:60] += 1e6
    weights = np.where(np.arange(100) < 60, 1.0, 10.0)
    for order in (np.arange(100), np.arange(100)[::-1], random.permutation(100)):
        mean = _kernels.mean(rows[order], weights[order], np.ones(100))[0]
        np.testing.assert_allclose(mean, rows[60:].mean(axis=0), atol=1e-4)


def test_outliers_behind_outliers(random: np.random.Generator) -> None:
    """Those that are nearer than others, but far from the rest, are found without these."""
    rows = random.standard_normal((1000, 16)).astype(np.float32)
    rows[:60] += 1e5
    rows[60:65] += 5e3
    mean, squared, far = _kernels.mean(rows)
    assert list(np.flatnonzero(squared > far)) == list(range(65))
    np.testing.assert_allclose(mean, rows[65:].mean(axis=0), atol=1e-4)


def test_extent_counts_as_distance() -> None:
    """A child is no outlier whose distance is like the extent of the one that has most rows."""
    rows = np.array([[0.0], [30.0]], np.float32)
    assert _kernels.mean(rows, [400, 50], [100, 100])[2] > 900
    assert _kernels.mean(rows * 1e4, [400, 50], [100, 100])[0] == 0


def test_weight_decides_who_is_an_outlier() -> None:
    """Of two rows the one that stands for few others is; of two of a weight none is."""
    rows = np.array([[0.0], [1000.0]], np.float32)
    assert _kernels.mean(rows, [600, 1], [1, 1])[0] == 0
    assert _kernels.mean(rows, [1, 600], [1, 1])[0] == 1000
    assert _kernels.mean(rows, None, [1, 1])[0] == 500


def test_errors() -> None:
    with pytest.raises(ValueError, match="there are no rows"):
        _kernels.mean(np.empty((0, 3)))
    with pytest.raises(ValueError, match="weights are \\(2,\\)"):
        _kernels.mean(np.ones((3, 2)), [1, 2])
    with pytest.raises(ValueError, match="positive"):
        _kernels.mean(np.ones((2, 2)), [1, 0])
    with pytest.raises(ValueError, match="within is"):
        _kernels.mean(np.ones((2, 2)), [1, 1], [1, -1])
