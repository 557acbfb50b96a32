"""Which operating-system user runs the server.

PostgreSQL refuses to run as root.  For anybody else the server is simply a child of the caller; for root
it runs as an existing unprivileged user that owns the data folder.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pgwinnow.errors import ServerError

UNPRIVILEGED_USERS = ("postgres", "nobody")


class ProcessOptions(TypedDict, total=False):
    """Arguments of :class:`subprocess.Popen` that choose the user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """An operating-system user that runs the server on behalf of root."""

    name: str
    uid: int
    gid: int


def server_account(data_dir: Path) -> Account | None:
    """The user to run the server of ``data_dir`` as; None means the caller.

    A data folder that holds a cluster already is run by its owner.
    """
    if os.geteuid() != 0:
        return None
    if (data_dir / "PG_VERSION").exists():
        uid = data_dir.stat().st_uid
        if uid == 0:
            raise ServerError(
                f"data folder {data_dir} belongs to root, and PostgreSQL does not run as root",
                f"Give it to another user, for example: chown -R {_unprivileged().pw_name} {data_dir}",
            )
        entry = pwd.getpwuid(uid)
    else:
        entry = _unprivileged()
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _unprivileged() -> pwd.struct_passwd:
    for name in UNPRIVILEGED_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerError(
        f"PostgreSQL does not run as root and there is no user {' or '.join(UNPRIVILEGED_USERS)} to run it as",
        "Create one (useradd --system postgres) or call pgwinnow as an ordinary user.",
    )


def process_options(account: Account | None) -> ProcessOptions:
    """Arguments for :class:`subprocess.Popen` that run a program as ``account``."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def environment(**extra: str) -> dict[str, str]:
    """The caller's environment without what would steer PostgreSQL's programs or change their messages."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LD_PRELOAD")) and name != "LANGUAGE"
    }
    # The wheel's psql looks for terminal descriptions where Debian does not keep them.
    terminals = "/etc/terminfo:/lib/terminfo:/usr/share/terminfo"
    return {**kept, "LANG": "C", "TERMINFO_DIRS": terminals, **extra}


def own_folder(folder: Path, account: Account | None) -> None:
    """Create ``folder``, private to the server's user, and check that this user can reach it."""
    created = not folder.exists()
    before = None if created else folder.stat()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is None:
        return
    os.chown(folder, account.uid, account.gid)
    reachable = subprocess.run(["test", "-w", folder], cwd="/", check=False, **process_options(account))
    if reachable.returncode != 0:
        if before is None:
            folder.rmdir()
        else:
            os.chown(folder, before.st_uid, before.st_gid)
        raise ServerError(
            f"user {account.name!r}, who runs the server for root, cannot reach {folder}",
            f"Choose a data folder outside private ones, for example under /var/lib or {tempfile.gettempdir()}.",
        )
