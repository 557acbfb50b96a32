"""Comparing two runs: what counts as a regression, and what is only the machine."""

# ruff: noqa: E402 (imports come after the check that they can)

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
testing = pytest.importorskip("typer.testing")

from rich.console import Console

from pgwinnow._cli_common import plain
from pgwinnow.bench import cli
from pgwinnow.bench.cli import app
from pgwinnow.bench.curve import Point
from pgwinnow.bench.measure import Answer
from pgwinnow.bench.regress import Change, Comparison, compare, regress_table, summary
from pgwinnow.bench.report import Results, show, verdict
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


NO_RUNS = {
    "": "no results in",
    "[]": "holds no run",
    '"run"': "holds no run",
    "{}": "holds no run",
    '{"environment": 3}': "holds no run",
    "[" * 10_000: "no results in",
}


@pytest.mark.parametrize("content", NO_RUNS)
def test_what_is_no_run(tmp_path: Path, content: str) -> None:
    run, none = tmp_path / "run.json", tmp_path / "none.json"
    made_run().write(run)
    none.write_text(content)
    for words in (["regress", str(run), str(none)], ["plot", str(none), "--out", str(tmp_path)]):
        with pytest.raises(WinnowError, match=NO_RUNS[content]):
            Results.read(none)
        done = testing.CliRunner().invoke(app, words)
        assert done.exit_code == (2 if words[0] == "regress" else 1)
        assert isinstance(done.exception, (SystemExit, WinnowError))


def everywhere(kept: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of values in JSON, of lists those of the first."""
    places = kept.items() if isinstance(kept, dict) else enumerate(kept[:1]) if isinstance(kept, list) else ()
    for name, value in places:
        yield (*path, name)
        yield from everywhere(value, (*path, name))


def test_runs_that_are_not_whole_are_refused_or_read(tmp_path: Path) -> None:
    """Any one value is missing or another: read as a run that can be shown and compared, or refused with a message."""
    whole = made_run()
    whole.answers, whole.builds = whole.answers[:2], whole.builds[::2]
    whole.points = [Point("none", "winnow", 10, "recall 0.8", 1.0, 0.85, 100, 100, dict(whole.answers[0].milliseconds))]
    whole.upkeep = [UpkeepCost(side, "COPY", 1, 100, 1.0, 4000) for side in ("winnow", "pgvector")]
    whole.busy = [BusySearch("winnow", "bucket 1 %", {"p50": 1.0, "p99": 2.0}, {"p50": 1.0, "p99": 3.0}, 2)]
    whole.environment["memory_bytes_per_second"] = 1e9
    whole.answers[0] = replace(whole.answers[0], counters={"lists_needed": 3.0, "lists_probed": 4.0})
    original, file = plain(whole.as_json()), tmp_path / "run.json"
    assert original["answers"][0].pop("milliseconds")["p50"] == 2.0
    file.write_text(json.dumps(original))
    with pytest.raises(WinnowError, match=r"is not whole: answers\[0\] has no 'milliseconds'"):
        Results.read(file)
    odd: list[Any] = [-1, math.nan, True, [], {}]
    for wrong in odd:
        original["answers"][0]["milliseconds"] = {"mean": 1.0, "p50": 1.0, "p95": wrong, "p99": 1.0}
        file.write_text(json.dumps(original))
        with pytest.raises(WinnowError, match=r"is not whole: answers\[0\]: 'milliseconds': 'p95' is"):
            Results.read(file)
    original, refused = plain(whole.as_json()), 0
    missing = object()
    for place in everywhere(original):
        for value in (missing, None, "x", 0):
            broken = copy.deepcopy(original)
            holder = functools.reduce(lambda each, name: each[name], place[:-1], broken)
            if value is missing:
                del holder[place[-1]]
            else:
                holder[place[-1]] = value
            file.write_text(json.dumps(broken))
            read = None
            with contextlib.suppress(WinnowError):
                read = Results.read(file)
            if read is None:
                refused += 1
                continue
            show(read, Console(file=io.StringIO(), width=160))
            with contextlib.suppress(WinnowError):  # that they are not comparable
                list(summary(compare(whole, read)))
    assert refused > 250


def test_regress_ends_with_1_for_what_is_worse_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_run().write(tmp_path / "run.json")
    monkeypatch.setattr(cli, "regress_table", None)
    done = testing.CliRunner().invoke(app, ["regress", str(tmp_path / "run.json"), str(tmp_path / "run.json")])
    assert done.exit_code == 2
    assert "TypeError" in done.output


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


def test_pages_are_said_to_count_each_time() -> None:
    console = Console(width=160, file=io.StringIO())
    show(made_run(), console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().partition("Where the time goes")[2]
    assert "a page counts each time it is accessed" in shown
    assert "page accesses" in shown


def test_filters_that_match_nothing_are_not_measured() -> None:
    run = made_run()
    nothing = [
        replace(each, recall=math.nan, worst_decile=math.nan, returned=0, expected=0, queries=20, answered=0)
        for each in made_run().answers[2:]
    ]
    run.answers = [replace(each, queries=20, answered=15) for each in run.answers[:2]] + nothing
    console = Console(width=160, file=io.StringIO())
    show(run, console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    (line,) = (line for line in shown.splitlines() if "EM own (k 10)" in line)
    assert "no matches" in line
    assert "1.000" not in line
    assert "15 of 20 queries have matches" in shown
    assert "winnow: recall 0.95 on 1 of 1 workloads" in shown
    assert "reach it (1 workloads)" in shown
    assert not [change for change in compare(run, run).changes if change.where == "EM own (k 10)"]
    run.answers = nothing
    assert verdict(run.answers, 0.95) == []
    show(run, console)


def test_sentences_name_k_where_there_are_several() -> None:
    answers = changed(made_run(), "winnow", "none", recall=0.5).answers
    answers += [answer("winnow", "no limit 1 %", 2.0), answer("pgvector", "no limit 1 %", 1.0)]
    answers[-2:] = [replace(each, k=None) for each in answers[-2:]]
    one = "\n".join(verdict(answers, 0.95))
    assert "(missed: none)" in one
    assert "pgvector is quicker on: no limit 1 % (0.50)" in one
    missing = changed(made_run(), "winnow", "EM own", returned=1).answers
    answers += [replace(each, k=100, milliseconds={"mean": 2.0 - (each.side != "winnow")}) for each in missing]
    several = "\n".join(verdict(answers, 0.95))
    assert "(missed: none (k 10))" in several
    assert "too few rows on: EM own (k 100)" in several
    assert "quicker on: no limit 1 % (0.50), none (k 100) (0.50), EM own (k 100) (0.50)" in several


def test_text_of_a_filter_is_no_markup() -> None:
    odd = made_run()
    odd.answers = [replace(each, workload="name ~ '[/]' AND x <> '[/b]'") for each in odd.answers]
    odd.environment["command"] = "pgwinnow bench run --filter \"name ~ '[a-z]+' OR name ~ '[/]'\""
    console = Console(width=200, file=io.StringIO())
    show(odd, console)
    assert isinstance(console.file, io.StringIO)
    assert "name ~ '[a-z]+' OR name ~ '[/]'" in console.file.getvalue()
    assert "name ~ '[/]' AND x <> '[/b]'" in console.file.getvalue()
