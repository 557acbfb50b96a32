"""The embedded server itself: its life, its end, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

import pgwinnow
from cluster import VERSION, temporary_server
from patience import eventually
from pgwinnow._server import build, postmaster
from pgwinnow.server import BuildError, Server, ServerError

ROOT = Path(__file__).parents[2]


def test_survives_kill() -> None:
    with temporary_server() as server:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 100) AS i")
        server.kill()
        assert server.status == "stopped"
        server.start()
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (100,)


def test_start_and_stop_repeatedly() -> None:
    with temporary_server(work_mem="7MB") as server:
        states = [server.status]
        server.start()
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
        for change in (server.start, server.stop, server.stop, server.start):
            change()
            states.append(server.status)
        assert Server(server.data_dir, version=VERSION).dsn() == server.dsn()
    states.append(server.status)
    assert states == ["running", "running", "stopped", "stopped", "running", "absent"]
    assert not server.data_dir.parent.exists()


def test_temporary_server_ends_with_its_process() -> None:
    program = (
        "import os, signal\n"
        "from pgwinnow.server import Server\n"
        f"server = Server.temporary(version={VERSION})\n"
        "server.start()\n"
        "print(server.data_dir, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    data_dir = Path(done.stdout.strip())
    assert data_dir.name == "data", done.stderr
    eventually("the server's folder is removed", lambda: not data_dir.parent.exists())
    assert postmaster.find(data_dir) is None


def test_port_needs_a_password() -> None:
    with temporary_server() as server:
        server.stop()
        port = _free_port()
        listening = Server(server.data_dir, version=VERSION, port=port, assertions=True, fsync=False)
        with listening:
            psycopg.connect(listening.dsn()).close()
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(host="localhost", port=port, user="postgres", dbname="postgres")


def test_data_folder_of_another_version() -> None:
    with temporary_server() as server:
        server.stop()
        other = Server(server.data_dir, version=16 if VERSION != 16 else 18)
        with pytest.raises(ServerError, match=f"made by PostgreSQL {VERSION}, not {other.version}"):
            other.start()


def test_folder_of_something_else(tmp_path: Path) -> None:
    """It is refused, and stays whose it was."""
    (tmp_path / "thesis.txt").write_text("mine")
    before = tmp_path.stat()
    with pytest.raises(ServerError, match="holds files, but no database cluster"):
        Server(str(tmp_path)).start()
    assert (tmp_path.stat().st_uid, tmp_path.stat().st_mode) == (before.st_uid, before.st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_impossible_port() -> None:
    for port in (0, 65536):
        with pytest.raises(ValueError, match=f"a port is from 1 to 65535, not {port}"):
            Server(port=port)


def test_bad_setting_shows_the_log() -> None:
    with pytest.raises(ServerError, match='invalid value for parameter "work_mem"'):
        temporary_server(work_mem="plenty").__enter__()


def test_unknown_stop_mode() -> None:
    with pytest.raises(ValueError, match="'gently'; there are smart, fast, immediate"):
        Server(Path("/nonexistent")).stop("gently")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of an extension with one C file, built in a cache of its own; the file is returned."""
    extension = tmp_path / "source" / "extension"
    (extension / "src").mkdir(parents=True)
    (tmp_path / "source" / "sql").mkdir()
    for name in ("Makefile", "winnow.control"):
        (extension / name).write_bytes((ROOT / "extension" / name).read_bytes())
    for name in ("vector", "am", "attributes", "functions"):
        (tmp_path / "source" / "sql" / f"{name}.sql").write_text(f"-- {name}\n")
    monkeypatch.setenv("PGWINNOW_SOURCE", str(tmp_path / "source"))
    monkeypatch.setenv("PGWINNOW_CACHE_DIR", str(tmp_path / "cache"))
    code = extension / "src" / "code.c"
    code.write_text('#include "postgres.h"\n#include "fmgr.h"\nPG_MODULE_MAGIC;\n')
    return code


def test_build_follows_the_source(source: Path) -> None:
    first = build.install(VERSION, "plain")
    assert build.install(VERSION, "plain") == first
    assert build.install(VERSION, "assertions") != first
    original = source.read_text()
    source.write_text(original + "/* changed */\n")
    second = build.install(VERSION, "plain")
    assert second != first
    for installation in (first, second):
        assert len(list(installation.root.rglob("winnow.so"))) == 1
        assert len(list(installation.root.rglob("winnow--*.sql"))) == 1
    source.write_text(original)
    assert build.install(VERSION, "plain") == first


def test_compile_error_is_shown(source: Path) -> None:
    source.write_text("int broken(void) { return nothing; }\n")
    with pytest.raises(BuildError, match=r"src/code\.c:1:\d+: error: .*nothing"):
        build.install(VERSION, "plain")


def test_missing_compiler_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None if program == "gcc" else f"/usr/bin/{program}")
    with pytest.raises(BuildError, match=r"'gcc' is needed") as caught:
        build.install(VERSION, "plain")
    assert "apt-get install gcc" in (caught.value.hint or "")


def test_versions_agree() -> None:
    control = re.findall(r"^default_version = '(.*)'", (ROOT / "extension/winnow.control").read_text(), re.M)
    meta = json.loads((ROOT / "META.json").read_text())
    assert control == [pgwinnow.__version__] == [meta["version"]] == [meta["provides"]["winnow"]["version"]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
    return port


def test_a_pid_that_another_user_has_got_since_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
    monkeypatch.setattr(psutil.Process, "cwd", refuse)
    assert postmaster.find(tmp_path) is None
