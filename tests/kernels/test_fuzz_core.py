"""fuzz_core.c with random inputs, under sanitizers.  ``make fuzz`` runs it with inputs that look for new code paths."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from fuzz.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
SOURCES = [
    ROOT / "tests" / "fuzz" / "fuzz_core.c",
    *sorted((ROOT / "extension/src/core").glob("*.c")),
    *sorted((ROOT / "extension/src/kernels").glob("*.c")),
]
FLAGS = ["-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def test_random_inputs(tmp_path: Path, seed: int) -> None:
    binary = tmp_path / "fuzz_core"
    include = f"-I{ROOT / 'extension' / 'src'}"
    subprocess.run(
        ["cc", "-std=gnu99", "-DWINNOW_FUZZ_STANDALONE", *FLAGS, include, *SOURCES, "-lm", "-o", binary], check=True
    )
    run = subprocess.run(
        [binary],
        env={**os.environ, "WINNOW_SEED": str(seed), "WINNOW_FUZZ_EXAMPLES": str(10 * EXAMPLES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == f"{4 * 10 * EXAMPLES} inputs\n"
