"""The command line: what it prints, its JSON, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest

import pgwinnow
from pgwinnow.embed import LocalModel

from .fake import FakeModel

pytest.importorskip("pyarrow")
testing = pytest.importorskip("typer.testing")

from pgwinnow import cli  # noqa: E402

Connection = psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """No command loads the real model."""
    model = FakeModel(dimensions=4)

    def embed(self: LocalModel, texts: list[str]) -> npt.NDArray[np.float32]:
        return model.embed(texts)

    monkeypatch.setattr(LocalModel, "embed", embed)
    return model


@pytest.fixture
def run(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command line in this process, with the database by way of --dsn."""

    def run(*arguments: str | Path, dsn: str | None = dsn) -> Any:
        words = [str(argument) for argument in arguments]
        if dsn is not None:
            words += ["--dsn", dsn]
        monkeypatch.setattr(sys, "argv", ["pgwinnow", *words])
        monkeypatch.setenv("COLUMNS", "200")
        return testing.CliRunner().invoke(cli.app, words)

    return run


@pytest.fixture
def items(run: Any, tmp_path: Path) -> Any:
    lines = [{"id": n, "body": f"text {n}", "price": n / 2, "embedding": [n, 1, 1, 1]} for n in range(1, 41)]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert run("load", tmp_path / "items.jsonl", "-t", "items", "--create").exit_code == 0


def test_from_files_to_an_answer(run: Any, tmp_path: Path, fake_model: FakeModel) -> None:
    (tmp_path / "a.csv").write_text("id,body,price\n" + "".join(f"{n},text {n},{n}.5\n" for n in range(30)))
    np.save(tmp_path / "a.npy", np.ones((30, 2), np.float32))
    loaded = run("load", tmp_path / "a.npy", "--table", "items", "--create", "--vector", "v", "--type", "price=numeric")
    assert loaded.exit_code == 0, loaded.output
    assert "a.npy" in loaded.output
    assert "30 rows committed" in loaded.output
    embedded = run("embed", "--table", "items", "--text", "body", "--create")
    assert "items.embedding: 30 rows embedded with all-MiniLM-L6-v2" in embedded.output
    created = run("index", "create", "--table", "items", "--columns", "price,body")
    assert "index items_embedding_price_body_idx on items is built" in created.output
    answered = run(
        "query", "text 7", "--table", "items", "--where", "price < 20", "-k", "2", "--columns", "body", "--json"
    )
    assert answered.exit_code == 0, answered.output
    rows = json.loads(answered.output)["rows"]
    assert len(rows) == 2
    assert rows[0] == {"body": "text 7", "distance": pytest.approx(0, abs=1e-6)}


def test_query_prints_a_table_a_plan_and_counters(run: Any, items: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c enable_seqscan=off -c enable_sort=off")
    run("index", "create", "-t", "items", "--columns", "price")
    output = run("query", "x", "-t", "items", "--where", "price < 5", "-k", "3", "--explain", "--recall", "1").output
    assert "distance" in output
    assert "counter" in output
    assert "Execution Time" in output


def test_json_of_every_command(run: Any, items: None, tmp_path: Path) -> None:
    def result(*arguments: str | Path) -> Any:
        done = run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    assert result("load", tmp_path / "items.jsonl", "-t", "items")["rows"] == 40
    assert result("embed", "-t", "items", "--text", "body", "--vector", "e", "--create") == {
        "table": "items",
        "vector": "e",
        "model": "all-MiniLM-L6-v2",
        "rows": 80,
    }
    assert result("index", "create", "-t", "items", "--name", "i") == {"index": "i", "table": "items"}
    assert set(result("query", "x", "-t", "items", "--explain")) == {"rows", "plan", "last_scan"}
    assert result("check", "--index", "i", "--heap") == {"index": "i", "sound": True}


def test_resume(run: Any, items: None, tmp_path: Path) -> None:
    arguments = ("load", tmp_path / "items.jsonl", "-t", "items", "--resume")
    assert "40 rows committed" in run(*arguments).output
    assert "was loaded before, passed over" in run(*arguments).output


def test_failure_is_a_message_a_hint_and_exit_code_1(run: Any, items: None, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.ones((1, 4), np.float32))
    np.save(tmp_path / "bad.npy", np.full((1, 4), np.inf, np.float32))
    failed = run("load", tmp_path / "good.npy", tmp_path / "bad.npy", "-t", "items")
    assert failed.exit_code == 1
    assert "1 rows committed" in failed.stdout
    assert "error: " in failed.stderr
    assert "row 1, column 'embedding'" in failed.stderr
    assert "Loaded before it: " in failed.stderr
    assert "Traceback" not in failed.output


def test_json_has_no_nan(run: Any, items: None, connection: Connection) -> None:
    connection.execute("UPDATE items SET embedding = '[0,0,0,0]', price = 'NaN' WHERE id = 1")
    connection.commit()
    answered = run("query", "x", "-t", "items", "--where", "id = 1", "--columns", "price,embedding", "--json")
    row = json.loads(answered.stdout, parse_constant=pytest.fail)["rows"][0]
    assert row == {"price": None, "embedding": [0, 0, 0, 0], "distance": None}


def test_failure_in_json(run: Any, items: None) -> None:
    failed = run("query", "x", "-t", "nothing", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["error"] == "there is no table nothing in this database"
    assert (
        "search failed: column"
        in json.loads(run("query", "x", "-t", "items", "--where", "y", "--json").stdout)["error"]
    )


def test_a_file_for_json_does_not_make_errors_json(run: Any, tmp_path: Path) -> None:
    failed = run("bench", "run", "--only", "nonsense", "--json", tmp_path / "out.json", dsn=None)
    assert failed.exit_code != 0
    assert "nonsense" in failed.stderr
    assert not failed.stdout.startswith("{")


def test_query_prints_values_whole(run: Any, items: None, connection: Connection) -> None:
    """Also what is wider than the terminal, which has 200 columns here."""
    connection.execute("UPDATE items SET body = repeat('x', 500), price = 1234567.89 WHERE id = 1")
    connection.commit()
    answered = run("query", "x", "-t", "items", "--where", "id = 1", "--columns", "body,price")
    assert answered.stdout.count("x") == 500
    assert "1234567.89" in answered.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("load",),
        ("query", "x"),
        ("query", "x", "-t", "items", "--recall", "1.5"),
        ("query", "x", "-t", "items", "-k", "0"),
        ("index", "create", "-t", "items", "--metric", "dot"),
        ("load", "x.npy", "-t", "items", "--type", "price"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Any, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("start", "--port", "0"),
        ("start", "--port", "65536"),
        ("start", "--set", "work_mem"),
        ("stop", "--mode", "gently"),
    ],
)
def test_wrong_usage_of_server_commands(run: Any, command: str, option: str, value: str) -> None:
    refused = run("server", command, option, value, dsn=None)
    assert refused.exit_code == 2
    assert option in refused.stderr


def test_unreachable_database(run: Any) -> None:
    failed = run("query", "x", "-t", "items", dsn="host=/nowhere")
    assert failed.exit_code == 1
    assert "cannot connect" in failed.stderr


def test_database_from_the_environment(run: Any, items: None, connection: Connection, monkeypatch: Any) -> None:
    info = connection.info
    for name, value in [("HOST", info.host), ("PORT", info.port), ("USER", info.user), ("DATABASE", info.dbname)]:
        monkeypatch.setenv(f"PG{name}", str(value))
    assert run("query", "x", "-t", "items", dsn=None).exit_code == 0


def test_no_database_at_all(run: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("pgwinnow._connect._LIBPQ", ())
    monkeypatch.setattr("pgwinnow.server._default_data_dir", lambda version: tmp_path / "none")
    failed = run("query", "x", "-t", "items", dsn=None)
    assert failed.exit_code == 1
    assert "pgwinnow server start" in failed.stderr


def test_help_of_every_command_has_examples(run: Any) -> None:
    for command in (["load"], ["embed"], ["index", "create"], ["query"], ["check"]):
        shown = run(*command, "--help", dsn=None)
        assert shown.exit_code == 0
        assert "For example:" in shown.output
        assert f"pgwinnow {' '.join(command)} " in shown.output


def test_mounted_commands(run: Any, tmp_path: Path) -> None:
    status = run("server", "status", "--data-dir", tmp_path / "none", "--json", dsn=None)
    assert status.exit_code == 3
    assert "pgwinnow server" in run("server", "--help", dsn=None).output


def test_missing_extra_is_named(run: Any, monkeypatch: Any) -> None:
    def import_module(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr("pgwinnow.cli.importlib.import_module", import_module)
    failed = run("bench", dsn=None)
    assert failed.exit_code == 1
    assert "'matplotlib'" in failed.stderr
    assert "pip install 'pgwinnow[bench]'" in failed.stderr


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from pgwinnow.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'pyarrow', 'torch', 'sqlalchemy', 'pgwinnow.server', 'pgwinnow.load'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_load_without_pyarrow_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['pyarrow'] = None\n"
        "from pgwinnow.cli import app\n"
        "app(['load', 'x.csv', '-t', 'x', '--dsn', ''])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: this needs the Python module 'pyarrow'" in done.stderr
    assert "pip install 'pgwinnow[io]'" in done.stderr


def test_public_names_are_there() -> None:
    assert all(getattr(pgwinnow, name) is not None for name in pgwinnow.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pgwinnow.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("words", "function"),
    [
        (["server", "status"], "pgwinnow._cli_server._report"),
        (["demo"], "pgwinnow.demo.cli.run"),
        (["bench", "kernels"], "pgwinnow.bench.kernels.run"),
        (["check", "--index", "i", "--dsn", ""], "pgwinnow.index.check_index"),
    ],
)
def test_ctrl_c_is_said(monkeypatch: pytest.MonkeyPatch, words: list[str], function: str) -> None:
    def interrupted(*unused: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(function, interrupted)
    done = testing.CliRunner().invoke(cli.app, words)
    assert done.exit_code == 130
    assert "error: interrupted" in done.output
