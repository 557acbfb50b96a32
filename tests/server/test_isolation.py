"""Concurrency tests: tests/isolation/specs against tests/isolation/expected, by PostgreSQL's isolation tester."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import Cluster, run_regression_test

INPUTS = Path(__file__).parents[1] / "isolation"
NAMES = sorted(path.stem for path in INPUTS.glob("specs/*.spec"))


@pytest.mark.parametrize("name", NAMES)
def test_isolation(cluster: Cluster, tmp_path: Path, name: str) -> None:
    differences = run_regression_test(cluster, "isolation/pg_isolation_regress", name, INPUTS, tmp_path)
    if differences is not None:
        pytest.fail(differences, pytrace=False)
