"""Waiting for what others do."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds until what should happen is taken never to happen: on an idle machine it takes milliseconds."""


def eventually(what: str, happened: Callable[[], bool]) -> None:
    """Wait until something is the case."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"this never happened: {what}"
        time.sleep(0.001)
