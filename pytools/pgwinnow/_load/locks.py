"""Locks between sessions that load, on what is not there yet to be locked."""

from __future__ import annotations

import json
from typing import Any

import psycopg


def take(connection: psycopg.Connection[Any], *what: str | None) -> None:
    """Wait for the session that holds the lock of ``what``, and hold it until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [json.dumps(["pgwinnow load", *what])])
