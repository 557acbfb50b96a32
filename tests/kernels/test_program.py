"""check_kernels.c: every SIMD level against plain C, natively, under sanitizers and on an emulated ARM."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "tests" / "kernels" / "check_kernels.c", *sorted((ROOT / "extension/src/kernels").glob("*.c"))]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
ARM_COMPILER = "aarch64-linux-gnu-gcc"
ARM_EMULATOR = "qemu-aarch64"


def build_and_run(folder: Path, seed: int, compiler: str, flags: list[str], emulator: list[str]) -> list[str]:
    """Return the levels checked."""
    for program in [compiler, *emulator[:1]]:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    binary = folder / "check_kernels"
    build = [
        compiler,
        "-std=gnu99",
        "-Wall",
        "-Wextra",
        "-Werror",
        *flags,
        *map(str, SOURCES),
        "-lm",
        "-o",
        str(binary),
    ]
    subprocess.run(build, check=True)
    run = subprocess.run(
        [*emulator, binary],
        env={**os.environ, "WINNOW_SEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return [line.removesuffix(" ok") for line in run.stdout.splitlines()]


@pytest.mark.parametrize("flags", [["-O2"], ["-O3"], ["-O1", *SANITIZERS]], ids=["O2", "O3", "sanitized"])
def test_native(tmp_path: Path, seed: int, flags: list[str]) -> None:
    assert build_and_run(tmp_path, seed, "cc", flags, [])[0] == "scalar"


def test_arm(tmp_path: Path, seed: int) -> None:
    levels = build_and_run(tmp_path, seed, ARM_COMPILER, ["-O3", "-static"], [ARM_EMULATOR])
    assert levels == ["scalar", "neon"]


def test_cpu_without_avx(tmp_path: Path, seed: int) -> None:
    """No level is chosen that the CPU lacks."""
    assert build_and_run(tmp_path, seed, "cc", ["-O2", "-static"], ["qemu-x86_64", "-cpu", "Nehalem"]) == ["scalar"]
