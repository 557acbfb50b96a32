"""The benchmark of the vector instructions."""

import json
from pathlib import Path

from rich.progress import Progress
from typer.testing import CliRunner

from pgwinnow import _kernels
from pgwinnow.bench.cli import app
from pgwinnow.bench.kernels import FILTERS, Options, measure_kernels

SMALL = Options(dimensions=(48, 200), megabytes=1, seconds=0.0)


def test_all_kernels_at_all_levels() -> None:
    before = _kernels.level()
    times = measure_kernels(SMALL, Progress(disable=True))
    assert _kernels.level() == before
    found = {(each.kernel, each.dimensions, each.level) for each in times}
    wanted = [(kernel, 0) for kernel in FILTERS]
    wanted += [(kernel, dim) for kernel in ("estimate of a code", "distance of a vector") for dim in SMALL.dimensions]
    assert found == {(kernel, dim, level) for kernel, dim in wanted for level in _kernels.levels()}
    for each in times:
        assert each.nanoseconds > 0
        assert each.cached_nanoseconds > 0
        assert each.bytes_per_second > 0


def test_command(tmp_path: Path) -> None:
    out = tmp_path / "kernels.json"
    result = CliRunner().invoke(
        app, ["kernels", "--dims", "16", "--level", "scalar", "--megabytes", "1", "--json", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "estimate of a code" in result.output
    figures = json.loads(out.read_text())
    assert figures["memory_bytes_per_second"] > 0
    assert {each["level"] for each in figures["kernels"]} == {"scalar"}


def test_unknown_level() -> None:
    result = CliRunner().invoke(app, ["kernels", "--level", "mmx"])
    assert result.exit_code != 0
    assert "mmx" in str(result.exception)


def test_more_dimensions_than_a_vector_has() -> None:
    result = CliRunner().invoke(app, ["kernels", "--dims", "16,100000000"])
    assert "100000000 dimensions are more than a vector has" in str(result.exception)
