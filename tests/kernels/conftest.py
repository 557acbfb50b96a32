"""Tests of the C code for vectors, through pgwinnow._kernels."""

from __future__ import annotations

import numpy as np
import pytest

from pgwinnow import _kernels


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    if not _kernels.compiled():
        pytest.fail("the compiled kernels are missing: run 'python -m pgwinnow._kernels_build'")


@pytest.fixture
def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(params=_kernels.levels())
def level(request: pytest.FixtureRequest) -> object:
    """Run the test once per SIMD level of this machine."""
    before = _kernels.level()
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)
