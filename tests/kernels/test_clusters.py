"""k-means and the balanced split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgwinnow import _kernels

Floats = NDArray[np.float32]


@st.composite
def data_sets(draw: st.DrawFn) -> Floats:
    """Rows of any magnitude, many of them equal."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 60))
    dim = draw(st.sampled_from([1, 2, 5, 16, 33]))
    distinct = draw(st.integers(1, n))
    scale = draw(st.sampled_from([1e-40, 1e-30, 1, 1e18, 3e38]))
    values = np.clip(random.standard_normal((distinct, dim)) / 4, -1, 1) * scale
    return values[random.integers(distinct, size=n)].astype(np.float32)


def squared_distances(rows: Floats, centroids: Floats) -> NDArray[np.float64]:
    difference = rows.astype(np.float64)[:, np.newaxis] - centroids.astype(np.float64)
    return np.asarray(np.square(difference).sum(axis=2))


def blobs(random: np.random.Generator, sizes: list[int], dim: int) -> tuple[Floats, NDArray[np.int64]]:
    """Clusters so far apart that each gets a seed (chances against it: 1 in 10,000), and which one each row is of."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.eye(dim)[: len(sizes)] * 3000
    rows = centres[labels] + random.standard_normal((len(labels), dim))
    order = random.permutation(len(labels))
    return rows[order].astype(np.float32), labels[order]


@settings(max_examples=200)
@given(rows=data_sets(), data=st.data())
def test_kmeans(rows: Floats, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(rows)))
    seed = data.draw(st.integers(0, 2**64 - 1))
    iterations = data.draw(st.integers(0, 5))
    centroids, assign = _kernels.kmeans(rows, k, iterations, seed)
    assert np.isfinite(centroids).all()
    assert ((assign >= 0) & (assign < k)).all()
    with np.errstate(over="ignore"):
        limit = np.abs(rows).max() * np.float32(1 + 1e-5)
    assert np.abs(centroids).max() <= limit
    squares = squared_distances(rows, centroids)
    chosen = squares[np.arange(len(rows)), assign]
    within_float = squares.max(axis=1) < 1e37
    assert (chosen <= squares.min(axis=1) * (1 + 1e-4) + 1e-36)[within_float].all()
    again = _kernels.kmeans(rows, k, iterations, seed)
    assert (again[0] == centroids).all()
    assert (again[1] == assign).all()


def test_kmeans_finds_clusters(level: str, random: np.random.Generator) -> None:
    """Twice as many clusters as there are: with just as many, one in thirty drawings of the first centroids is bad."""
    rows, labels = blobs(random, [300, 100, 50, 400, 200], 24)
    centroids, assign = _kernels.kmeans(rows, 10, 20, seed=1)
    pairs = {(int(a), int(b)) for a, b in zip(labels, assign, strict=True)}
    assert {label for label, _ in pairs} == set(range(5))
    assert len(pairs) == len({cluster for _, cluster in pairs}), "two clusters were merged"
    for _, cluster in pairs:
        # the means of a sample of the rows
        np.testing.assert_allclose(centroids[cluster], rows[assign == cluster].mean(axis=0), atol=2)


def test_kmeans_improves(random: np.random.Generator) -> None:
    rows = random.standard_normal((4000, 16)).astype(np.float32)
    spread = [
        squared_distances(rows, _kernels.kmeans(rows, 20, iterations, 5)[0]).min(axis=1).sum() for iterations in (0, 8)
    ]
    assert spread[1] < 0.9 * spread[0]


def test_kmeans_refills_empty_clusters() -> None:
    """The seeds often miss the five rare places; each gets its centroid all the same."""
    places = np.arange(6, dtype=np.float32) * 1000
    rows = np.repeat(places, [350, 2, 2, 2, 2, 2])[:, np.newaxis]
    for seed in range(30):
        centroids, _ = _kernels.kmeans(rows, 6, 10, seed)
        assert sorted(centroids[:, 0]) == list(places)


def test_nearest(level: str, random: np.random.Generator) -> None:
    centroids = random.standard_normal((50, 33)).astype(np.float32)
    for row in random.standard_normal((20, 33)).astype(np.float32):
        best, distance = _kernels.nearest(row, centroids)
        want = squared_distances(row[np.newaxis], centroids)[0]
        assert best == want.argmin()
        assert distance == pytest.approx(want.min(), rel=1e-5)
    assert _kernels.nearest([1, 1], [[0, 0], [2, 2], [2, 2]]) == (0, 2.0)


@settings(max_examples=200)
@given(rows=data_sets(), seed=st.integers(0, 2**64 - 1))
def test_split_is_balanced(rows: Floats, seed: int) -> None:
    centroids, side = _kernels.split_two(rows, seed)
    counts = [int((side == s).sum()) for s in (0, 1)]
    assert sum(counts) == len(rows)
    assert np.isfinite(centroids).all()
    if len(rows) == 1:
        assert (centroids == rows[0]).all()
        return
    assert min(counts) >= len(rows) / 8
    if (rows == rows[0]).all():
        assert abs(counts[0] - counts[1]) <= 1
    for s in (0, 1):
        lowest, highest = rows[side == s].min(axis=0), rows[side == s].max(axis=0)
        slack = float(np.abs(rows).max()) * 1e-5 + 1e-44
        assert (centroids[s] >= lowest - slack).all()
        assert (centroids[s] <= highest + slack).all()
    again = _kernels.split_two(rows, seed)
    assert (again[0] == centroids).all()
    assert (again[1] == side).all()


@pytest.mark.parametrize("sizes", [[100, 100], [120, 70], [67, 133], [26, 174]])
def test_split_finds_two_clusters(level: str, random: np.random.Generator, sizes: list[int]) -> None:
    rows, labels = blobs(random, sizes, 40)
    for seed in range(10):
        centroids, side = _kernels.split_two(rows, seed)
        assert (side == labels).all() or (side != labels).all()
        for s in (0, 1):
            np.testing.assert_allclose(centroids[s], rows[side == s].astype(np.float64).mean(axis=0), atol=1e-3)


def test_small_cluster_does_not_spoil_the_split(random: np.random.Generator) -> None:
    """The large cluster is cut through, and the small one stays whole: nobody is put with rows far away to fill up.

    (It comes apart where the plane between the sides happens to go through it.)
    """
    rows, labels = blobs(random, [190, 10], 40)
    whole = 0
    for seed in range(20):
        _, side = _kernels.split_two(rows, seed)
        whole += len(set(side[labels == 1].tolist())) == 1
        assert 25 <= int((side == 0).sum()) <= 175
        assert set(side[labels == 0].tolist()) == {0, 1}
    assert whole >= 17


@pytest.mark.parametrize("length", [1e6, 1e15, 1e30])
def test_split_is_not_by_outliers(random: np.random.Generator, length: float) -> None:
    """Two clusters are told apart whatever else there is."""
    rows, labels = blobs(random, [100, 100], 40)
    for row in random.permutation(200)[:10]:
        rows[row] = random.standard_normal(40) * length
        labels[row] = -1
    for seed in range(10):
        _, side = _kernels.split_two(rows, seed)
        right = (side == labels)[labels >= 0]
        assert max(right.mean(), 1 - right.mean()) > 0.95


def test_split_shares_out_equal_rows() -> None:
    """Rows in the middle of two unequal groups fill up the smaller one."""
    rows = np.repeat(np.array([[-1.0], [1.0]], np.float32), [20, 20], axis=0)
    _, side = _kernels.split_two(rows, 3)
    assert (side[:20] == side[0]).all()
    assert (side[20:] == 1 - side[0]).all()
    _, side = _kernels.split_two(np.zeros((9, 4), np.float32), 3)
    assert sorted([int((side == 0).sum()), int((side == 1).sum())]) == [4, 5]


@pytest.mark.parametrize("function", ["winnow_kmeans", "winnow_split_two"])
def test_tick_is_called(random: np.random.Generator, function: str) -> None:
    """About once per 8 million floats, whatever the shape of the work."""
    core, at = _kernels._core, _kernels._at
    rows = random.standard_normal((30000, 256)).astype(np.float32)
    n, dim = rows.shape
    calls = []
    tick = core.ffi.callback("void(void *)", lambda argument: calls.append(argument))
    centroids = np.empty((10, dim), np.float32)
    assign = np.empty(n, np.int32)
    if function == "winnow_kmeans":
        scratch = core.ffi.new("uint64_t[]", core.lib.winnow_kmeans_scratch_bytes(n, dim, 10) // 8 + 1)
        core.lib.winnow_kmeans(
            at("float *", rows),
            *(n, dim, 10, 3, 1),
            at("float *", centroids),
            at("int32_t *", assign),
            *(scratch, tick, core.ffi.NULL),
        )
        floats = n * dim * 10
    else:
        scratch = core.ffi.new("uint64_t[]", core.lib.winnow_split_scratch_bytes(n, dim) // 8 + 1)
        core.lib.winnow_split_two(
            at("float *", rows),
            *(n, dim, 1),
            at("float *", centroids),
            at("uint8_t *", assign),
            *(scratch, tick, core.ffi.NULL),
        )
        floats = n * dim * 4
    assert len(calls) >= floats // 2**23


def test_errors() -> None:
    rows = np.ones((3, 2), np.float32)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k is {k}: it must be between 1 and the number of rows, 3"):
            _kernels.kmeans(rows, k)
    with pytest.raises(ValueError, match="no rows to split"):
        _kernels.split_two(np.ones((0, 2)))
