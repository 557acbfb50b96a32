"""SQL tests: tests/regress/sql against tests/regress/expected, by PostgreSQL's pg_regress."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import Cluster, run_regression_test

INPUTS = Path(__file__).parents[1] / "regress"
NAMES = sorted(path.stem for path in INPUTS.glob("sql/*.sql"))


@pytest.mark.parametrize("name", NAMES)
def test_regress(cluster: Cluster, tmp_path: Path, name: str) -> None:
    differences = run_regression_test(cluster, "regress/pg_regress", name, INPUTS, tmp_path)
    if differences is not None:
        pytest.fail(differences, pytrace=False)
