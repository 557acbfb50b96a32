"""Compiling the extension and installing it into a private copy of PostgreSQL.

An installation is named by what went into it: a hash over the extension's sources, the flavour and the server.
It is never changed once it is there, so running servers keep the code they were started with.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import fasteners
import psutil

from pgwinnow._server.binaries import Installation, cache_dir, duplicate, private_copy
from pgwinnow.errors import BuildError, ServerError

Flavour = Literal["plain", "assertions", "asan"]

MAKE_VARIABLES: dict[Flavour, list[str]] = {"plain": [], "assertions": ["ASSERTIONS=1"], "asan": ["ASAN=1"]}
SOURCE_PATTERNS = ("extension/Makefile", "extension/winnow.control", "extension/src/**/*.[ch]", "sql/*.sql")
UNUSED_AFTER = 3600.0
"""Seconds after which an installation that no process uses is removed."""


def install(version: int, flavour: Flavour) -> Installation:
    """The installation of PostgreSQL ``version`` with the present extension, built when there is none yet."""
    if flavour == "asan" and version == 15:
        raise ServerError("Debian's PostgreSQL 15 hangs when AddressSanitizer is preloaded", "Use version 16 or 18.")
    cache = cache_dir()
    with lock(f"build-{version}-{flavour}"):
        with lock(f"copy-{version}"):
            server = private_copy(version)
        source = _find_source()
        snapshot = cache / f"source-{version}-{flavour}"
        digest = _take_snapshot(source, snapshot)
        key = hashlib.sha256(f"{digest} {server.root.name}".encode()).hexdigest()[:12]
        name = f"winnow-{version}-{flavour}"
        installation = Installation(cache / f"{name}-{key}", server.bin_path)
        if not installation.root.exists():
            unfinished = cache / f"{name}.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                _make(snapshot, server, flavour, "all")
                _make(snapshot, duplicate(server, unfinished), flavour, "install")
            except BuildError as error:
                raise BuildError(str(error).replace(str(snapshot), str(source)), error.hint) from None
            unfinished.rename(installation.root)
            _remove_unused(cache, name, keep=installation.root)
        os.utime(installation.root)
        return installation


def lock(name: str) -> fasteners.InterProcessLock:
    """A lock between processes of one user, to be used with ``with``."""
    folder = cache_dir() / "locks"
    folder.mkdir(exist_ok=True)
    return fasteners.InterProcessLock(folder / name)


def sanitizer_library() -> Path:
    """The run-time library that a server must preload before it can load the asan flavour."""
    answer = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    return Path(answer.stdout.strip()).resolve()


def _find_source() -> Path:
    """The folder that holds ``extension/`` and ``sql/``: a checkout around this package, or the package's own copy."""
    package = Path(__file__).resolve().parents[1]
    override = os.environ.get("PGWINNOW_SOURCE")
    candidates = [Path(override)] if override else [package.parents[1], package / "_extension"]
    for folder in candidates:
        if (folder / "extension" / "Makefile").exists() and (folder / "sql").is_dir():
            return folder
    raise BuildError(
        f"the sources of the extension are in none of {', '.join(map(str, candidates))}",
        "Reinstall pgwinnow, or let PGWINNOW_SOURCE name the folder that holds extension/ and sql/.",
    )


def _source_files(root: Path) -> Iterator[Path]:
    for pattern in SOURCE_PATTERNS:
        yield from sorted(path.relative_to(root) for path in root.glob(pattern))


def _take_snapshot(source: Path, snapshot: Path) -> str:
    """Bring ``snapshot`` up to date with ``source`` and return a hash over all of it.

    Building from a snapshot keeps the hash true while somebody edits the source.  A file is written only when its
    content differs, so make compiles what changed and nothing else.
    """
    digest = hashlib.sha256()
    files = list(_source_files(source))
    for obsolete in set(_source_files(snapshot)).difference(files):
        (snapshot / obsolete).unlink()
    for file in files:
        content = (source / file).read_bytes()
        digest.update(f"{file} {len(content)}\n".encode() + content)
        target = snapshot / file
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return digest.hexdigest()


def _make(snapshot: Path, server: Installation, flavour: Flavour, target: str) -> None:
    for program, package in (("make", "make"), ("gcc", "gcc libc6-dev")):
        if shutil.which(program) is None:
            raise BuildError(
                f"{program!r} is needed once, to compile the extension, and is not installed",
                f"Install it (Debian: apt-get install {package}; Fedora: dnf install {program}; "
                "macOS: xcode-select --install).",
            )
    # Variables of a make that called us would change what this one does.
    kept = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    command = [
        "make",
        f"-j{min(os.cpu_count() or 1, 4)}",
        f"--directory={snapshot / 'extension'}",
        target,
        f"PG_CONFIG={server.pg_config}",
        f"BUILD={snapshot / 'build'}",
        *MAKE_VARIABLES[flavour],
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**kept, "LC_ALL": "C"},
        umask=0o022,
        check=False,
    )
    if done.returncode != 0:
        wanted = [
            line for line in done.stdout.splitlines() if not line.startswith(("gcc ", "make -C", "make: Entering"))
        ]
        raise BuildError(
            "the extension does not compile:\n" + "\n".join(wanted[:60]),
            f"The command was: {' '.join(command)}",
        )


def _remove_unused(cache: Path, name: str, keep: Path) -> None:
    for other in cache.glob(f"{name}-*"):
        if other != keep and time.time() - other.stat().st_mtime > UNUSED_AFTER and not _in_use(other):
            shutil.rmtree(other, ignore_errors=True)


def _in_use(root: Path) -> bool:
    executables = (process.info["exe"] for process in psutil.process_iter(["exe"]))
    return any(executable and Path(executable).is_relative_to(root) for executable in executables)
