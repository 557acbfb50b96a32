"""The grid over plans: its data and filters, what counts as a choice, and one small run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import psycopg
import pytest
from rich.console import Console

from cluster import Cluster
from pgwinnow.bench import plans
from pgwinnow.bench.cli import app, numbers
from pgwinnow.bench.plans import OTHER, SEQUENTIAL, STATISTICS, WINNOW, Point
from pgwinnow.errors import WinnowError

ROWS = 2000


def test_filters_let_their_share_pass() -> None:
    data, conditions = plans.make_data(ROWS, 8, 4, 1)
    columns = data.attributes.to_pydict()
    for condition in conditions:
        for query in range(4 if condition.values(0) else 0):
            values = condition.values(query)
            if condition.name in ("near", "far"):
                passed = [int(values[0]) <= value <= int(values[1]) for value in columns["place"]]
            elif condition.name == "label":
                passed = [value == values[0] for value in columns["label"]]
            elif condition.name == "tags":
                passed = [values[0].strip("{}") in value for value in columns["tags"]]
            else:
                passed = [value < int(values[0]) for value in columns[condition.sql.split()[0]]]
            drawn = condition.name in ("label", "tags")
            assert sum(passed) == pytest.approx(
                ROWS * condition.share, rel=0.3 if drawn else 0, abs=9 if drawn else 0.5
            )


def test_near_rows_are_nearer_than_far_ones() -> None:
    data, conditions = plans.make_data(ROWS, 32, 20, 1)
    place = data.attributes["place"].to_numpy()
    distances = np.linalg.norm(data.base[None] - data.queries[:, None], axis=2)
    mean = {}
    for condition in conditions:
        if condition.name in ("near", "far") and condition.share == 0.01:
            ranges = [map(int, condition.values(query)) for query in range(20)]
            passed = np.array([(first <= place) & (place <= last) for first, last in ranges])
            mean[condition.name] = distances[passed].mean()
    assert mean["near"] < mean["far"]


def test_kinds_of_plans() -> None:
    sort = {"Node Type": "Sort"}
    limit = {"Node Type": "Limit"}
    winnow = {"Node Type": "Index Scan", "Index Name": plans.WINNOW_INDEX}
    bitmap = {
        "Node Type": "Bitmap Heap Scan",
        "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "plans_tags"}],
    }
    assert plans.kind_of({**limit, "Plans": [winnow]}) == WINNOW
    assert plans.kind_of({**limit, "Plans": [{**sort, "Plans": [bitmap]}]}) == OTHER
    assert plans.kind_of({**limit, "Plans": [{**sort, "Plans": [{"Node Type": "Seq Scan"}]}]}) == SEQUENTIAL


def test_verdict() -> None:
    points = [Point(1, 1, "none", 1, 1, slowdown={"analyzed": slowdown}) for slowdown in (1.0, 1.05, 1.2, 4.0)]
    verdict = plans.judge(points, "analyzed", 0.1)
    assert (verdict.points, verdict.quickest, verdict.worst) == (4, 0.5, 4.0)


def test_a_run_tries_every_kind(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "plans.json"
    grid = f"--rows {ROWS} --dims 16 --k 3,2000 --queries 1 --rounds 1"
    arguments = ["plans", "--dsn", cluster.server.dsn(), *grid.split()]
    app([*arguments, "--json", str(file)], standalone_mode=False)

    raw = json.loads(file.read_text())
    assert set(raw["verdicts"]) == set(STATISTICS)
    points = [Point(**each) for each in raw["points"]]
    assert {(point.rows, point.dimensions, point.k) for point in points} == {(ROWS, 16, 3), (ROWS, 16, 2000)}
    for point in points:
        kinds = {WINNOW, SEQUENTIAL} if point.condition == "none" else {WINNOW, OTHER, SEQUENTIAL}
        assert set(point.milliseconds) == set(point.costs) == kinds, point
        assert set(point.chosen) == set(point.slowdown) == set(STATISTICS)
        assert set(point.chosen.values()) <= kinds
        assert point.quickest in kinds
        assert min(point.slowdown.values()) >= 1
    with psycopg.connect(cluster.server.dsn(), dbname="winnow_bench") as connection:
        assert connection.execute("SELECT to_regclass(%s)", (plans.TABLE,)).fetchone() == (None,)

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(plans.verdict_table(points, 0.0))
    console.print(plans.misses_table(points, -1.0, most=3))
    assert f"{ROWS:,} x 16" in console.export_text()


@pytest.mark.parametrize("text", ["", "1,,2", "x", "0", "-1", "1.5"])
def test_lists_of_numbers(text: str) -> None:
    assert numbers("10, 1_000") == [10, 1000]
    with pytest.raises(WinnowError, match="not a positive number"):
        numbers(text)
