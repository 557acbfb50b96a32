"""How many examples the random tests of this folder try: ``WINNOW_FUZZ_EXAMPLES``, 300 by default."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("WINNOW_FUZZ_EXAMPLES") or "300")


def fuzz(share: float = 1) -> settings:
    """Settings of a test that tries this share of the examples.

    The database is made once per test; the examples of a test share it and clean up after themselves.
    """
    examples = max(1, round(EXAMPLES * share))
    return settings(max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
