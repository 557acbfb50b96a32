"""Exact nearest neighbours, compiled and with numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgwinnow import _kernels

METRICS: list[_kernels.Metric] = ["l2", "ip", "cosine", "l1"]


def expected(
    queries: NDArray[np.float32], base: NDArray[np.float32], k: int, metric: str, mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    ids = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), np.inf)
    wide = base.astype(np.float64)
    for i, query in enumerate(queries.astype(np.float64)):
        if metric == "ip":
            found = -(wide @ query)
        elif metric == "l1":
            found = np.abs(wide - query).sum(axis=1)
        elif metric == "l2":
            found = np.sqrt(np.square(wide - query).sum(axis=1))
        else:
            found = 1 - wide @ query / (np.linalg.norm(wide, axis=1) * np.linalg.norm(query))
        wanted = np.ones(len(base), bool) if mask is None else mask if mask.ndim == 1 else mask[i]
        order = [j for j in np.lexsort((np.arange(len(base)), found)) if wanted[j]][:k]
        ids[i, : len(order)] = order
        distances[i, : len(order)] = found[order]
    return ids, distances


@given(data=st.data(), metric=st.sampled_from(["l2", "ip", "l1"]))
def test_exact_topk(data: st.DataObject, metric: _kernels.Metric) -> None:
    """Small whole numbers, so that distances are exact and many are equal."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    nqueries, n, dim = (data.draw(st.integers(0, top)) for top in (6, 80, 20))
    base = random.integers(-2, 3, (n, dim + 1)).astype(np.float32)
    queries = random.integers(-2, 3, (nqueries, dim + 1)).astype(np.float32)
    k = data.draw(st.integers(1, 12))
    shape = data.draw(st.sampled_from([None, (n,), (nqueries, n)]))
    mask = None if shape is None else random.random(shape) < data.draw(st.floats(0, 1))
    threads = data.draw(st.integers(1, 3))
    ids, distances = _kernels.exact_topk(queries, base, k, metric, mask, threads)
    want_ids, want_distances = expected(queries, base, k, metric, mask)
    assert (ids == want_ids).all()
    np.testing.assert_allclose(distances, want_distances, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_many_blocks(level: str, random: np.random.Generator, metric: _kernels.Metric) -> None:
    base = random.standard_normal((20000, 24)).astype(np.float32)
    queries = random.standard_normal((7, 24)).astype(np.float32)
    mask = random.random((7, 20000)) < 0.1
    ids, distances = _kernels.exact_topk(queries, base, 10, metric, mask)
    want_ids, want_distances = expected(queries, base, 10, metric, mask)
    np.testing.assert_allclose(distances, want_distances, rtol=1e-5, atol=1e-5)
    assert (ids == want_ids).mean() > 0.95, "more than rounding changes places"
    assert mask[np.arange(7)[:, np.newaxis], ids].all()


def test_nan_comes_last() -> None:
    base = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    ids, distances = _kernels.exact_topk([[1, 0]], base, 4, "cosine")
    assert ids.tolist() == [[1, 2, 0, -1]]
    assert np.isnan(distances[0, 2])
    assert distances[0, 3] == np.inf


def test_without_the_compiled_module(random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    base = random.standard_normal((300, 40)).astype(np.float32)
    mask = random.random(300) < 0.5

    def compute() -> list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]]:
        return [
            (*_kernels.exact_topk(base[:5], base, 7, metric, mask), _kernels.distances(base[0], base, metric))
            for metric in METRICS
        ]

    compiled = compute()
    monkeypatch.setattr(_kernels, "_core", None)
    monkeypatch.setattr(_kernels, "_warned", False)
    with pytest.warns(RuntimeWarning, match="numpy computes instead") as caught:
        by_numpy = compute()
    assert len(caught) == 1, "the notice is given once"
    for want, got in zip(compiled, by_numpy, strict=True):
        assert (got[0] == want[0]).mean() > 0.95
        np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(got[2], want[2], rtol=1e-4, atol=1e-4)
    assert _kernels.level() == "numpy"
    with pytest.raises(_kernels.KernelsMissing, match="encode needs the compiled kernels"):
        _kernels.encode(base, base[0])


def test_errors() -> None:
    base = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="no metric 'hamming': choose one of l2, ip, cosine, l1"):
        _kernels.exact_topk(base, base, 1, "hamming")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="queries have 2 dimensions and base has 3"):
        _kernels.exact_topk(np.ones((1, 2)), base, 1)
    with pytest.raises(ValueError, match="k is 0"):
        _kernels.exact_topk(base, base, 0)
    with pytest.raises(TypeError, match="mask is int64"):
        _kernels.exact_topk(base, base, 1, mask=np.ones(4, np.int64))
    with pytest.raises(ValueError, match=r"mask has shape \(3,\): it must be \(4,\) or \(4, 4\)"):
        _kernels.exact_topk(base, base, 1, mask=np.ones(3, bool))
    with pytest.raises(ValueError, match="query has shape"):
        _kernels.distances(base, base)
