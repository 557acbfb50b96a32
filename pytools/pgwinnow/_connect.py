"""Which database is meant, and connections to it."""

from __future__ import annotations

import os
from typing import Any

import psycopg

from .errors import ConnectionFailed, WinnowError

_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE")


def resolve_dsn(dsn: str | None) -> str:
    """``dsn`` if given; else "" (libpq's environment) if that names a database; else the running embedded server.

    ConnectionFailed where none of the three does.
    """
    if dsn is not None:
        return dsn
    if any(name in os.environ for name in _LIBPQ):
        return ""
    running = _embedded_server()
    if running is not None:
        return running
    raise ConnectionFailed(
        "no database was named and the embedded server is not running",
        "Give --dsn 'host=... dbname=...', set PGHOST and PGDATABASE, or run: pgwinnow server start",
    )


def _embedded_server() -> str | None:
    """The embedded server's DSN, if it runs; it cannot run where what it needs is not installed."""
    try:
        from .server import Server
    except WinnowError:
        return None
    server = Server()
    return server.dsn() if server.status == "running" else None


def connect(dsn: str, *, autocommit: bool = True) -> psycopg.Connection[Any]:
    """A connection that calls itself pgwinnow and speaks UTF-8."""
    if not isinstance(dsn, str):
        raise TypeError(f'a connection string such as "dbname=shop" is needed, not a {type(dsn).__name__}')
    try:
        return psycopg.connect(dsn, autocommit=autocommit, application_name="pgwinnow", client_encoding="utf8")
    except psycopg.OperationalError as error:
        raise ConnectionFailed(
            f"cannot connect: {error}".rstrip(), "Check --dsn, PGHOST, PGPORT and PGUSER."
        ) from error
