"""The rivals: libraries in this process answer filters as the exact search does; a run takes any number of sides."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("rich")

from rich.console import Console
from rich.progress import Progress

from cluster import VERSION, Cluster
from pgwinnow.bench import datasets, inprocess, report
from pgwinnow.bench.curve import Point, trace
from pgwinnow.bench.datasets import Dataset
from pgwinnow.bench.filters import Columns
from pgwinnow.bench.inprocess import LIBRARIES, Library, LibraryContestant
from pgwinnow.bench.measure import LOOKED_AT, Contestant, Look, mean_recall, rotated
from pgwinnow.bench.prepared import BenchError
from pgwinnow.bench.rivals import CURVE_RECALLS, Effort, Ivfflat, Pgvector, Side, Winnow
from pgwinnow.bench.run import Options, run, search
from pgwinnow.bench.synthetic import generate
from pgwinnow.bench.truth import Exact, Judge
from pgwinnow.bench.workloads import Workload, make_workloads
from pgwinnow.types import Metric

ROWS = 1500


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("bench") / "small"
    generate(folder, ROWS, 16, queries=12, seed=3)
    return datasets.open_dataset(folder)


def library(name: str, metric: Metric = Metric.COSINE) -> Library:
    pytest.importorskip(LIBRARIES[name].module)
    return LIBRARIES[name](metric)


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")  # of faiss's SWIG, when it is loaded
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2, Metric.IP])
def test_libraries_search_under_filters(dataset: Dataset, name: str, metric: Metric) -> None:
    searched = library(name, metric)
    built = inprocess.build(searched, dataset)
    assert (built.side, built.index) == (name, name)
    assert built.size_bytes > dataset.base.nbytes * 0.9
    contestant = LibraryContestant(searched, Columns(dataset.attributes))
    exact = Exact(dataset, 10, metric=metric)
    best = searched.efforts()[-1]
    for workload in make_workloads(
        dataset, seed=1, patterns=["none", "EM own", "bucket 10 %", "R 0.1 %", "EMIS &&", "no limit*"]
    ):
        truth = exact.answer(workload)
        contestant.prepare(workload, exact)
        contestant.apply(best)
        answers = [contestant.ask(i)[0] for i in range(contestant.queries)]
        scores = [exact.score(workload, truth, i, ids) for i, ids in enumerate(answers)]
        assert not any(score.wrong for score in scores), workload.name
        assert mean_recall(scores) >= 0.95, workload.name
        look = contestant.look(range(2))
        assert (look.bitmap_milliseconds is None) == (workload.name == "none")


class Known(Contestant):
    """Finds as many of the exact answers as its effort says."""

    def __init__(self, name: str, found: list[int], dataset: Dataset) -> None:
        self.name, self.found, self.dataset = name, found, dataset
        self.queries = len(dataset.queries)
        self.effort = self.efforts()[0]

    def efforts(self) -> list[Effort]:
        return [Effort(str(each), {}) for each in self.found]

    curve_efforts = efforts

    def prepare(self, workload: Workload, judge: Judge) -> None:
        pass

    def apply(self, effort: Effort) -> None:
        self.effort = effort

    def ask(self, query: int) -> tuple[np.ndarray, float]:
        order = np.argsort(-(self.dataset.base @ self.dataset.queries[query]))
        return order[: int(self.effort.label)], 0.001 * int(self.effort.label)

    def look(self, queries: Sequence[int]) -> Look:
        return Look({}, 0.0, {})


def test_curves_stop_where_nothing_is_left_to_find(dataset: Dataset) -> None:
    sides = [Known("quick", [8, 10, 10], dataset), Known("slow", [1, 2, 3, 4], dataset), Known("short", [5], dataset)]
    exact = Exact(dataset, 10)
    workload = make_workloads(dataset, seed=1, patterns=["none"])[0]
    points = trace(sides, workload, exact, exact.answer(workload))
    found = [(point.side, round(point.recall, 6)) for point in points]
    assert found == [
        ("quick", 0.8),
        ("slow", 0.1),
        ("short", 0.5),
        ("quick", 1.0),
        ("slow", 0.2),
        ("slow", 0.3),
        ("slow", 0.4),
    ]
    assert points[0].milliseconds["p50"] == pytest.approx(8.0)
    assert [side.effort.label for side in sides] == ["8", "1", "5"]
    # All are done at once, with efforts left.
    assert len(trace(sides[:1], workload, exact, exact.answer(workload))) == 2


def test_what_is_shown_after_ctrl_c_is_kept(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*unused: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pgwinnow.bench.run.trace", interrupted)
    kept: list[int] = []
    options = Options(phases=["query"], curve=True, rounds=1, save=lambda results: kept.append(len(results.answers)))
    results, workloads = report.Results({}), make_workloads(dataset, seed=1, patterns=["none"])
    with pytest.raises(KeyboardInterrupt):
        search("", dataset, workloads, [Known("winnow", [10], dataset)], options, results, Progress(disable=True))
    assert kept == [len(results.answers)] == [1]


def test_workloads_without_limit_are_measured_once(dataset: Dataset) -> None:
    options = Options(phases=["query"], ks=[5, 10], rounds=1, curve=True)
    results, workloads = report.Results({}), make_workloads(dataset, seed=1, patterns=["none", "no limit*"])
    search("", dataset, workloads, [Known("winnow", [10], dataset)], options, results, Progress(disable=True))
    expected = [("none", 5), ("no limit 1 %", None), ("none", 10)]
    assert [(each.workload, each.k) for each in results.answers] == expected
    assert [(each.workload, each.k) for each in results.points] == expected
    console = Console(file=io.StringIO(), width=200)
    console.print(report.answers_table(results.answers, 0.9))
    assert "no limit 1 % (k" not in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
@pytest.mark.parametrize("name", LIBRARIES)
def test_more_effort_finds_more(dataset: Dataset, name: str) -> None:
    searched = library(name)
    inprocess.build(searched, dataset)
    contestant = LibraryContestant(searched, Columns(dataset.attributes))
    exact = Exact(dataset, 100)
    workload = make_workloads(dataset, seed=1, patterns=["bucket 10 %"])[0]
    truth = exact.answer(workload)
    contestant.prepare(workload, exact)
    before = contestant.effort
    points = trace([contestant], workload, exact, truth)
    assert contestant.effort is before
    assert points[-1].recall >= 0.95
    assert points[0].recall < points[-1].recall or len(points) == 1
    assert len(points) == len({point.effort for point in points})
    assert {point.expected for point in points} == {int(truth.expected.sum())}
    # Whoever has found everything climbs no further.
    assert not any(point.recall >= 0.9995 and point.returned == point.expected for point in points[:-1])


def test_vectors_are_prepared_for_the_metric() -> None:
    vectors = np.array([[3, 4], [0, 0]], dtype=np.float32)
    np.testing.assert_allclose(inprocess.prepared_vectors(vectors, Metric.COSINE), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(inprocess.prepared_vectors(vectors, Metric.L2), vectors)


def test_the_server_is_not_asked_for_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIBRARIES["usearch"], "module", "no_such_module")
    with pytest.raises(BenchError, match="usearch needs the module no_such_module") as caught:
        LIBRARIES["usearch"](Metric.COSINE)
    assert "pgwinnow[rivals]" in str(caught.value.hint)


def test_everybody_is_first_in_turn() -> None:
    orders = [rotated(range(3), turn) for turn in range(6)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert [order[0] for order in orders] == [0, 1, 2, 0, 1, 2]


def test_ivfflat_has_the_lists_that_are_recommended() -> None:
    side = Ivfflat(Metric.COSINE, 0.9)
    for rows, lists in ((500, 1), (63_000, 63), (1_000_000, 1000), (4_000_000, 2000)):
        assert side.vector_index(rows).sql.endswith(f"WITH (lists = {lists})")


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
def test_a_run_of_many_sides_with_curves(cluster: Cluster, dataset: Dataset, tmp_path: Path) -> None:
    servers: list[Side] = [Winnow(Metric.COSINE, 0.9)]
    if VERSION != 15:
        servers += [Pgvector(Metric.COSINE, 0.9), Ivfflat(Metric.COSINE, 0.9)]
    libraries = [library("faiss-hnsw")]
    options = Options(phases=["build", "query"], workloads=["none", "bucket 10 %"], recall=0.9, rounds=1, curve=True)
    results = run(cluster.server.dsn(), dataset, servers, options, Progress(disable=True), libraries)
    names = [*(side.name for side in servers), "faiss-hnsw"]
    assert {answer.side for answer in results.answers} == set(names)
    assert all(answer.wrong == 0 and answer.recall > 0.8 for answer in results.answers)
    bitmaps = {(each.side, each.workload): each.bitmap_milliseconds for each in results.answers}
    assert bitmaps["faiss-hnsw", "bucket 10 %"] is not None
    assert bitmaps["winnow", "bucket 10 %"] is None
    assert {build.side for build in results.builds} == set(names)
    if VERSION != 15:
        own = next(each for each in results.answers if each.side == "pgvector_ivfflat" and each.workload == "none")
        assert own.plans == {"pgvector_ivfflat": min(LOOKED_AT, len(dataset.queries))}
    # More recall asked for is more recall found, and nobody wants rows.
    for workload in ("none", "bucket 10 %"):
        points = [point for point in results.points if (point.side, point.workload) == ("winnow", workload)]
        efforts = [f"recall {recall:g}" for recall in CURVE_RECALLS]
        assert [point.effort for point in points] == efforts[: len(points)]
        assert all(point.returned == point.expected for point in points)
    assert results.environment["libraries"]["faiss-hnsw"]

    console = Console(file=io.StringIO(), width=200)
    report.show(results, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Recall against median time" in shown
    assert "for the filter's bitmap" in shown
    for rival in names[1:]:
        assert f"where winnow and {rival} reach it" in shown
    results.write(tmp_path / "results.json")
    assert report.Results.read(tmp_path / "results.json").as_json() == results.as_json()


def test_points_are_grouped_by_curve() -> None:
    def point(workload: str, side: str, effort: str) -> Point:
        return Point(workload, side, 10, effort, 1.0, 0.9, 10, 10, {"p50": 1.0})

    mixed = [
        point("none", "winnow", "1"),
        point("none", "pgvector", "1"),
        point("none", "winnow", "2"),
        point("R", "pgvector", "1"),
        point("none", "pgvector", "2"),
    ]
    ordered = [(each.workload, each.side, each.effort) for each in report.points_in_order(mixed)]
    assert ordered == [
        ("none", "winnow", "1"),
        ("none", "winnow", "2"),
        ("none", "pgvector", "1"),
        ("none", "pgvector", "2"),
        ("R", "pgvector", "1"),
    ]
