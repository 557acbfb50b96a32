"""The server process of a data folder: find it, stop it, kill it.

Run as a program, this file guards a throw-away server: it waits until its standard input ends, which happens when
the process that made the server closes it or is no more, and then removes the server and its folder.  It is started
by path, so it imports nothing of the package.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
GONE_WITHIN = 30.0
"""Seconds a killed process may take to disappear."""


@dataclass(frozen=True)
class Postmaster:
    """A running postmaster as its ``postmaster.pid`` describes it; fields it has not written yet are None."""

    process: psutil.Process
    port: int | None
    socket_dir: Path | None
    accepts_connections: bool


def find(data_dir: Path) -> Postmaster | None:
    """The postmaster that runs on ``data_dir``, or None; a left-over ``postmaster.pid`` does not count."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        if process.status() == psutil.STATUS_ZOMBIE or Path(process.cwd()) != data_dir.resolve():
            return None
    except (FileNotFoundError, PermissionError, IndexError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None  # AccessDenied: another user's process, which has got the number since
    fields = [line.strip() for line in lines] + [""] * 8
    return Postmaster(
        process=process,
        port=int(fields[3]) if fields[3] else None,
        socket_dir=Path(fields[4]) if fields[4] else None,
        accepts_connections=fields[7] in ("ready", "standby"),
    )


def forget_zombie(data_dir: Path) -> None:
    """Remove the lock files of a postmaster that died but was never reaped: PostgreSQL would take it for alive."""
    pid_file = data_dir / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        pid, _, _, port, socket_dir = (line.strip() for line in pid_file.read_text().splitlines()[:5])
        if psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE:
            pid_file.unlink()
            Path(socket_dir, f".s.PGSQL.{port}.lock").unlink(missing_ok=True)


def stop(postmaster: Postmaster, mode: str, timeout: float) -> bool:
    """Ask the postmaster to shut down; whether it did within ``timeout`` seconds."""
    with contextlib.suppress(psutil.NoSuchProcess):
        postmaster.process.send_signal(STOP_SIGNALS[mode])
    return _wait_for([postmaster.process], timeout)


def kill(postmaster: Postmaster) -> bool:
    """Kill the postmaster and then all its children, as a power failure would; whether all are gone."""
    processes = [postmaster.process]
    with contextlib.suppress(psutil.NoSuchProcess):
        postmaster.process.suspend()  # or it could start a child that is not in the list
        processes += postmaster.process.children(recursive=True)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return _wait_for(processes, GONE_WITHIN)


def _wait_for(processes: list[psutil.Process], timeout: float) -> bool:
    """Wait until no process is alive.  Ours are reaped; another's that nobody reaps is as good as gone."""
    deadline = time.monotonic() + timeout
    while any(_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _alive(process: psutil.Process) -> bool:
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return True
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=0)
    except psutil.NoSuchProcess:
        pass
    return False


def guard(data_dir: Path, folder: Path) -> None:
    """Wait for the end of standard input, then remove the server of ``data_dir`` and ``folder``."""
    sys.stdin.buffer.read()
    postmaster = find(data_dir)
    if postmaster is not None and not stop(postmaster, "immediate", timeout=5.0):
        kill(postmaster)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    guard(Path(sys.argv[1]), Path(sys.argv[2]))
