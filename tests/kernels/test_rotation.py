"""The random rotation: orthogonal, spreading, and the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pgwinnow import _kernels

DIMS = [*range(1, 20), 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 384, 768, 1000, 1536]


@pytest.mark.parametrize("dim", DIMS)
def test_orthogonal(level: str, dim: int) -> None:
    matrix = _kernels.rotate(np.eye(dim, dtype=np.float32), seed=dim).astype(np.float64)
    assert np.abs(matrix @ matrix.T - np.eye(dim)).max() < 1e-5


def test_same_at_every_level(random: np.random.Generator) -> None:
    before = _kernels.level()
    for dim in DIMS:
        rows = random.standard_normal((3, dim)).astype(np.float32)
        results = set()
        for name in _kernels.levels():
            _kernels.use(name)
            results.add(_kernels.rotate(rows, seed=7).tobytes())
        assert len(results) == 1, dim
    _kernels.use(before)


def test_same_on_every_platform() -> None:
    """An index moves with its data folder: the rotation of a seed is part of the format."""
    rows = np.arange(1, 1001, dtype=np.float32).reshape(10, 100)
    digest = hashlib.sha256(_kernels.rotate(rows, seed=42).astype("<f4").tobytes()).hexdigest()
    assert digest == "596522096d44254224a4ddc398f90374797f8dd44518408e86c9accbc0a79a8f"


def test_seed_matters() -> None:
    row = np.ones(64, np.float32)
    assert (_kernels.rotate(row, 1) == _kernels.rotate(row, 1)).all()
    assert (_kernels.rotate(row, 1) != _kernels.rotate(row, 2)).any()


@pytest.mark.parametrize("dim", [48, 64, 65, 96, 127, 384, 1000])
def test_spreads_a_single_coordinate(dim: int) -> None:
    """However a vector's length lies in one coordinate, afterwards no coordinate holds much of it."""
    largest = [np.abs(_kernels.rotate(np.eye(dim, dtype=np.float32), seed)).max() for seed in range(5)]
    assert max(largest) < 0.75
    inner = [np.abs(_kernels.rotate(np.eye(dim, dtype=np.float32), seed)).mean() for seed in range(5)]
    # A uniformly random direction has mean |coordinate| sqrt(2 / (pi dim)).
    assert np.mean(inner) == pytest.approx(np.sqrt(2 / (np.pi * dim)), rel=0.1)


def test_huge_and_tiny_vectors(level: str) -> None:
    for scale in (1e37, 1e18, 1e-30):
        row = np.full(100, scale / 10, np.float32)
        length = np.linalg.norm(_kernels.rotate(row, 3).astype(np.float64))
        assert length == pytest.approx(scale, rel=1e-5)


def test_shapes() -> None:
    assert _kernels.rotate(np.ones(5), 1).shape == (5,)
    assert _kernels.rotate(np.ones((2, 5)), 1).shape == (2, 5)
    with pytest.raises(ValueError, match="no dimensions"):
        _kernels.rotate(np.ones((2, 0)), 1)


@pytest.mark.parametrize("dim", [1, 3, 64, 384, 1000])
def test_beyond_float(random: np.random.Generator, dim: int) -> None:
    """What would be beyond the range of float becomes the largest float; the rest is as of a short vector."""
    most = np.finfo(np.float32).max
    directions = random.standard_normal((20, dim)).astype(np.float32)
    vectors = directions / np.abs(directions).max(axis=1, keepdims=True) * most
    turned = _kernels.rotate(vectors, 5)
    expected = _kernels.rotate((vectors * np.float32(2.0**-60)).astype(np.float32), 5).astype(np.float64) * 2.0**60
    assert np.isfinite(turned).all()
    np.testing.assert_allclose(turned, np.clip(expected, -most, most), rtol=1e-3, atol=1e-4 * most)
