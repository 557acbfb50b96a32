"""An embedded PostgreSQL server with winnow installed.

A :class:`Server` needs no installation and no configuration: it takes PostgreSQL from a Python wheel (or from
Debian's packages for version 15), compiles the extension on first use, creates the data folder and starts the
server.  It listens on a Unix socket inside its data folder, which only its owner can enter.

    >>> with Server.temporary() as server:
    ...     connection = psycopg.connect(server.dsn())

A server made with :class:`Server` itself is persistent: ``start()`` leaves it running after this process, ``stop()``
ends it.  One made with :meth:`Server.temporary` disappears with this process, whatever way that ends.

Environment: ``PGWINNOW_CACHE_DIR`` (binaries and builds), ``PGWINNOW_PG<version>_BIN`` (take this PostgreSQL),
``PGWINNOW_SOURCE`` (folder that holds the extension's sources).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

import psycopg.conninfo

from pgwinnow.errors import BuildError, MissingExtra, ServerError

try:
    import platformdirs

    from pgwinnow._server import account, build, postmaster
    from pgwinnow._server.binaries import Installation, cache_dir
except ModuleNotFoundError as missing:
    raise MissingExtra(missing.name or "psutil", "server") from missing

__all__ = ["BuildError", "Server", "ServerError", "Status"]

Status = Literal["absent", "stopped", "starting", "running"]

USER = "postgres"
DEFAULT_PORT = 5432
START_TIMEOUT = 300.0
"""Seconds; the start includes crash recovery."""
STOP_TIMEOUT = 120.0
SOCKET_PATH_LIMIT = 100
"""Bytes; operating systems allow 103 to 107."""

DEFAULT_SETTINGS = {
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "random_page_cost": "1.1",
    "jit": "off",
}
SETTINGS_FILE = "pgwinnow.conf"


class Server:
    """A PostgreSQL server with winnow, found by its data folder."""

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        version: int = 18,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        assertions: bool = False,
        sanitizers: bool = False,
        fsync: bool = True,
    ) -> None:
        """Describe a server; nothing happens until :meth:`start`.

        :param data_dir: the cluster's folder, created when absent; None is the user's default for ``version``
        :param version: PostgreSQL's major version: 18 or 16 (from the wheel), 15 (from Debian)
        :param port: also listen on localhost at this TCP port, where a password is needed; None: Unix socket only
        :param settings: server settings that take effect at the next start, over winnow's defaults
        :param assertions: compile the extension with assertions
        :param sanitizers: compile the extension with AddressSanitizer and UndefinedBehaviorSanitizer (and assertions)
        :param fsync: False for data that may be lost with the machine
        """
        if port is not None and not 0 < port < 65536:
            raise ValueError(f"a port is from 1 to 65535, not {port}")
        self.data_dir = Path(data_dir or _default_data_dir(version)).absolute()
        self.version = version
        self.user = USER
        self.port = port or DEFAULT_PORT
        self.socket_dir = _socket_dir(self.data_dir, self.port)
        self.log_path = self.data_dir / "server.log"
        self._flavour: build.Flavour = "asan" if sanitizers else "assertions" if assertions else "plain"
        self._listens_on_tcp = port is not None
        self._settings = {
            **DEFAULT_SETTINGS,
            **({} if fsync else {"fsync": "off"}),
            **(settings or {}),
        }
        self._installation: Installation | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._adopt_running()

    @classmethod
    def temporary(
        cls,
        *,
        version: int = 18,
        settings: Mapping[str, str] | None = None,
        assertions: bool = False,
        sanitizers: bool = False,
    ) -> Server:
        """A throw-away server in a folder of its own, to be used as a context manager.

        It is removed when the context ends or this process does.  Data is not flushed to disk (fsync is off), which
        a crash of the server survives and a crash of the machine does not.
        """
        folder = Path(tempfile.mkdtemp(prefix="pgwinnow-")).resolve()
        account.own_folder(folder, account.server_account(folder))
        server = cls(
            folder / "data",
            version=version,
            settings=settings,
            assertions=assertions,
            sanitizers=sanitizers,
            fsync=False,
        )
        server._guard = subprocess.Popen(
            [sys.executable, postmaster.__file__, server.data_dir, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        return server

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        """Stop the server; a temporary one is removed by its guard."""
        self.stop("fast" if self._guard is None else "immediate")
        if self._guard is not None:
            self._guard.communicate()
            self._guard = None

    @property
    def status(self) -> Status:
        """``absent`` (no cluster in the data folder), ``stopped``, ``starting`` or ``running``."""
        running = postmaster.find(self.data_dir)
        if running is not None:
            return "running" if running.accepts_connections else "starting"
        return "stopped" if (self.data_dir / "PG_VERSION").exists() else "absent"

    @property
    def bin_dir(self) -> Path:
        """Folder of PostgreSQL's programs in the installation this server runs; builds it when there is none."""
        if self._installation is None:
            self._installation = build.install(self.version, self._flavour)
        return self._installation.bin_dir

    def dsn(self, dbname: str = "postgres") -> str:
        """Connection string (libpq keywords) for ``dbname`` through the server's socket."""
        return psycopg.conninfo.make_conninfo(host=str(self.socket_dir), port=self.port, user=self.user, dbname=dbname)

    def start(self) -> None:
        """Start the server unless it runs.

        Installs PostgreSQL and builds the extension when needed, creates the data folder when needed.  A server that
        runs an older build of the extension is restarted.
        """
        self._check_version()
        installation = build.install(self.version, self._flavour)
        name = hashlib.sha256(bytes(self.data_dir)).hexdigest()[:12]
        with build.lock(f"data-{name}"):
            running = postmaster.find(self.data_dir)
            if running is not None and not Path(running.process.exe()).is_relative_to(installation.root):
                self.stop()
                running = None
            self._installation = installation
            if running is None:
                self._create_cluster()
                self._launch()
            self._wait_until_ready()
            self._adopt_running()

    def stop(self, mode: str = "fast") -> None:
        """Stop the server if it runs; ``mode`` is smart, fast or immediate as for pg_ctl."""
        if mode not in postmaster.STOP_SIGNALS:
            raise ValueError(f"unknown way to stop a server: {mode!r}; there are {', '.join(postmaster.STOP_SIGNALS)}")
        running = postmaster.find(self.data_dir)
        if running is not None and not postmaster.stop(running, mode, STOP_TIMEOUT):
            raise ServerError(
                f"the server of {self.data_dir} did not stop within {STOP_TIMEOUT:.0f} s",
                f"See {self.log_path}, or stop it with mode 'immediate'.",
            )
        self._reap()

    def kill(self) -> None:
        """Kill the server's processes at once (SIGKILL) and wait until they are gone: a crash, for tests."""
        running = postmaster.find(self.data_dir)
        if running is not None and not postmaster.kill(running):
            raise ServerError(
                f"the server of {self.data_dir} survives SIGKILL: the operating system holds its processes"
            )
        self._reap()

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs as the server's user and return what it printed."""
        done = subprocess.run(
            [self.bin_dir / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            env=account.environment(),
            check=False,
            **account.process_options(account.server_account(self.data_dir)),
        )
        if done.returncode != 0:
            raise ServerError(f"{program} failed with exit status {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    def psql(self, *arguments: str, dbname: str = "postgres") -> int:
        """Run psql on this process's terminal and return its exit status."""
        command: list[str | Path] = [self.bin_dir / "psql", "--dbname", self.dsn(dbname), *arguments]
        return subprocess.run(command, env=account.environment(), check=False).returncode

    def _adopt_running(self) -> None:
        """Take over where a server that runs already listens."""
        running = postmaster.find(self.data_dir)
        if running is not None and running.port is not None and running.socket_dir is not None:
            self.port = running.port
            self.socket_dir = running.socket_dir

    @property
    def cluster_version(self) -> int | None:
        """The major version that made the data folder; None where there is no cluster yet."""
        file = self.data_dir / "PG_VERSION"
        return int(file.read_text()) if file.exists() else None

    def _create_cluster(self) -> None:
        """Make the data folder with initdb unless it holds a cluster already."""
        if self.cluster_version is None and self.data_dir.is_dir() and any(self.data_dir.iterdir()):
            raise ServerError(
                f"folder {self.data_dir} holds files, but no database cluster",
                "Name another folder: a cluster is made in one that is empty or not there yet.",
            )
        account.own_folder(self.data_dir, account.server_account(self.data_dir))
        if (self.data_dir / "PG_VERSION").exists():
            return
        self.run(
            "initdb",
            f"--pgdata={self.data_dir}",
            f"--username={USER}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--lc-ctype=C.UTF-8",
            "--data-checksums",
            *([] if self._settings.get("fsync") != "off" else ["--no-sync"]),
        )
        with (self.data_dir / "postgresql.conf").open("a") as configuration:
            configuration.write(f"\n# Written at every start by pgwinnow:\ninclude_if_exists = '{SETTINGS_FILE}'\n")

    def _check_version(self) -> None:
        found = self.cluster_version
        if found not in (None, self.version):
            raise ServerError(
                f"data folder {self.data_dir} was made by PostgreSQL {found}, not {self.version}",
                f"Ask for version {found} or name another data folder.",
            )

    def _launch(self) -> None:
        owner = account.server_account(self.data_dir)
        self._reap()
        postmaster.forget_zombie(self.data_dir)
        account.own_folder(self.socket_dir, owner)
        settings = {
            "listen_addresses": "localhost" if self._listens_on_tcp else "",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
            **self._settings,
        }
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
        settings_path = self.data_dir / SETTINGS_FILE
        settings_path.write_text("".join(lines))
        with self.log_path.open("ab") as log:
            if owner is not None:
                for path in (settings_path, self.log_path):
                    os.chown(path, owner.uid, owner.gid)
            self._process = subprocess.Popen(
                [self.bin_dir / "postgres", "-D", self.data_dir],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=account.environment(**self._sanitizer_environment()),
                start_new_session=True,
                **account.process_options(owner),
            )

    def _sanitizer_environment(self) -> dict[str, str]:
        if self._flavour != "asan":
            return {}
        return {
            "LD_PRELOAD": str(build.sanitizer_library()),
            # PostgreSQL frees little before it ends, and it must not outlive an error.
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:handle_segv=0",
            "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while self.status != "running":
            died = self._process is not None and self._process.poll() is not None
            if died or time.monotonic() > deadline:
                what = "did not start" if died else f"did not become ready within {START_TIMEOUT:.0f} s"
                words = self.log_path.read_text(errors="replace").splitlines()[-20:]
                refused = [name for name in self._settings if any(f'parameter "{name}"' in word for word in words)]
                raise ServerError(
                    f"the server of {self.data_dir} {what}; its log {self.log_path} ends:\n" + "\n".join(words),
                    f"It refuses the setting {', '.join(refused)}: correct it or leave it out." if refused else None,
                )
            time.sleep(0.02)

    def _reap(self) -> None:
        """Collect the exit status of a postmaster that this process started and that has ended."""
        if self._process is not None:
            self._process.wait()
            self._process = None


def _default_data_dir(version: int) -> Path:
    if os.geteuid() == 0:
        base = Path("/var/lib/pgwinnow")
        if not base.exists():
            base.mkdir(parents=True)
            base.chmod(0o755)
    else:
        base = platformdirs.user_data_path("pgwinnow")
    return base / f"postgresql-{version}"


def _socket_dir(data_dir: Path, port: int) -> Path:
    """The data folder itself, or where its path is too long for a socket a short one derived from it."""
    if len(bytes(data_dir / f".s.PGSQL.{port}")) <= SOCKET_PATH_LIMIT:
        return data_dir
    name = hashlib.sha256(bytes(data_dir)).hexdigest()[:12]
    return cache_dir() / "sockets" / name


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
