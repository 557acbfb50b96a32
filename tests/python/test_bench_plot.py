"""Pictures and the page of a run: what is in them, and that the page needs nothing from elsewhere."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("matplotlib")
testing = pytest.importorskip("typer.testing")

from rich.table import Table  # noqa: E402

from pgwinnow.bench import cli, plot  # noqa: E402
from pgwinnow.bench.curve import Point  # noqa: E402
from pgwinnow.bench.page import html_table, write_page  # noqa: E402
from pgwinnow.bench.report import Results  # noqa: E402
from pgwinnow.bench.upkeep import BusySearch, UpkeepCost  # noqa: E402
from pgwinnow.errors import WinnowError  # noqa: E402

from .test_bench_regress import made_run  # noqa: E402

PNG = b"\x89PNG\r\n\x1a\n"


def with_points(results: Results) -> Results:
    points = [
        Point("none", side, 10, f"effort {n}", 1.0, recall, 100 - (n == 0), 100, {"p50": 1.0 + n, "p99": 4.0})
        for side in ("winnow", "pgvector")
        for n, recall in enumerate((0.8, 0.9, 0.99))
    ]
    return replace(results, points=points)


class Page(HTMLParser):
    """Tags with their attributes, and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_complete_and_needs_nothing(tmp_path: Path) -> None:
    odd = made_run()
    odd.environment["command"] = "pgwinnow <script>alert(1)</script>"
    steps: list[tuple[int, int]] = []
    runs = [("one", with_points(made_run())), ("two", odd)]
    page = write_page(runs, tmp_path / "new" / "plots", lambda done, total: steps.append((done, total)))
    text = page.read_text()
    parsed = Page(text)
    assert not parsed.open
    pictures = [attrs for tag, attrs in parsed.tags if tag in ("img", "source")]
    files = sorted(page.parent.glob("*.png"))
    assert len(pictures) == 2 * len(files)
    assert steps == [(done, len(files)) for done in range(len(files) + 1)]
    for attrs in pictures:
        kind, _, data = str(attrs.get("src") or attrs["srcset"]).partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(PNG)
    # Each light picture of the page is one of the files.
    light = {base64.b64decode(attrs["src"].partition(",")[2]) for attrs in pictures if "src" in attrs}
    assert light == {file.read_bytes() for file in files}
    assert {file.name for file in files} == {
        *(f"{name}-{chart}.png" for name in ("one", "two") for chart in ("ratios", "ranges", "costs")),
        "one-curve-none-k10.png",
        "two-curve-none-k10.png",
        "two-curve-em-own-k10.png",
    }
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in parsed.tags
    assert "prefers-color-scheme: dark" in text
    assert re.search(r"^body \{[^}]* overflow-wrap: anywhere;", text, re.M)
    without_data = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|url\(|<link|<script|@import", without_data)
    assert not re.search(r"[^-]width: *\d+px", without_data)
    assert "&lt;script&gt;" in text
    tables = [tag for tag, _ in parsed.tags if tag == "table"]
    assert len(tables) == 2 * 7 + 1


def test_charts_show_what_was_measured() -> None:
    run = with_points(made_run())
    sides = plot.side_order([run])
    assert sides == ["winnow", "pgvector"]
    drawn = {chart.name: chart.draw(plot.LIGHT) for chart in plot.charts(run, sides)}

    lines = [line for line in drawn["curve-none-k10"].axes[0].lines if len(line.get_xdata()) > 1]  # type: ignore[arg-type]
    assert [list(line.get_xdata()) for line in lines] == [[0.8, 0.9, 0.99]] * 2  # type: ignore[arg-type]
    marks = [line for line in drawn["curve-none-k10"].axes[0].lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type]
    assert [mark.get_markerfacecolor() == plot.LIGHT.ground for mark in marks] == [True, False, False] * 2

    ratios = drawn["ratios"].axes[0]
    assert ratios.get_xscale() == "log"
    assert [label.get_text() for label in ratios.get_yticklabels()] == ["none", "EM own"]
    assert any(list(line.get_xdata()) == [1, 1] for line in ratios.lines)  # type: ignore[arg-type]
    titles = [axes.get_title(loc="left") for axes in drawn["costs"].axes]
    assert "building the indexes, s" in titles
    assert "WAL of VACUUM, MB" in titles
    bars = drawn["costs"].axes[0].patches
    assert [bar.get_width() for bar in bars] == [7.0, 7.0]  # type: ignore[attr-defined]


def test_bars_of_ratios_start_at_one_and_fade_without_equal_recall() -> None:
    run = made_run()
    run.answers = [
        replace(each, milliseconds={**each.milliseconds, "mean": 1.0}, recall=0.5) if each.side == "pgvector" else each
        for each in run.answers
    ]
    figure = plot.ratios(run, ["winnow", "pgvector"])(plot.DARK)
    bars = figure.axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(1, -0.5)] * 2  # type: ignore[attr-defined]
    assert {bar.get_alpha() for bar in bars} == {plot.FADED}


def test_one_side_alone_has_no_ratios() -> None:
    alone = made_run(("winnow",))
    assert "ratios" not in [chart.name for chart in plot.charts(alone, ["winnow"])]
    empty = Results({"recall": 0.95})
    assert plot.charts(empty, ["winnow"]) == []


def test_filters_are_drawn_as_they_are(tmp_path: Path) -> None:
    filters = ("a_b = $a_b AND c__d = $c__d", "price < $price AND category = $category AND " * 5 + "true")
    run = made_run()
    run.answers = [replace(each, workload=filters[n // 2]) for n, each in enumerate(run.answers)]
    chart = plot.ratios(run, ["winnow", "pgvector"])(plot.LIGHT)
    shown = [label.get_text() for label in chart.axes[0].get_yticklabels()]
    assert shown[0].replace("\n", " ") == filters[0]
    assert all(len(line) <= plot.NAME_WIDTH for name in shown for line in name.split("\n"))
    assert "\u2026" in shown[1]
    assert "true" in shown[1]
    assert write_page([("one", run)], tmp_path).is_file()


def test_upkeep_is_drawn() -> None:
    run = made_run()
    run.upkeep = [UpkeepCost(side, "COPY", 1, 100, 1.0, 4000) for side in ("winnow", "pgvector")]
    run.busy = [BusySearch("winnow", "bucket 1 %", {"p50": 1.0, "p99": 2.0}, {"p50": 1.0, "p99": 3.0}, 2)]
    panels = dict(plot.cost_panels(run))
    assert panels["COPY: ms a row"] == {"winnow": 10.0, "pgvector": 10.0}
    assert panels["99th percentile of a search while 2 clients insert, ms"] == {"winnow": 3.0}


def test_what_has_no_matches_is_not_drawn() -> None:
    run = made_run()
    run.answers = [replace(each, recall=math.nan) if each.workload == "none" else each for each in run.answers]
    drawn = {chart.name: chart for chart in plot.charts(run, ["winnow", "pgvector"])}
    assert set(drawn) == {"ratios", "ranges", "curve-em-own-k10", "costs"}
    labels = drawn["ratios"].draw(plot.LIGHT).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["EM own"]


def test_what_took_no_time_is_not_drawn() -> None:
    run = made_run()
    run.inserts = [replace(each, rows_per_second=0.0) for each in run.inserts]
    run.upkeep = [UpkeepCost("winnow", "COPY", 1, 100, 0.0, 4000)]
    assert not {"time to insert a row, ms", "COPY: ms a row"} & set(dict(plot.cost_panels(run)))


def test_red_cells_are_marked() -> None:
    table = Table(title="a < b")
    table.add_column("name")
    table.add_column("value", justify="right")
    table.add_row("x & y", "[bold red]3 wrong[/]")
    assert html_table(table) == (
        '<div class="scroll"><table><caption>a &lt; b</caption>'
        '<thead><tr><th>name</th><th class="number">value</th></tr></thead>'
        '<tbody><tr><td>x &amp; y</td><td class="number bad">3 wrong</td></tr></tbody></table></div>'
    )


@pytest.mark.parametrize(("name", "expected"), [("EMIS &&", "emis-overlaps"), ("R 0.1 %", "r-0.1-percent")])
def test_names_of_files(name: str, expected: str) -> None:
    assert plot.slug(name) == expected


def test_command(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        made_run().write(tmp_path / folder / "run.json")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "holiday.png").touch()
    done = testing.CliRunner().invoke(cli.app, ["plot", str(tmp_path / "a/run.json"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    written = len(list((tmp_path / "out").glob("run-*.png")))
    assert f"and {written} pictures beside it" in " ".join(done.output.split())
    assert (tmp_path / "out" / "index.html").is_file()
    with pytest.raises(WinnowError, match="several files are called run"):
        cli.app(
            ["plot", str(tmp_path / "a/run.json"), str(tmp_path / "b/run.json"), "--out", str(tmp_path)],
            standalone_mode=False,
        )
