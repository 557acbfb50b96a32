"""RaBitQ codes: estimates without bias, bounds that hold as often as they promise, and one that always holds."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.hard_cases import Floats, beyond_float, check_certain_bounds, hard_cases, true_scores
from pgwinnow import _kernels

METRICS: list[_kernels.Metric] = ["l2", "ip"]


def sparse_data(random: np.random.Generator, n: int, dim: int) -> Floats:
    """Vectors of unequal coordinates, few of which are not zero: hard on a quantiser that does not rotate."""
    rows = random.standard_normal((n, dim)) * (random.random((n, dim)) < 0.15) * np.linspace(0.1, 3, dim)
    rows[:, 0] += 1
    return rows.astype(np.float32)


class Trial(NamedTuple):
    """Forty rows and a query under one rotation."""

    estimates: NDArray[np.float32]
    lower: NDArray[np.float32]
    truth: NDArray[np.float64]
    # What a code does not know and has to estimate: (row - centroid) . query, or of query - centroid for L2.
    unknown: NDArray[np.float64]


def trials(
    random: np.random.Generator, dim: int, metric: _kernels.Metric, epsilon: float, count: int = 200
) -> list[Trial]:
    rows = sparse_data(random, 40, dim)
    centroid = rows.mean(axis=0)
    found = []
    for seed in range(count):
        query = sparse_data(random, 1, dim)[0]
        turned_centroid = _kernels.rotate(centroid, seed)
        codes = _kernels.encode(_kernels.rotate(rows, seed), turned_centroid)
        estimates, lower = _kernels.estimate(_kernels.rotate(query, seed), turned_centroid, codes, metric, epsilon)
        other = query if metric == "ip" else query - centroid
        unknown = (rows - centroid).astype(np.float64) @ other.astype(np.float64)
        found.append(Trial(estimates, lower, true_scores(rows, query, metric), unknown))
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [48, 100, 256])
def test_unbiased(random: np.random.Generator, dim: int, metric: _kernels.Metric) -> None:
    """Neither the errors themselves nor their slope over what is estimated differ from zero by more than chance."""
    means, products, squares = [], [], []
    for trial in trials(random, dim, metric, 1.9):
        errors = trial.estimates - trial.truth
        means.append(errors.mean())
        products.append((errors * trial.unknown).sum())
        squares.append(np.square(trial.unknown).sum())
    for averages in (np.array(means), np.array(products)):
        assert abs(averages.mean()) < 5 * averages.std() / np.sqrt(len(averages))
    # of the slope, which is the sum of the products over that of the squares
    assert np.std(products) * np.sqrt(len(products)) / sum(squares) < 0.05, "the data cannot tell"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [48, 256])
def test_errors_are_as_large_as_said(random: np.random.Generator, dim: int, metric: _kernels.Metric) -> None:
    """Over rotations, the errors of estimates are their standard deviations on average."""
    rows = (random.standard_normal((40, dim)) * np.linspace(0.2, 2, dim)).astype(np.float32)
    centroid = rows.mean(axis=0)
    ratios = []
    for seed in range(100):
        query = random.standard_normal(dim).astype(np.float32)
        turned, centre = _kernels.rotate(query, seed), _kernels.rotate(centroid, seed)
        codes = _kernels.encode(_kernels.rotate(rows, seed), centre)
        estimates, _ = _kernels.estimate(turned, centre, codes, metric)
        ratios.append(
            (estimates - true_scores(rows, query, metric)) / _kernels.estimate_errors(turned, centre, codes, metric)
        )
    assert 0.8 < np.std(ratios) < 1.2
    unknown = np.zeros((1, codes.shape[1]), np.uint8)
    unknown[0, :8] = np.array([np.inf, 1], np.float32).view(np.uint8)
    assert _kernels.estimate_errors(turned, centre, unknown, metric) == 0


def share_above_truth(found: list[Trial]) -> float:
    return float(np.mean([trial.lower > trial.truth for trial in found]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("epsilon", "least", "most"), [(1.0, 0.10, 0.22), (1.9, 0.005, 0.06), (4.0, 0.0, 0.002)])
def test_bound_holds_as_often_as_promised(
    random: np.random.Generator, metric: _kernels.Metric, epsilon: float, least: float, most: float
) -> None:
    """One-sided normal tails: 15.9 % beyond one deviation, 2.9 % beyond 1.9, 0.003 % beyond four."""
    assert least <= share_above_truth(trials(random, 128, metric, epsilon)) <= most


@pytest.mark.parametrize("metric", METRICS)
def test_bound_allows_for_the_rounding_of_the_query(random: np.random.Generator, metric: _kernels.Metric) -> None:
    """Rows that their signs describe exactly: all the error there is comes from the query's four bits."""
    rows = np.sign(random.standard_normal((2000, 24))).astype(np.float32)
    codes = _kernels.encode(rows, np.zeros(24))
    shares = []
    for _ in range(20):
        query = random.standard_normal(24).astype(np.float32)
        _, lower = _kernels.estimate(query, np.zeros(24), codes, metric, 1.9)
        shares.append((lower > true_scores(rows, query, metric)).mean())
    assert 0.001 < np.mean(shares) < 0.08


@pytest.mark.parametrize("metric", METRICS)
def test_levels_agree(random: np.random.Generator, metric: _kernels.Metric) -> None:
    before = _kernels.level()
    for dim in (1, 2, 7, 63, 64, 65, 384, 1000):
        rows = random.standard_normal((700, dim)).astype(np.float32)
        found = []
        for name in _kernels.levels():
            _kernels.use(name)
            codes = _kernels.encode(rows, rows[0])
            found.append(_kernels.estimate(rows[1], rows[0], codes, metric, 1.9))
        for estimates, lower in found[1:]:
            np.testing.assert_allclose(estimates, found[0][0], rtol=1e-4, atol=1e-4 * dim)
            np.testing.assert_allclose(lower, found[0][1], rtol=1e-4, atol=1e-4 * dim)
    _kernels.use(before)


def test_larger_epsilon_lower_bound(random: np.random.Generator) -> None:
    rows = random.standard_normal((300, 200)).astype(np.float32)
    codes = _kernels.encode(rows, rows.mean(axis=0))
    query = rows[0] + random.standard_normal(200).astype(np.float32)
    bounds = [_kernels.estimate(query, rows.mean(axis=0), codes, "l2", e)[1] for e in (0, 1, 1.9, 4)]
    for higher, lower in itertools.pairwise(bounds):
        assert (lower <= higher).all()
        assert (lower < higher).any()


def test_code_layout(random: np.random.Generator) -> None:
    """norm, align and sign bits are what quantize.h says."""
    for dim in (1, 5, 64, 100, 129, 300, 700):
        rows = random.standard_normal((20, dim)).astype(np.float32)
        centroid = random.standard_normal(dim).astype(np.float32)
        codes = _kernels.encode(rows, centroid)
        assert codes.shape[1] == _kernels.code_bytes(dim) == 8 + 8 * ((dim + 63) // 64)
        residual = rows.astype(np.float64) - centroid
        norms = np.linalg.norm(residual, axis=1)
        head = np.ascontiguousarray(codes[:, :8]).view(np.float32)
        np.testing.assert_allclose(head[:, 0], norms, rtol=1e-5)
        np.testing.assert_allclose(head[:, 1], np.abs(residual).sum(axis=1) / norms / np.sqrt(dim), rtol=1e-5)
        bits = np.unpackbits(codes[:, 8:], axis=1, bitorder="little")
        assert (bits[:, :dim] == (rows > centroid)).all()
        assert not bits[:, dim:].any()


def test_one_dimension_is_exact(random: np.random.Generator) -> None:
    rows = random.standard_normal((100, 1)).astype(np.float32)
    for metric in METRICS:
        estimates, lower = _kernels.estimate([0.3], [0.1], _kernels.encode(rows, [0.1]), metric, 1.9)
        truth = true_scores(rows, np.array([0.3], np.float32), metric)
        np.testing.assert_allclose(estimates, truth, atol=1e-5)
        # the bound allows for a query rounded to fifteen steps, though the ends of its range are not rounded
        inner = metric == "ip"
        step = 2 * (0.3 if inner else 0.2) / 15
        allowed = (1 if inner else 2) * np.abs(rows[:, 0] - 0.1) * 1.9 * step / np.sqrt(12)
        slack = 1e-3 + 1e-3 * np.abs(truth)
        assert (lower <= truth + slack).all()
        assert (lower >= truth - allowed - slack).all()


def test_certain_bound_is_better_than_the_triangle_inequality(random: np.random.Generator) -> None:
    rows = random.standard_normal((500, 64)).astype(np.float32)
    centroid = np.zeros(64, np.float32)
    query = rows[0] + 0.3 * random.standard_normal(64).astype(np.float32)
    _, lower = _kernels.estimate(query, centroid, _kernels.encode(rows, centroid), "l2", np.inf)
    triangle = np.square(np.linalg.norm(rows, axis=1) - np.linalg.norm(query))
    assert lower.mean() > 5 * triangle.mean()


@settings(max_examples=400)
@given(case=hard_cases(), metric=st.sampled_from(METRICS), seed=st.integers(0, 2**64 - 1), rotated=st.booleans())
def test_certain_bound_is_never_above_the_score(
    case: tuple[Floats, Floats, Floats], metric: _kernels.Metric, seed: int, rotated: bool
) -> None:
    rows, query, centroid = case
    codes, turned_query, turned_centroid = rows, query, centroid
    if rotated:
        codes, turned_query, turned_centroid = (_kernels.rotate(v, seed) for v in case)
    _, lower = _kernels.estimate(turned_query, turned_centroid, _kernels.encode(codes, turned_centroid), metric, np.inf)
    check_certain_bounds(lower, rows, query, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("epsilon", [1.9, np.inf])
def test_beyond_float(metric: _kernels.Metric, epsilon: float) -> None:
    """Lengths that float cannot hold, infinities and NaN bound nothing, and do no harm."""
    least = 0 if metric == "l2" else -np.inf
    for rows, query, centroid in beyond_float():
        estimates, lower = _kernels.estimate(query, centroid, _kernels.encode(rows, centroid), metric, epsilon)
        assert lower[0] == least
        assert not np.isnan(estimates[0])


def test_broken_records_do_no_harm() -> None:
    codes = np.frombuffer(np.random.default_rng(1).bytes(16 * 2000), np.uint8).reshape(2000, 16)
    for metric in METRICS:
        estimates, lower = _kernels.estimate(np.ones(50), np.zeros(50), codes, metric, np.inf)
        assert not np.isnan(estimates).any()
        assert not np.isnan(lower).any()


def test_errors() -> None:
    codes = _kernels.encode(np.ones((2, 8)), np.zeros(8))
    with pytest.raises(ValueError, match="there are no codes for metric 'l1'"):
        _kernels.estimate(np.ones(8), np.zeros(8), codes, "l1")
    with pytest.raises(ValueError, match="must be uint8"):
        _kernels.estimate(np.ones(80), np.zeros(80), codes)
    with pytest.raises(ValueError, match="centroid has 7 dimensions"):
        _kernels.encode(np.ones((2, 8)), np.zeros(7))
