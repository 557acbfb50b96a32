"""The vector instructions by themselves: time and throughput of each kernel at each level of the CPU.

What is measured is what a search spends its time on: the estimate of codes (1 bit a dimension against a query of 4
bits), the tests of filter columns, and the distances of the rows fetched from the table.  Everything runs on one
thread, over more memory than the CPU's caches hold or, for comparison, over what fits into them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from rich.table import Table

from pgwinnow import _kernels
from pgwinnow._kernels import _at, _compiled
from pgwinnow.bench.measure import memory_bandwidth
from pgwinnow.errors import WinnowError
from pgwinnow.types import MAX_DIMENSIONS

DIMENSIONS = (128, 384, 768, 1536, 4096)
SECONDS = 0.05
"""How long each kernel is timed, three times over; the best counts."""
CALL_BYTES = 1 << 18
"""Bytes that a call of a kernel goes through, about: more than a list has, so that calling it costs nothing."""
FILTERS = ("range_int8", "range_int16", "range_int32", "range_int64", "bits_uint8", "signature_all")
WIDTHS = {"range_int8": 1, "range_int16": 2, "range_int32": 4, "range_int64": 8, "bits_uint8": 1, "signature_all": 16}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    dimensions: Sequence[int] = DIMENSIONS
    levels: Sequence[str] = ()  # all that the machine has
    megabytes: int = 256  # of the memory that is gone through
    seconds: float = SECONDS


@dataclass(frozen=True)
class KernelTime:
    """One kernel at one level."""

    kernel: str
    dimensions: int  # 0: it has none
    level: str
    nanoseconds: float  # an item: a code, a value, a row
    bytes_per_second: float
    cached_nanoseconds: float  # where everything is in the CPU's caches


def measure_kernels(options: Options, progress: Progress) -> list[KernelTime]:
    """Time all kernels at all levels."""
    levels = list(options.levels) or _kernels.levels()
    before = _kernels.level()
    times = []
    steps = [(level, dim) for level in levels for dim in (0, *options.dimensions)]
    try:
        for level, dim in progress.track(steps, description="kernels"):
            _kernels.use(level)
            if dim == 0:
                times += [_filter_time(kernel, level, options) for kernel in FILTERS]
            else:
                times += [_estimate_time(dim, level, options), _distance_time(dim, level, options)]
    finally:
        _kernels.use(before)
    return sorted(times, key=lambda each: (each.dimensions > 0, each.kernel, each.dimensions, levels.index(each.level)))


def _best(calls: Callable[[int], None], count: int, seconds: float) -> float:
    """Seconds that one call takes; calls(i) does the i-th of a round of count."""
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        done = 0
        while done == 0 or time.perf_counter() - start < seconds:
            for i in range(count):
                calls(i)
            done += count
        best = min(best, (time.perf_counter() - start) / done)
    return best


def _timed(
    call: Callable[[int], None], items: int, width: int, count: int, kernel: tuple[str, int, str], seconds: float
) -> KernelTime:
    """Time a kernel whose call(i) goes through the i-th of count blocks of so many items of so many bytes."""
    name, dim, level = kernel
    far = _best(call, count, seconds)
    near = _best(lambda _: call(0), 8, seconds)
    return KernelTime(name, dim, level, far / items * 1e9, items * width / far, near / items * 1e9)


def _memory(options: Options, block: int) -> tuple[NDArray[np.uint8], int]:
    """Random bytes, in whole blocks; and how many blocks."""
    count = max(1, (options.megabytes << 20) // block)
    some = np.random.default_rng(1).integers(0, 256, block, dtype=np.uint8)
    return np.tile(some, count), count


def _estimate_time(dim: int, level: str, options: Options) -> KernelTime:
    """Estimate and bound of one row after another, as in a list that a filter lets pass whole."""
    lib, ffi = _compiled("the benchmark of kernels")
    rng = np.random.default_rng(dim)
    width = _kernels.code_bytes(dim)
    items = max(64, CALL_BYTES // width)
    centroid = rng.standard_normal(dim).astype(np.float32)
    codes = _kernels.encode(rng.standard_normal((64, dim)).astype(np.float32), centroid)
    count = max(1, (options.megabytes << 20) // (items * width))
    memory = np.tile(codes.reshape(-1), -(-count * items // 64))[: count * items * width]
    query = rng.standard_normal(dim).astype(np.float32)
    prepared = ffi.new("uint64_t[]", lib.winnow_query_bytes(dim) // 8 + 1)
    lib.winnow_query_prepare(
        ffi.cast("WinnowQueryCode *", prepared), 1, _at("float *", query), _at("float *", centroid), dim
    )
    numbers, found, lower = np.arange(items, dtype=np.uint16), np.empty(items, np.float32), np.empty(items, np.float32)

    def call(i: int) -> None:
        lib.winnow_estimate(
            ffi.cast("WinnowQueryCode *", prepared),
            ffi.cast("uint8_t *", memory.ctypes.data + i * items * width),
            width,
            _at("uint16_t *", numbers),
            items,
            1.6,
            _at("float *", found),
            _at("float *", lower),
        )

    return _timed(call, items, width, count, ("estimate of a code", dim, level), options.seconds)


def _distance_time(dim: int, level: str, options: Options) -> KernelTime:
    """Squared distances to rows that lie one after another."""
    lib, ffi = _compiled("the benchmark of kernels")
    width = 4 * dim
    items = max(16, CALL_BYTES // width)
    count = max(1, (options.megabytes << 20) // (items * width))
    some = np.random.default_rng(dim).standard_normal((items, dim)).astype(np.float32)
    memory = np.tile(some.reshape(-1), count)
    out = np.empty(items, np.float32)

    def call(i: int) -> None:
        lib.winnow_kernels.l2_squared_many(
            _at("float *", some),
            ffi.cast("float *", memory.ctypes.data + i * items * width),
            dim,
            items,
            dim,
            _at("float *", out),
        )

    return _timed(call, items, width, count, ("distance of a vector", dim, level), options.seconds)


def _filter_time(kernel: str, level: str, options: Options) -> KernelTime:
    """The test of a column; a tenth of the values pass, or half where bits are tested."""
    lib, ffi = _compiled("the benchmark of kernels")
    width = WIDTHS[kernel]
    items = CALL_BYTES // width // 64 * 64
    memory, count = _memory(options, items * width)
    full = np.full(items // 64, np.iinfo(np.uint64).max, np.uint64)
    mask = full.copy()
    function: Any = getattr(lib.winnow_kernels, kernel)
    need = np.array([1 << 7, 1 << 9], np.uint64)
    high = (1 << (8 * width - 1)) // 5 if width <= 8 else 0
    arguments: dict[str, tuple[Any, ...]] = {
        "bits_uint8": (4, True),
        "signature_all": (_at("uint64_t *", need),),
    }

    def call(i: int) -> None:
        mask[:] = full
        column = ffi.cast("uint8_t *", memory.ctypes.data + i * items * width)
        function(column, items, *arguments.get(kernel, (0, high)), _at("uint64_t *", mask))

    return _timed(call, items, width, count, (kernel, 0, level), options.seconds)


def kernels_table(times: Sequence[KernelTime], bytes_per_second: float) -> Table:
    """What was measured, beside what the memory can do."""
    table = Table(title=f"Kernels, one thread; this machine reads {bytes_per_second / 1e9:.1f} GB/s from memory")
    for name in ("kernel", "dimensions", "level", "ns an item", "GB/s", "of memory's", "ns in cache"):
        table.add_column(name, justify="left" if name in ("kernel", "level") else "right")
    last = ("", 0)
    for each in times:
        if (each.kernel, each.dimensions) != last:
            table.add_section()
        last = (each.kernel, each.dimensions)
        table.add_row(
            each.kernel,
            str(each.dimensions or ""),
            each.level,
            f"{each.nanoseconds:.3g}",
            f"{each.bytes_per_second / 1e9:.1f}",
            f"{each.bytes_per_second / bytes_per_second:.0%}",
            f"{each.cached_nanoseconds:.3g}",
        )
    return table


def as_json(times: Sequence[KernelTime], bytes_per_second: float) -> dict[str, Any]:
    """The figures for a file."""
    return {"memory_bytes_per_second": bytes_per_second, "kernels": [asdict(each) for each in times]}


def run(options: Options, progress: Progress) -> tuple[list[KernelTime], float]:
    """Measure the kernels, and what the memory can do."""
    if too_long := [each for each in options.dimensions if each > MAX_DIMENSIONS]:
        raise WinnowError(
            f"{too_long[0]} dimensions are more than a vector has", f"--dims takes up to {MAX_DIMENSIONS}"
        )
    if missing := sorted(set(options.levels) - set(_kernels.levels())):
        raise WinnowError(f"this machine has no level {missing[0]!r}", f"choose one of {', '.join(_kernels.levels())}")
    return measure_kernels(options, progress), memory_bandwidth()
