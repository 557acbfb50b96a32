"""Refinement codes: closer than 1-bit codes, bounds that hold as often as they promise, and one that always holds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.hard_cases import Floats, beyond_float, check_certain_bounds, hard_cases, true_scores
from pgwinnow import _kernels

METRICS: list[_kernels.Metric] = ["l2", "ip"]


def decode(records: NDArray[np.uint8], dim: int, bits: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Take records apart: their heads [n, 3], and what they say of the residuals [n, dim]."""
    words = (dim + 63) // 64
    heads = np.ascontiguousarray(records[:, :12]).view(np.float32)
    planes = np.unpackbits(records[:, 12:].reshape(len(records), bits, words * 8), axis=2, bitorder="little")
    assert not planes[:, :, dim:].any()
    levels = (planes[:, :, :dim] * (1 << np.arange(bits))[None, :, None]).sum(axis=1)
    return heads, heads[:, 1:2].astype(np.float64) * (levels - (2**bits - 1) / 2)


@pytest.mark.parametrize("bits", range(2, 9))
def test_layout(random: np.random.Generator, bits: int) -> None:
    """A record says of the residual what refine.h says, and how far off that is."""
    for dim in (1, 2, 7, 64, 100, 300):
        rows = random.standard_normal((30, dim)).astype(np.float32)
        centroid = random.standard_normal(dim).astype(np.float32)
        records = _kernels.refinement_encode(rows, centroid, bits)
        assert records.shape[1] == _kernels.refinement_bytes(dim, bits) == 12 + 8 * bits * ((dim + 63) // 64)
        heads, decoded = decode(records, dim, bits)
        residual = rows.astype(np.float64) - centroid
        norms = np.linalg.norm(residual, axis=1)
        rest = np.linalg.norm(residual - decoded, axis=1)
        np.testing.assert_allclose(heads[:, 0], norms, rtol=1e-5)
        assert (heads[:, 2] >= rest).all()
        np.testing.assert_allclose(heads[:, 2], rest, rtol=2e-3, atol=2e-6 * norms.max())
        # The rest is orthogonal to the residual, as it must be for estimates without bias.
        np.testing.assert_allclose(((residual - decoded) * residual).sum(axis=1), 0, atol=1e-4 * norms.max() ** 2)


def test_each_bit_halves_what_is_left(random: np.random.Generator) -> None:
    rows = random.standard_normal((200, 384)).astype(np.float32)
    rests = [decode(_kernels.refinement_encode(rows, np.zeros(384), bits), 384, bits)[0][:, 2] for bits in range(2, 9)]
    ratios = [float((less / more).mean()) for more, less in itertools.pairwise(rests)]
    assert all(0.45 < ratio < 0.65 for ratio in ratios), ratios
    assert rests[0].mean() < 0.38 * np.sqrt(384)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_unbiased_and_close(random: np.random.Generator, metric: _kernels.Metric, bits: int) -> None:
    """Errors have no bias over rotations, and are as large as the bound takes them to be."""
    dim = 128
    rows = random.standard_normal((60, dim)).astype(np.float32) * np.linspace(0.1, 3, dim).astype(np.float32)
    centroid = rows.mean(axis=0)
    query = rows[0] + random.standard_normal(dim).astype(np.float32)
    truth = true_scores(rows, query, metric)
    errors, above, coarse, slopes = [], [], [], []
    unknown = (rows - centroid).astype(np.float64) @ (query if metric == "ip" else query - centroid).astype(np.float64)
    for seed in range(100):
        turned, turned_centroid, turned_query = (_kernels.rotate(v, seed) for v in (rows, centroid, query))
        records = _kernels.refinement_encode(turned, turned_centroid, bits)
        estimates, lower = _kernels.refine(turned_query, turned_centroid, records, bits, metric, 1.9)
        errors.append(estimates - truth)
        slopes.append((errors[-1] * unknown).sum() / np.square(unknown).sum())
        above.append(lower > truth)
        codes = _kernels.encode(turned, turned_centroid)
        coarse.append(_kernels.estimate(turned_query, turned_centroid, codes, metric, 1.9)[0] - truth)
    for averages in (np.mean(errors, axis=1), np.array(slopes)):
        assert abs(averages.mean()) < 5 * averages.std() / np.sqrt(len(averages)) + 1e-5 * np.abs(truth).max()
    assert np.std(slopes) / np.sqrt(len(slopes)) < 0.05, "the data cannot tell"
    assert np.std(errors) < {2: 0.65, 4: 0.25, 8: 0.05}[bits] * np.std(coarse)
    assert 0.002 < np.mean(above) < 0.06


@pytest.mark.parametrize("metric", METRICS)
def test_levels_agree(random: np.random.Generator, metric: _kernels.Metric) -> None:
    """On the same records: which of two codes is the nearer one may hang on the last bit of a sum."""
    before = _kernels.level()
    for dim in (1, 2, 7, 63, 64, 65, 384, 1000):
        rows = random.standard_normal((50, dim)).astype(np.float32)
        records = _kernels.refinement_encode(rows, rows[0], 5)
        found = []
        for name in _kernels.levels():
            _kernels.use(name)
            found.append(_kernels.refine(rows[1], rows[0], records, 5, metric, 1.9))
            own = _kernels.refine(rows[1], rows[0], _kernels.refinement_encode(rows, rows[0], 5), 5, metric, 1.9)
            assert np.abs(own[0] - found[0][0]).mean() <= 1e-4 * dim
        for estimates, lower in found[1:]:
            np.testing.assert_allclose(estimates, found[0][0], rtol=1e-4, atol=1e-4 * dim)
            np.testing.assert_allclose(lower, found[0][1], rtol=1e-4, atol=1e-4 * dim)
    _kernels.use(before)


@settings(max_examples=400)
@given(
    case=hard_cases(),
    bits=st.integers(2, 8),
    metric=st.sampled_from(METRICS),
    seed=st.integers(0, 2**64 - 1),
    rotated=st.booleans(),
)
def test_certain_bound_is_never_above_the_score(
    case: tuple[Floats, Floats, Floats], bits: int, metric: _kernels.Metric, seed: int, rotated: bool
) -> None:
    rows, query, centroid = case
    turned_rows, turned_query, turned_centroid = rows, query, centroid
    if rotated:
        turned_rows, turned_query, turned_centroid = (_kernels.rotate(v, seed) for v in case)
    records = _kernels.refinement_encode(turned_rows, turned_centroid, bits)
    estimates, lower = _kernels.refine(turned_query, turned_centroid, records, bits, metric, np.inf)
    assert not np.isnan(estimates).any()
    check_certain_bounds(lower, rows, query, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("epsilon", [1.9, np.inf])
def test_beyond_float(metric: _kernels.Metric, epsilon: float) -> None:
    """Lengths that float cannot hold, infinities and NaN bound nothing, and do no harm."""
    least = 0 if metric == "l2" else -np.inf
    for rows, query, centroid in beyond_float():
        records = _kernels.refinement_encode(rows, centroid, 4)
        estimates, lower = _kernels.refine(query, centroid, records, 4, metric, epsilon)
        assert lower[0] == least
        assert not np.isnan(estimates[0])


def test_broken_records_do_no_harm() -> None:
    records = np.frombuffer(np.random.default_rng(1).bytes(44 * 2000), np.uint8).reshape(2000, 44)
    for metric in METRICS:
        for epsilon in (1.9, np.inf):
            estimates, lower = _kernels.refine(np.ones(50), np.zeros(50), records, 4, metric, epsilon)
            assert not np.isnan(estimates).any()
            assert not np.isnan(lower).any()


def test_errors() -> None:
    with pytest.raises(ValueError, match="bits is 9: it must be between 2 and 8"):
        _kernels.refinement_encode(np.ones((2, 8)), np.zeros(8), 9)
    with pytest.raises(ValueError, match="must be uint8"):
        _kernels.refine(np.ones(80), np.zeros(80), _kernels.refinement_encode(np.ones((2, 8)), np.zeros(8), 3), 3)
