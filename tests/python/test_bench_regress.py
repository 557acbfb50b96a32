"""Comparing two runs: what counts as a regression, and what is only the machine."""

# ruff: noqa: E402 (imports come after the check that they can)

from __future__ import annotations

import copy
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
testing = pytest.importorskip("typer.testing")

from rich.console import Console

from pgwinnow.bench.cli import app
from pgwinnow.bench.curve import Point
from pgwinnow.bench.measure import Answer
from pgwinnow.bench.regress import Change, Comparison, compare, regress_table, summary
from pgwinnow.bench.report import Results, show
from pgwinnow.bench.tables import Build
from pgwinnow.bench.upkeep import BusySearch, UpkeepCost
from pgwinnow.bench.writes import InsertCost, VacuumCost
from pgwinnow.errors import WinnowError

WORKLOADS = ("none", "EM own")


def answer(side: str, workload: str, milliseconds: float) -> Answer:
    return Answer(
        workload=workload,
        side=side,
        k=10,
        effort="recall 0.95" if side == "winnow" else "ef 40",
        reached=True,
        matching=0.5,
        recall=0.96,
        worst_decile=0.8,
        returned=100,
        expected=100,
        wrong=0,
        milliseconds={
            name: milliseconds * factor for name, factor in (("mean", 1), ("p50", 1), ("p95", 2), ("p99", 3))
        },
        pages=10.0,
        plans={"index": 10},
        counters={},
    )


def made_run(sides: tuple[str, ...] = ("winnow", "pgvector")) -> Results:
    return Results(
        {"fingerprint": "f", "metric": "cosine", "recall": 0.95, "server": {"server_version": "18"}},
        builds=[
            Build(side, f"{side}_{n}", 3.0 + n, {"maintenance_work_mem": "1GB"}, 1000, 5000)
            for side in sides
            for n in range(2)
        ],
        answers=[answer(side, workload, 2.0) for workload in WORKLOADS for side in sides],
        throughput=[
            {"workload": "none", "k": 10, "side": side, "clients": 2, "queries_per_second": 100.0} for side in sides
        ],
        inserts=[InsertCost(side, 10, 1, 100.0, 300.0, 200.0, 100.0) for side in sides],
        vacuums=[VacuumCost(side, 50, 1.0, 4000, 1000) for side in sides],
    )


def slowed(results: Results, factor: float, side: str | None = None, workload: str | None = None) -> Results:
    """A copy in which searches take longer by the factor, everywhere or in one place."""
    return replace(
        results,
        answers=[
            replace(each, milliseconds={name: value * factor for name, value in each.milliseconds.items()})
            if side in (None, each.side) and workload in (None, each.workload)
            else each
            for each in results.answers
        ],
    )


def changed(results: Results, side: str, workload: str, **values: object) -> Results:
    """A copy in which one answer is another."""
    return replace(
        results,
        answers=[
            replace(each, **values) if (each.side, each.workload) == (side, workload) else each  # type: ignore[arg-type]
            for each in results.answers
        ],
    )


def found(comparison: Comparison) -> set[tuple[str, str, str]]:
    return {(each.side, each.where, each.name) for each in comparison.regressions}


def test_equal_runs_have_no_regression() -> None:
    comparison = compare(made_run(), made_run())
    assert not comparison.regressions
    assert {change.side for change in comparison.changes} == {"winnow", "pgvector"}
    assert not any(change.judged for change in comparison.changes if change.side == "pgvector")
    assert {"p50", "p99", "recall", "rows", "build", "size", "index WAL per row", "time", "WAL", "2 clients"} <= {
        change.name for change in comparison.changes
    }


def test_the_machines_drift_is_no_regression_and_does_not_hide_one() -> None:
    assert not compare(made_run(), slowed(made_run(), 1.5)).regressions
    assert not compare(made_run(), slowed(made_run(), 0.5)).regressions
    slower = slowed(slowed(made_run(), 0.5), 1.3, "winnow", "EM own")  # quicker by the clock, slower than it should be
    assert found(compare(made_run(), slower)) == {
        ("winnow", "EM own (k 10)", "p50"),
        ("winnow", "EM own (k 10)", "p99"),
    }
    assert not compare(made_run(), slower, tolerance=0.4).regressions


def test_without_a_rival_times_count_as_they_are() -> None:
    alone = made_run(("winnow",))
    comparison = compare(alone, slowed(made_run(), 1.2))
    assert found(comparison) == {("winnow", f"{name} (k 10)", part) for name in WORKLOADS for part in ("p50", "p99")}
    assert "no rival is in both runs" in "\n".join(summary(comparison))
    rival = made_run(("pgvector",))
    assert {side for side, _, _ in found(compare(rival, slowed(rival, 1.2)))} == {"pgvector"}


def test_a_rival_at_another_effort_is_no_yardstick() -> None:
    new = changed(slowed(made_run(), 1.5, "pgvector"), "pgvector", "none", effort="ef 400")
    comparison = compare(made_run(), new)
    drifts = {(each.where, each.name): each.drift for each in comparison.changes if each.side == "winnow"}
    assert drifts["none (k 10)", "p50"] is None
    assert drifts["EM own (k 10)", "p50"] == pytest.approx(1.5)
    text = "\n".join(summary(comparison))
    assert "pgvector, none (k 10): effort ef 40 before, ef 400 now" in text


@pytest.mark.parametrize(
    ("values", "name"),
    [({"recall": 0.94}, "recall"), ({"returned": 999, "expected": 1000}, "rows"), ({"wrong": 1}, "wrong rows")],
)
def test_lost_recall_missing_and_wrong_rows(values: dict[str, object], name: str) -> None:
    new = changed(made_run(), "winnow", "none", **values)
    assert found(compare(made_run(), new)) == {("winnow", "none (k 10)", name)}
    assert not compare(new, made_run()).regressions
    assert not compare(made_run(), changed(made_run(), "winnow", "none", recall=0.955)).regressions
    assert not compare(made_run(), changed(made_run(), "pgvector", "none", **values)).regressions


def test_recall_lost_at_another_effort() -> None:
    point = Point("none", "winnow", 10, "recall 0.8", 1.0, 0.85, 100, 100, {"p50": 1.0, "p99": 2.0})
    old, new = made_run(), made_run()
    old.points = [point, replace(point, side="pgvector", effort="ef 40")]
    new.points = [replace(each, recall=0.7, milliseconds={"p50": 9.0, "p99": 9.0}) for each in old.points]
    assert found(compare(old, new)) == {("winnow", "none (k 10) at recall 0.8", "recall")}


def test_bytes_count_and_a_build_taken_over_is_no_second_measurement() -> None:
    new = copy.deepcopy(made_run())
    new.builds = [
        replace(each, size_bytes=9000, seconds=each.seconds * 1.5) for each in new.builds if each.side == "winnow"
    ]
    new.builds += [each for each in made_run().builds if each.side == "pgvector"]
    new.vacuums = [replace(each, wal_bytes=8000) for each in new.vacuums]
    new.inserts = [replace(each, wal_bytes_per_row=400.0) for each in new.inserts]
    comparison = compare(made_run(), new)
    assert found(comparison) == {
        ("winnow", "indexes", "size"),
        ("winnow", "indexes", "build"),
        ("winnow", "vacuum of 50 rows", "WAL"),
        ("winnow", "vacuum of 50 rows", "index WAL"),
        ("winnow", "insert", "index WAL per row"),
    }
    build = next(each for each in comparison.changes if (each.side, each.name) == ("winnow", "build"))
    assert (build.old, build.drift) == (7.0, None)
    assert "for want of a drift (pgvector not measured again, or at another effort):[/] indexes" in "\n".join(
        summary(comparison)
    )


def test_wal_without_page_images_counts_where_both_runs_have_it() -> None:
    old, new = made_run(), made_run()
    new.inserts = [
        replace(each, wal_bytes_per_row_again=90.0, plain_wal_bytes_per_row_again=60.0) for each in new.inserts
    ]
    assert not compare(old, new).regressions
    worse = replace(new, inserts=[replace(each, wal_bytes_per_row_again=110.0) for each in new.inserts])
    assert found(compare(new, worse)) == {("winnow", "insert", "the same again")}


def test_what_is_missing_is_noted() -> None:
    less = made_run()
    less.answers = [each for each in less.answers if each.workload != "none"]
    text = "\n".join(compare(made_run(), less).notes)
    assert "winnow: not in the new run: none (k 10)" in text


def test_runs_over_other_data_are_refused() -> None:
    other = made_run()
    other.environment["fingerprint"] = "g"
    with pytest.raises(WinnowError, match="different data: fingerprint f before, g now"):
        compare(made_run(), other)
    with pytest.raises(WinnowError, match="nothing in common"):
        compare(made_run(("winnow",)), made_run(("pgvector",)))


def test_runs_over_a_table_are_compared_where_they_asked_the_same() -> None:
    old, new = made_run(), slowed(made_run(), 2.0, "winnow")
    old.environment["fingerprint"] = {"none": "a", "EM own": "b"}
    new.environment["fingerprint"] = {"EM own": "b", "price < $price": "c", "none": "a"}
    assert compare(old, new).regressions
    new.environment["fingerprint"]["none"] = "d"
    with pytest.raises(WinnowError, match="different data: fingerprint none a before, d now") as caught:
        compare(old, new)
    assert "--table" in str(caught.value.hint)
    assert "--queries" in str(caught.value.hint)


def test_table_shows_what_changed_or_everything() -> None:
    comparison = compare(made_run(), changed(slowed(made_run(), 2.0), "winnow", "none", recall=0.5))
    assert regress_table(comparison).row_count == 1
    assert regress_table(comparison, everything=True).row_count == len(comparison.changes)
    console = Console(file=io.StringIO(), width=160)
    console.print(regress_table(comparison))
    assert "less" in console.file.getvalue()  # type: ignore[attr-defined]


def test_direction_of_nothing_to_something() -> None:
    change = Change("winnow", "indexes", "size", "size", 0.0, 10.0, None, True)
    assert change.direction(0.1, 0.01) == 1


def test_exit_status_of_the_command(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("old.json", "same.json", "worse.json")]
    for file, results in zip(files, (made_run(), made_run(), slowed(made_run(), 2.0, "winnow")), strict=True):
        results.write(file)
        assert Results.read(file).as_json() == results.as_json()
    runner = testing.CliRunner()
    assert runner.invoke(app, ["regress", str(files[0]), str(files[1])]).exit_code == 0
    worse = runner.invoke(app, ["regress", str(files[0]), str(files[2])])
    assert worse.exit_code == 1
    assert "slower" in worse.output
    (tmp_path / "none.json").write_text("[]")
    none = runner.invoke(app, ["regress", str(files[0]), str(tmp_path / "none.json")])
    assert none.exit_code == 2
    assert "no results in" in none.output


def test_upkeep_and_searches_meanwhile_are_compared() -> None:
    old = replace(
        made_run(),
        upkeep=[UpkeepCost("winnow", "COPY", 1, 100, 1.0, 4000), UpkeepCost("winnow", "VACUUM", 1, 0, 0.0, 0)],
        busy=[BusySearch("winnow", "bucket 1 %", {"p50": 1.0, "p99": 2.0}, {"p50": 1.0, "p99": 3.0}, 2)],
    )
    assert not compare(old, old).regressions
    new = replace(
        old,
        upkeep=[replace(old.upkeep[0], seconds=50.0, wal_bytes=200_000), old.upkeep[1]],
        busy=[replace(old.busy[0], busy={"p50": 1.0, "p99": 300.0})],
    )
    assert found(compare(old, new)) == {
        ("winnow", "COPY, 1 client", "time per row"),
        ("winnow", "COPY, 1 client", "WAL per row"),
        ("winnow", "bucket 1 %, while 2 clients insert", "p99"),
    }


def test_a_run_that_answered_nothing_is_no_division_by_zero() -> None:
    stuck = replace(made_run(), throughput=[{**each, "queries_per_second": 0.0} for each in made_run().throughput])
    assert ("winnow", "none (k 10)", "2 clients") in found(compare(made_run(), stuck))


def test_results_are_json_that_others_read_too(tmp_path: Path) -> None:
    run = changed(made_run(), "winnow", "none", worst_decile=math.nan)
    run.write(tmp_path / "run.json")
    json.loads((tmp_path / "run.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert math.isnan(Results.read(tmp_path / "run.json").answers[0].worst_decile)


def test_a_narrow_table_names_every_workload() -> None:
    for width, headers in ((80, {"workload", "ratio"}), (160, {"workload", "ratio", "effort", "p95"})):
        console = Console(width=width, file=io.StringIO())
        show(made_run(), console)
        assert isinstance(console.file, io.StringIO)
        table = console.file.getvalue().partition("Searches at recall")[2].partition("Where the time goes")[0]
        assert {header for header in ("workload", "ratio", "effort", "p95") if header in table} == headers
        assert all(f"{workload} (k 10)" in table for workload in WORKLOADS)


def test_text_of_a_filter_is_no_markup() -> None:
    odd = made_run()
    odd.answers = [replace(each, workload="name ~ '[/]' AND x <> '[/b]'") for each in odd.answers]
    odd.environment["command"] = "pgwinnow bench run --filter \"name ~ '[a-z]+' OR name ~ '[/]'\""
    console = Console(width=200, file=io.StringIO())
    show(odd, console)
    assert isinstance(console.file, io.StringIO)
    assert "name ~ '[a-z]+' OR name ~ '[/]'" in console.file.getvalue()
    assert "name ~ '[/]' AND x <> '[/b]'" in console.file.getvalue()
