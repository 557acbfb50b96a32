"""The benchmark: its filters against the server's, its exact answers, its data, and one small run of everything."""

from __future__ import annotations

import datetime
import io
import json
import random
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from cluster import VERSION, Cluster, temporary_server
from pgwinnow.bench import datasets, filters, loading, report, tables
from pgwinnow.bench.cli import app
from pgwinnow.bench.datasets import DataError, Dataset, Roles
from pgwinnow.bench.filters import And, AnyOf, Between, Columns, Compare, Contains, Filter, IsNull, Not, Or, Overlaps
from pgwinnow.bench.grow import grow
from pgwinnow.bench.measure import LOOKED_AT, ServerContestant, latencies, mean_recall, worst_decile
from pgwinnow.bench.rivals import Pgvector, Side, Winnow, numbers_of
from pgwinnow.bench.run import DATABASE, Options, connect, run
from pgwinnow.bench.synthetic import generate
from pgwinnow.bench.truth import Exact, Score
from pgwinnow.bench.upkeep import Plan
from pgwinnow.bench.workloads import Workload, make_workloads
from pgwinnow.errors import ServerError, WinnowError
from pgwinnow.types import Metric

ROWS = 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic data set."""
    out = tmp_path_factory.mktemp("bench") / "small"
    generate(out, ROWS, 16, queries=12, seed=3)
    return out


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return datasets.open_dataset(folder)


# Filters


def mixed_table(rng: random.Random, rows: int) -> pa.Table:
    """A table with NULLs everywhere, ties, empty sets, and awkward strings, numbers and names."""

    def some(values: list[object]) -> list[object]:
        return [None if rng.random() < 0.2 else rng.choice(values) for _ in range(rows)]

    return pa.table(
        {
            "kind": pa.array(some(["a", "b", 'c "quoted"', "back\\slash", ""]), pa.string()),
            "order": pa.array(some([1, 2, 3, 10, -5]), pa.int64()),
            'my "ratio" %': pa.array(some([0.5, 1.5, -2.0, 0.0, -0.0, np.nan, np.inf]), pa.float64()),
            "small": pa.array(some([0.1, -0.1, np.nan]), pa.float32()),
            "day": pa.array(some([datetime.date(2024, 1, day) for day in (1, 2, 3)]), pa.date32()),
            "tags": pa.array(some([[], ["x"], ["x", "y"], ["y,z", "x"], ['"']]), pa.list_(pa.string())),
        }
    )


def random_filter(rng: random.Random, depth: int) -> Filter:
    if depth and rng.random() < 0.6:
        parts = tuple(random_filter(rng, depth - 1) for _ in range(rng.randint(1, 3)))
        combined: list[Filter] = [And(parts), Or(parts), Not(parts[0])]
        return rng.choice(combined)
    kinds = ["a", "b", 'c "quoted"', "back\\slash", "", "absent"]
    days = [datetime.date(2024, 1, day) for day in range(1, 5)]
    tags = ["x", "y", "y,z", '"', "absent"]
    operator = rng.choice(["=", "<>", "<", "<=", ">", ">="])
    ratio, ratios = 'my "ratio" %', [-np.inf, -2.0, 0.0, 0.5, 1.0, np.inf, np.nan]  # in PostgreSQL's order
    leaves: list[Filter] = [
        Compare("kind", rng.choice(["=", "<>"]), rng.choice(kinds)),
        Compare("order", operator, rng.choice([1, 2, 3, 4])),
        Compare(ratio, operator, rng.choice(ratios)),
        Compare("small", operator, rng.choice([0.1, -0.1, np.nan])),
        Compare("day", operator, rng.choice(days)),
        Between("order", *sorted(rng.sample([-5, 1, 2, 3, 11], 2))),
        Between(ratio, *sorted(rng.sample(ratios, 2), key=ratios.index)),
        Between("day", *sorted(rng.sample(days, 2))),
        AnyOf("kind", tuple(rng.sample(kinds, 2))),
        AnyOf("order", tuple(rng.sample([1, 2, 3, 4], 2))),
        AnyOf(ratio, tuple(rng.sample(ratios, 2))),
        Overlaps("tags", tuple(rng.sample(tags, rng.randint(1, 3)))),
        Contains("tags", tuple(rng.sample(tags, rng.randint(1, 2)))),
        IsNull(rng.choice(["kind", "order", ratio, "small", "day", "tags"])),
    ]
    return rng.choice(leaves)


def test_filters_mean_what_the_server_means(connection: psycopg.Connection, seed: int) -> None:
    rng = random.Random(seed)
    table = mixed_table(rng, 200)
    columns = ", ".join(
        f"{filters.identifier(field.name)} {datasets.postgres_type(field.type)}" for field in table.schema
    )
    connection.execute(f"CREATE TABLE mixed (id bigint, {columns})")
    with connection.cursor() as cursor, cursor.copy("COPY mixed FROM STDIN") as copy:
        for place, row in enumerate(table.to_pylist()):
            copy.write_row((place, *row.values()))
    found = Columns(table)
    kept = []
    for _ in range(150):
        wanted = random_filter(rng, 3)
        values: list[str] = []
        sql = f"SELECT id FROM mixed WHERE {filters.to_sql(wanted, values)} ORDER BY id"
        result = connection.pgconn.exec_params(
            sql.replace("WHERE", "WHERE $1::int = 1 AND (").replace(" ORDER", ") ORDER").encode(),
            [b"1", *(value.encode() for value in values)],
        )
        assert not result.error_message, (sql, result.error_message)
        expected = [int(result.get_value(row, 0) or b"") for row in range(result.ntuples)]
        assert np.flatnonzero(filters.evaluate(wanted, found).true).tolist() == expected, (sql, values)
        kept.append(len(expected))
    assert any(0 < count < 200 for count in kept)


def test_taken_columns_answer_as_before(dataset: Dataset) -> None:
    wanted = Overlaps("categories", ("topic1", "topic2"))
    columns = Columns(dataset.attributes)
    rows = np.array([5, 3, 900, 3])
    np.testing.assert_array_equal(
        filters.evaluate(wanted, columns.take(rows)).true, filters.evaluate(wanted, columns).true[rows]
    )


# Workloads and exact answers


def test_roles_are_found(dataset: Dataset) -> None:
    assert dataset.roles == Roles("category", "updated", "categories", "bucket", "n_bytes")


def test_workloads_are_the_same_whichever_are_chosen(dataset: Dataset) -> None:
    everything = {each.name: each.filters for each in make_workloads(dataset, seed=1)}
    assert {"none", "EM farthest", "R 2 %", "EMIS @>", "bucket 10 %", "OR", "no limit 1 %"} <= set(everything)
    chosen = make_workloads(dataset, seed=1, patterns=["R *", "EM own"])
    assert all(everything[each.name] == each.filters for each in chosen)
    assert make_workloads(dataset, seed=2, patterns=["R 20 %"])[0].filters != everything["R 20 %"]
    with pytest.raises(DataError, match="no workload matches nothing"):
        make_workloads(dataset, seed=1, patterns=["nothing"])


def test_workloads_select_what_their_names_say(dataset: Dataset) -> None:
    columns = Columns(dataset.attributes)
    for name, share in (("R 50 %", 0.5), ("bucket 10 %", 0.1), ("residual 50 %", 0.5), ("none", 1.0)):
        workload = make_workloads(dataset, seed=1, patterns=[name])[0]
        parts = [1.0 if each is None else filters.evaluate(each, columns).true.mean() for each in workload.filters]
        assert np.mean(parts) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2, Metric.IP])
def test_exact_answers_and_their_scores(dataset: Dataset, metric: Metric, tmp_path: Path) -> None:
    exact = Exact(dataset, 10, metric=metric, cache=tmp_path)
    workload = make_workloads(dataset, seed=1, patterns=["R 20 %"])[0]
    truth = exact.answer(workload)
    for i, wanted in enumerate(workload.filters):
        assert wanted is not None
        passing = np.flatnonzero(filters.evaluate(wanted, Columns(dataset.attributes)).true)
        base, query = np.asarray(dataset.base, dtype=np.float64), dataset.queries[i].astype(np.float64)
        by_distance = {
            Metric.L2: np.linalg.norm(base - query, axis=1),
            Metric.IP: -base @ query,
            Metric.COSINE: 1 - base @ query / np.linalg.norm(base, axis=1) / np.linalg.norm(query),
        }[metric]
        order = passing[np.argsort(by_distance[passing], kind="stable")]
        assert truth.matching[i] == len(passing)
        assert truth.threshold[i] == pytest.approx(by_distance[order[9]], abs=1e-6)
        assert exact.score(workload, truth, i, order[:10]) == Score(1.0, 10, 10, 0)
        assert exact.score(workload, truth, i, order[1:11]).recall == pytest.approx(0.9)
        assert exact.score(workload, truth, i, order[:4]) == Score(0.4, 4, 10, 0)
        failing = np.setdiff1d(np.arange(ROWS), passing)[:2]
        assert exact.score(workload, truth, i, np.concatenate([order[:8], failing])).wrong == 2
        assert exact.score(workload, truth, i, np.repeat(order[:5], 2)).wrong == 5
    kept = Exact(dataset, 10, metric=metric, cache=tmp_path).answer(workload)
    np.testing.assert_array_equal(kept.threshold, truth.threshold)


def test_ties_count_whichever_row_came_back(dataset: Dataset) -> None:
    base = np.array(dataset.base)
    base[20:40] = base[20]
    twins = Dataset("twins", base, base[20:21], dataset.attributes, dataset.query_attributes.slice(0, 1), dataset.roles)
    exact = Exact(twins, 10)
    workload = make_workloads(twins, seed=1, patterns=["none"])[0]
    truth = exact.answer(workload)
    assert exact.score(workload, truth, 0, np.arange(25, 35)).recall == 1.0


@pytest.mark.filterwarnings("error")
def test_vectors_without_direction_come_last_and_count(dataset: Dataset) -> None:
    base = np.zeros((8, 2), np.float32)
    base[:3] = [[1, 0], [1, 1], [-1, 0]]
    queries = np.array([[1, 0], [0, 0]], np.float32)
    zeros = Dataset("zeros", base, queries, dataset.attributes.slice(0, 8), pa.table({}), dataset.roles)
    exact, workload = Exact(zeros, 5), Workload("none", (None, None))
    truth = exact.answer(workload)
    assert exact.score(workload, truth, 0, np.array([0, 1, 2, 6, 7])) == Score(1.0, 5, 5, 0)
    assert exact.score(workload, truth, 0, np.array([0, 1, 2])) == Score(0.6, 3, 5, 0)
    assert exact.score(workload, truth, 1, np.array([1, 2, 3, 4, 5])) == Score(1.0, 5, 5, 0)
    exact = Exact(zeros, 3)
    assert exact.score(workload, exact.answer(workload), 0, np.array([0, 1, 6])).recall == pytest.approx(2 / 3)


def test_summaries() -> None:
    scores = [Score(1.0, 10, 10, 0)] * 18 + [Score(0.5, 5, 10, 0), Score(0.3, 3, 10, 0), Score(float("nan"), 0, 0, 0)]
    assert mean_recall(scores) == pytest.approx((18 + 0.8) / 20)
    assert np.isnan(mean_recall(scores[-1:]))
    assert mean_recall([Score(float("nan"), 3, 0, 3)]) == 0
    assert worst_decile(scores) == pytest.approx(0.4)
    assert latencies([0.001] * 99 + [0.101])["mean"] == pytest.approx(2.0)
    assert numbers_of(["name", "value"], [("lists", 3), ("index", "text")]) == {"lists": 3.0}
    assert numbers_of(["lists", "rows", "index"], [(3, 4, "text")]) == {"lists": 3.0, "rows": 4.0}


# Data


def test_grown_rows_stay_near_real_ones(tmp_path: Path) -> None:
    source, rng = tmp_path / "source", np.random.default_rng(1)
    source.mkdir()
    vectors = rng.standard_normal((300, 24)).astype(np.float16)
    np.save(source / "embeddings.f16.npy", vectors)
    sizes = pa.array([None if i % 50 == 0 else 1000 + i for i in range(300)], pa.int32())
    pq.write_table(
        pa.table({"id": pa.array(range(300)), "size": sizes, "origin": pa.array(range(300))}),
        source / "attributes.parquet",
    )
    for name in ("one", "two"):
        assert grow(source, tmp_path / name, 900, held_out=40, seed=5, jitter="size") == 900
    first, second = (datasets.open_dataset(tmp_path / name) for name in ("one", "two"))
    np.testing.assert_array_equal(first.base, second.base)
    assert first.attributes.equals(second.attributes)
    assert first.fingerprint() == second.fingerprint()
    assert first.queries.shape == (40, 24)
    np.testing.assert_allclose(np.linalg.norm(first.base, axis=1), 1, atol=1e-5)
    real = first.base[:260]
    assert not np.isin(first.queries.round(4), real.round(4)).all(axis=1).any()
    # A mixed row is nearer to its own real row than to the neighbour it was mixed with, and equal to neither.
    place = {origin: row for row, origin in enumerate(first.attributes["origin"].to_pylist()[:260])}
    own = [place[origin] for origin in first.attributes["origin"].to_pylist()[260:]]
    likeness = np.einsum("ij,ij->i", first.base[260:], real[own])
    assert likeness.min() > 0.75
    assert likeness.max() < 0.9999
    sizes_of = first.attributes["size"].to_pylist()
    assert all(size in (None, 1000 + origin) for size, origin in zip(sizes_of[:260], place, strict=True))
    assert len(set(sizes_of[260:]) - set(sizes_of[:260])) > 200
    assert 0 < first.attributes["size"].null_count < 30
    assert set(first.attributes.column_names) == {"size", "origin", "bucket"}
    with pytest.raises(DataError, match="too few to hold out"):
        grow(source, tmp_path / "three", 900, held_out=295)


def test_folders_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a data set: base"):
        datasets.open_dataset(tmp_path)
    for name in (datasets.BASE, datasets.QUERIES):
        (tmp_path / name).symlink_to(folder / name)
    pq.write_table(pa.table({"a": [1]}), tmp_path / datasets.ATTRIBUTES)
    with pytest.raises(DataError, match="1500 vectors but 1 rows"):
        datasets.open_dataset(tmp_path)


# Everything


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--only", "build,fly"], "unknown phase fly"),
        (["run", "--only", ""], "names no phase"),
        (["run", "--json", "/proc/nowhere/results.json"], "cannot write results to /proc/nowhere/results.json"),
        (["kernels", "--json", "/"], "cannot write results to /: Is a directory"),
        (["run", "--table", "t", "--only", "vacuum", "--workload", "none"], "--table takes no --only, --workload"),
        (["run", "--table", "t", "--no-winnow"], "--table takes no --winnow/--no-winnow"),
        (["run", "--dsn", "dbname=x", "--keep"], "--dsn takes no --keep"),
        (["run", "--no-winnow", "--rival", "none"], "no side in the server is left"),
        (["run", "--rival", "none", "--rebuild", "pgvector"], "unknown side pgvector"),
        (["run", "--rival", "oracle"], "unknown rival oracle"),
        (["run", "--data", "/nowhere"], "/nowhere is not a data set"),
        (["data", "/nowhere", "/elsewhere"], "/nowhere must hold embeddings.f16.npy"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], message: str) -> None:
    with pytest.raises(WinnowError, match=message):
        app(arguments, standalone_mode=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--k", "0"],
        ["run", "--metric", "l1"],
        ["run", "--seed", "-3"],
        ["data", "a", "b", "--rows", "-5"],
        ["synthetic", "/etc/hostname"],
    ],
)
def test_values_out_of_range_are_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("command", ["run", "regress", "plot", "data", "synthetic", "load"])
def test_help_of_every_command_has_examples(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert "For example:" in shown.output
    assert f"pgwinnow bench {command} " in shown.output


def sides() -> list[Side]:
    rival: list[Side] = [] if VERSION == 15 else [Pgvector(Metric.COSINE, 0.9)]
    return [Winnow(Metric.COSINE, 0.9), *rival]


def test_a_run_measures_both_sides(cluster: Cluster, dataset: Dataset, tmp_path: Path) -> None:
    options = Options(
        workloads=["none", "EM *", "R 2 %", "EMIS &&", "no limit*"],
        recall=0.9,
        rounds=1,
        clients=2,
        client_seconds=0.05,
        insert_rows=20,
        insert_rounds=2,
        upkeep=Plan(seconds=0.05, copied=100, updated=10, writers=2),
        cache=tmp_path / "truth",
    )
    progress = Progress(disable=True)
    results = run(cluster.server.dsn(), dataset, sides(), options, progress)
    names = [side.name for side in sides()]
    assert {build.side for build in results.builds} == set(names)
    assert all(build.size_bytes > 0 for build in results.builds)
    for name in names:
        own = [answer for answer in results.answers if answer.side == name]
        assert {answer.workload for answer in own} >= {"none", "EM own", "EM farthest", "R 2 %", "no limit 1 %"}
        assert all(answer.wrong == 0 for answer in own)
        assert all(sum(answer.plans.values()) == min(LOOKED_AT, len(dataset.queries)) for answer in own)
    for answer in results.answers:
        if answer.side == "winnow":
            assert answer.returned == answer.expected, answer
            assert answer.recall >= 0.8, answer
    assert {each["clients"] for each in results.throughput} == {1, 2}
    assert all(each["queries_per_second"] > 0 for each in results.throughput)
    assert [cost.side for cost in results.inserts] == names
    assert all(cost.index_wal_bytes_per_row > 0 for cost in results.inserts)
    assert all(0 < cost.wal_bytes_per_row_again < cost.wal_bytes_per_row for cost in results.inserts)
    assert all(cost.deleted == ROWS // 20 for cost in results.vacuums)
    assert all(0 < cost.plain_wal_bytes < cost.wal_bytes for cost in results.vacuums)
    tasks = {(cost.side, cost.task, cost.clients): cost for cost in results.upkeep}
    for name in names:
        assert tasks[name, "COPY", 1].rows == 100
        assert all(tasks[name, "INSERT, a transaction each", clients].rows > 0 for clients in (1, 2))
        assert tasks[name, "UPDATE of an indexed column", 1].wal_bytes > 0
    assert [each.side for each in results.busy] == names

    console = Console(file=io.StringIO(), width=160)
    report.show(results, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for title in (
        "Indexes",
        "Searches at recall 0.9",
        "Where the time goes",
        "Throughput",
        "INSERT",
        "Upkeep",
        "VACUUM",
    ):
        assert title in shown
    results.write(tmp_path / "results.json")
    assert report.Results.read(tmp_path / "results.json").upkeep == results.upkeep
    assert len(json.loads((tmp_path / "results.json").read_text())["answers"]) == len(results.answers)

    # The table was changed by the write phases, so it is not taken over; afterwards it is.
    with psycopg.connect(cluster.server.dsn(), dbname=DATABASE) as connection:
        assert tables.comment_on(connection, "winnow_items") == tables.CHANGED
    again = Options(phases=["build"], reuse=True)
    builds = run(cluster.server.dsn(), dataset, sides(), again, progress).builds
    assert run(cluster.server.dsn(), dataset, sides(), again, progress).builds == builds
    rebuilt = Options(phases=["build"], reuse=True, rebuild=["winnow"])
    anew = run(cluster.server.dsn(), dataset, sides(), rebuilt, progress).builds
    assert anew[0] != builds[0]
    assert anew[1:] == builds[1:]

    # An index for another metric is another one.
    assert run(cluster.server.dsn(), dataset, [Winnow(Metric.IP, 0.9)], again, progress).builds[0] != anew[0]


def test_counters_are_those_of_the_search(cluster: Cluster, dataset: Dataset) -> None:
    side, exact = Winnow(Metric.COSINE, 0.9), Exact(dataset, 10)
    run(cluster.server.dsn(), dataset, [side], Options(phases=["build"]), Progress(disable=True))
    workload = make_workloads(dataset, seed=1, patterns=["none"])[0]
    with connect(cluster.server.dsn()) as connection:
        contestant = ServerContestant(side, connection)
        contestant.prepare(workload, exact)
        connection.execute("SET enable_seqscan = off")
        used = contestant.look(range(2))
        assert used.plans == {"winnow_index": 2}
        assert used.counters["lists_probed"] > 0
        connection.execute("SET enable_seqscan = on; SET enable_indexscan = off")
        assert contestant.look(range(2)).counters == {}


def test_fewer_queries_than_asked_for_are_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*unused: object, **named: object) -> None:
        raise WinnowError("that is far enough")

    monkeypatch.setattr("pgwinnow.bench.cli.run", stop)
    words = ["run", "--data", str(folder), "--rival", "none", "--dsn", "", "--queries"]
    assert "note: small has 12 queries, not 13; all are taken" in CliRunner().invoke(app, [*words, "13"]).output
    assert "note" not in CliRunner().invoke(app, [*words, "12"]).output


def test_a_setting_that_the_server_refuses_is_named() -> None:
    with pytest.raises(ServerError, match="did not start; its log") as caught, temporary_server(nonsense="1"):
        pass
    assert caught.value.hint == "It refuses the setting nonsense: correct it or leave it out."


def test_ways_to_load_give_equal_tables(cluster: Cluster, dataset: Dataset) -> None:
    loads = loading.compare_loads(cluster.server.dsn(), dataset, 200, 1, Progress(disable=True))
    assert set(loads.rows_per_second) == {loading.TEXT_ROWS, "binary COPY, row by row", "pgwinnow.load_files"}
    assert json.loads(loads.as_json())["rows"] == 200
