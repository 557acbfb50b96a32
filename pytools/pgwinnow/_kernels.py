"""The extension's C code for vectors, for numpy arrays: distances, exact neighbours, codes, clusters.

Vectors are float32, one per row.  Distances and exact neighbours also work, slowly, where the compiled module is
missing; everything else then raises `KernelsMissing`.

Calls release the GIL while they compute.  `use` changes the SIMD level of the whole process.
"""

from __future__ import annotations

import importlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from .errors import WinnowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

try:
    _core: Any = importlib.import_module("pgwinnow._winnow_core")
except ModuleNotFoundError:
    _core = None

__all__ = [
    "KernelsMissing",
    "Metric",
    "code_bytes",
    "compiled",
    "distances",
    "encode",
    "estimate",
    "exact_topk",
    "kmeans",
    "level",
    "levels",
    "mean",
    "nearest",
    "refine",
    "refinement_bytes",
    "refinement_encode",
    "rotate",
    "split_two",
    "use",
]

Metric: TypeAlias = Literal["l2", "ip", "cosine", "l1"]

# The numbers of WinnowDistance in core/distance.h; the first three are also those of WinnowMetric.
_METRICS: Final[dict[str, int]] = {"l2": 1, "ip": 2, "cosine": 3, "l1": 4}
_LEVELS: Final[tuple[str, ...]] = ("scalar", "neon", "avx2", "avx512", "avx512_vpopcnt")
_NUMPY_BLOCK_ROWS: Final = 16384
_WAY_OUT: Final = "install a C compiler and run 'python -m pgwinnow._kernels_build'"


class KernelsMissing(WinnowError):
    """The compiled module is missing, and numpy does not replace what was asked for."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} needs the compiled kernels, which are missing", _WAY_OUT)


def compiled() -> bool:
    """Tell whether the compiled module is there."""
    return _core is not None


def level() -> str:
    """Name the instruction set in use: one of `levels()`, or "numpy" without the compiled module."""
    if _core is None:
        return "numpy"
    return str(_core.ffi.string(_core.lib.winnow_kernels.name).decode())


def levels() -> list[str]:
    """Name the instruction sets that this machine has, the plainest first."""
    if _core is None:
        return ["numpy"]
    return [name for number, name in enumerate(_LEVELS) if _core.lib.winnow_kernels_at(number) != _core.ffi.NULL]


def use(level_name: str) -> None:
    """Compute with the instruction set of that name from now on.

    Raises ValueError if the machine lacks it.
    """
    if level_name not in levels():
        raise ValueError(f"no SIMD level {level_name!r} on this machine: choose one of {', '.join(levels())}")
    if _core is not None:
        _core.lib.winnow_kernels_use(_LEVELS.index(level_name))


def distances(query: ArrayLike, base: ArrayLike, metric: Metric = "l2") -> NDArray[np.float32]:
    """Compute the distance of one vector to each row of base, as the SQL operators do.

    "l2" is ``<->``, "ip" is ``<#>`` (the inner product, negated), "cosine" is ``<=>`` (NaN for a zero vector) and "l1"
    is ``<+>``.

    query: [dim]; base: [n, dim]; the result: [n].
    """
    kind = _metric(metric)
    rows = _rows(base, "base")
    vector = _vector(query, "query", rows.shape[1])
    if _core is None:
        _warn_numpy()
        return _numpy_distances(vector[np.newaxis], rows, metric).reshape(-1)
    out = np.empty(len(rows), np.float32)
    _core.lib.winnow_distances(
        kind, _at("float *", vector), _at("float *", rows), len(rows), rows.shape[1], _at("float *", out)
    )
    return out


def exact_topk(
    queries: ArrayLike,
    base: ArrayLike,
    k: int,
    metric: Metric = "l2",
    mask: ArrayLike | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the k nearest rows of base for each query by looking at all of them; the ground truth of recall.

    queries: [q, dim]; base: [n, dim]; mask: rows that count, as booleans, [n] for all queries or [q, n]; threads: one
    per CPU by default.

    Returns ids [q, k] (row numbers in base, -1 where fewer rows count) and distances [q, k] (infinite there), nearest
    first, equal distances by id.  Distances are those of `distances`; NaN comes last.
    """
    kind = _metric(metric)
    rows = _rows(base, "base")
    asked = _rows(queries, "queries")
    if asked.shape[1] != rows.shape[1]:
        raise ValueError(f"queries have {asked.shape[1]} dimensions and base has {rows.shape[1]}: they must agree")
    if k < 1:
        raise ValueError(f"k is {k}: it must be at least 1")
    wanted = _mask(mask, len(asked), len(rows))
    if _core is None:
        _warn_numpy()
        return _numpy_topk(asked, rows, k, metric, wanted)

    ids = np.empty((len(asked), k), np.int64)
    nearest_distances = np.empty((len(asked), k), np.float32)
    per_query = wanted is not None and wanted.ndim == 2

    def search(start: int, end: int) -> None:
        part = wanted[start:end] if wanted is not None and per_query else wanted
        _core.lib.winnow_exact_topk(
            kind,
            _at("float *", asked[start:end]),
            end - start,
            _at("float *", rows),
            len(rows),
            rows.shape[1],
            k,
            _core.ffi.NULL if part is None else _at("uint8_t *", part),
            len(rows) if per_query else 0,
            _at("int64_t *", ids[start:end]),
            _at("float *", nearest_distances[start:end]),
        )

    _in_threads(search, len(asked), threads or os.cpu_count() or 1)
    return ids, nearest_distances


def rotate(vectors: ArrayLike, seed: int) -> NDArray[np.float32]:
    """Apply the random rotation of a seed to a vector [dim], or to each row of [n, dim]; the shape stays."""
    lib, ffi = _compiled("rotate")
    given = np.asarray(vectors, np.float32)
    rows = _rows(given[np.newaxis] if given.ndim == 1 else given, "vectors")
    out = np.empty_like(rows)
    memory = ffi.new("uint64_t[]", lib.winnow_rotation_bytes(rows.shape[1]) // 8 + 1)
    rotation = ffi.cast("WinnowRotation *", memory)
    lib.winnow_rotation_init(rotation, rows.shape[1], seed)
    for row, rotated in zip(rows, out, strict=True):
        lib.winnow_rotate(rotation, _at("float *", row), _at("float *", rotated))
    return out.reshape(given.shape)


def code_bytes(dim: int) -> int:
    """Count the bytes of a code record for vectors of that dimension."""
    lib, _ = _compiled("code_bytes")
    return int(lib.winnow_code_bytes(dim))


def encode(rows: ArrayLike, centroid: ArrayLike) -> NDArray[np.uint8]:
    """Encode rotated rows [n, dim] around a rotated centroid [dim] as 1-bit codes [n, code_bytes(dim)]."""
    lib, _ = _compiled("encode")
    vectors = _rows(rows, "rows")
    centre = _vector(centroid, "centroid", vectors.shape[1])
    codes = np.empty((len(vectors), code_bytes(vectors.shape[1])), np.uint8)
    for row, code in zip(vectors, codes, strict=True):
        lib.winnow_encode(_at("float *", row), _at("float *", centre), len(centre), _at("uint8_t *", code))
    return codes


def _codes_asked(
    name: str,
    query: ArrayLike,
    centroid: ArrayLike,
    codes: NDArray[np.uint8],
    metric: Metric,
) -> tuple[Any, tuple[Any, Any], NDArray[np.uint8], NDArray[np.uint16]]:
    """The library, the query as prepared (with what keeps its memory), and the codes with the numbers of their rows."""
    lib, ffi = _compiled(name)
    kind = _metric(metric)
    if metric == "l1":
        raise ValueError("there are no codes for metric 'l1': choose 'l2', 'ip' or 'cosine'")
    asked = _vector(query, "query")
    dim = len(asked)
    centre = _vector(centroid, "centroid", dim)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != code_bytes(dim):
        raise ValueError(f"codes are {codes.dtype} {codes.shape}: they must be uint8 (n, {code_bytes(dim)})")
    if len(codes) > 65536:
        raise ValueError(f"{len(codes)} codes are too many for one call: pass at most 65536")
    memory = ffi.new("uint64_t[]", lib.winnow_query_bytes(dim) // 8 + 1)
    prepared = ffi.cast("WinnowQueryCode *", memory)
    lib.winnow_query_prepare(prepared, kind, _at("float *", asked), _at("float *", centre), dim)
    return lib, (prepared, memory), np.ascontiguousarray(codes), np.arange(len(codes), dtype=np.uint16)


def estimate(
    query: ArrayLike,
    centroid: ArrayLike,
    codes: NDArray[np.uint8],
    metric: Metric = "l2",
    epsilon: float = 1.9,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate the scores of encoded rows, and bound them from below.

    Scores are squared distances for "l2", negated inner products for "ip", and for "cosine" the squared distances of
    vectors that the caller has normalised.

    query, centroid: [dim], rotated; codes: [n, code_bytes(dim)] with n <= 65536, of that centroid; epsilon: standard
    deviations that the bound allows for, infinite for one that is never wrong.

    Returns estimates [n] and lower bounds [n].
    """
    lib, prepared, records, numbers = _codes_asked("estimate", query, centroid, codes, metric)
    estimates = np.empty(len(codes), np.float32)
    lower = np.empty(len(codes), np.float32)
    lib.winnow_estimate(
        prepared[0],
        _at("uint8_t *", records),
        records.shape[1],
        _at("uint16_t *", numbers),
        len(codes),
        epsilon,
        _at("float *", estimates),
        _at("float *", lower),
    )
    return estimates, lower


def estimate_errors(
    query: ArrayLike, centroid: ArrayLike, codes: NDArray[np.uint8], metric: Metric = "l2"
) -> NDArray[np.float32]:
    """Standard deviations of the errors of ``estimate``, whose arguments these are; 0: nothing is known of a row."""
    lib, prepared, records, numbers = _codes_asked("estimate_errors", query, centroid, codes, metric)
    errors, norms = np.empty(len(codes), np.float32), np.empty(len(codes), np.float32)
    lib.winnow_estimate_errors(
        prepared[0],
        _at("uint8_t *", records),
        records.shape[1],
        _at("uint16_t *", numbers),
        len(codes),
        _at("float *", errors),
        _at("float *", norms),
    )
    return errors


def refinement_bytes(dim: int, bits: int) -> int:
    """Count the bytes of a refinement record of 2 to 8 bits for vectors of that dimension."""
    lib, _ = _compiled("refinement_bytes")
    if not 2 <= bits <= 8:
        raise ValueError(f"bits is {bits}: it must be between 2 and 8")
    return int(lib.winnow_refinement_bytes(dim, bits))


def refinement_encode(rows: ArrayLike, centroid: ArrayLike, bits: int) -> NDArray[np.uint8]:
    """Encode rotated rows [n, dim] around a rotated centroid [dim]: records [n, refinement_bytes(dim, bits)]."""
    lib, _ = _compiled("refinement_encode")
    vectors = _rows(rows, "rows")
    dim = vectors.shape[1]
    centre = _vector(centroid, "centroid", dim)
    records = np.empty((len(vectors), refinement_bytes(dim, bits)), np.uint8)
    for row, record in zip(vectors, records, strict=True):
        lib.winnow_refinement_encode(_at("float *", row), _at("float *", centre), dim, bits, _at("uint8_t *", record))
    return records


def refine(
    query: ArrayLike,
    centroid: ArrayLike,
    records: NDArray[np.uint8],
    bits: int,
    metric: Metric = "l2",
    epsilon: float = 1.9,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate the scores of rows by their refinement records, and bound them from below.

    query, centroid: [dim], rotated; records: [n, refinement_bytes(dim, bits)], of that centroid; the rest is as for
    estimate().  Returns estimates [n] and lower bounds [n].
    """
    lib, ffi = _compiled("refine")
    kind = _metric(metric)
    asked = _vector(query, "query")
    dim = len(asked)
    centre = _vector(centroid, "centroid", dim)
    if records.dtype != np.uint8 or records.ndim != 2 or records.shape[1] != refinement_bytes(dim, bits):
        raise ValueError(
            f"records are {records.dtype} {records.shape}: they must be uint8 (n, {refinement_bytes(dim, bits)})"
        )
    memory = ffi.new("uint64_t[]", lib.winnow_query_bytes(dim) // 8 + 1)
    more = ffi.new("uint64_t[]", lib.winnow_refinement_query_bytes(dim) // 8 + 1)
    prepared = ffi.cast("WinnowQueryCode *", memory)
    refined = ffi.cast("WinnowRefinementQuery *", more)
    lib.winnow_query_prepare(prepared, kind, _at("float *", asked), _at("float *", centre), dim)
    lib.winnow_refinement_prepare(refined, prepared)
    estimates = np.empty(len(records), np.float32)
    lower = np.empty(len(records), np.float32)
    estimated = ffi.new("float *")
    for i, record in enumerate(np.ascontiguousarray(records)):
        lower[i] = lib.winnow_refine(refined, _at("uint8_t *", record), bits, epsilon, estimated)
        estimates[i] = estimated[0]
    return estimates, lower


def mean(
    rows: ArrayLike, weights: ArrayLike | None = None, within: ArrayLike | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float64], float]:
    """Mean [dim] of rows [n, dim] but outliers, each with its weight [n] > 0 and own mean squared extent [n].

    Also returns the squared distances [n] from it, and that beyond which a row is an outlier.
    """
    lib, ffi = _compiled("mean")
    vectors = _rows(rows, "rows")
    n, dim = vectors.shape
    if n == 0:
        raise ValueError("there are no rows: pass at least one")
    given = None if weights is None else np.ascontiguousarray(weights, np.float64)
    if given is not None and (given.shape != (n,) or not (given > 0).all()):
        raise ValueError(f"weights are {given.shape}: they must be {n} positive numbers")
    extent = None if within is None else np.ascontiguousarray(within, np.float64)
    if extent is not None and (extent.shape != (n,) or not (extent >= 0).all()):
        raise ValueError(f"within is {extent.shape}: it must be {n} numbers that are not negative")
    centre = np.empty(dim, np.float32)
    squared = np.empty(n, np.float64)
    far = lib.winnow_mean(
        _at("float *", vectors),
        ffi.NULL if given is None else _at("double *", given),
        ffi.NULL if extent is None else _at("double *", extent),
        *(n, dim),
        _at("float *", centre),
        _at("double *", squared),
        ffi.new("double[]", 2 * n + dim),
    )
    return centre, squared, float(far)


def kmeans(
    rows: ArrayLike, k: int, iterations: int = 10, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Cluster rows [n, dim] around 1 <= k <= n centroids; returns centroids [k, dim] and each row's cluster [n]."""
    lib, ffi = _compiled("kmeans")
    vectors = _rows(rows, "rows")
    n, dim = vectors.shape
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}: it must be between 1 and the number of rows, {n}")
    centroids = np.empty((k, dim), np.float32)
    assign = np.empty(n, np.int32)
    scratch = ffi.new("uint64_t[]", lib.winnow_kmeans_scratch_bytes(n, dim, k) // 8 + 1)
    lib.winnow_kmeans(
        _at("float *", vectors),
        n,
        dim,
        k,
        iterations,
        seed,
        _at("float *", centroids),
        _at("int32_t *", assign),
        scratch,
        ffi.NULL,
        ffi.NULL,
    )
    return centroids, assign


def nearest(row: ArrayLike, centroids: ArrayLike) -> tuple[int, float]:
    """Find the centroid of [k, dim] that is nearest to row [dim]; returns its number and squared distance."""
    lib, ffi = _compiled("nearest")
    centres = _rows(centroids, "centroids")
    vector = _vector(row, "row", centres.shape[1])
    if len(centres) == 0:
        raise ValueError("there are no centroids: pass at least one")
    best = ffi.new("int *")
    distance = ffi.new("float *")
    scratch = ffi.new("float[]", len(centres))
    lib.winnow_nearest(
        _at("float *", vector), _at("float *", centres), len(centres), len(vector), best, distance, scratch
    )
    return int(best[0]), float(distance[0])


def split_two(rows: ArrayLike, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Split rows [n, dim] in two balanced halves; returns their means [2, dim] and each row's side [n], 0 or 1."""
    lib, ffi = _compiled("split_two")
    vectors = _rows(rows, "rows")
    n, dim = vectors.shape
    if n == 0:
        raise ValueError("there are no rows to split: pass at least one")
    centroids = np.empty((2, dim), np.float32)
    side = np.empty(n, np.uint8)
    scratch = ffi.new("uint64_t[]", lib.winnow_split_scratch_bytes(n, dim) // 8 + 1)
    lib.winnow_split_two(
        _at("float *", vectors),
        n,
        dim,
        seed,
        _at("float *", centroids),
        _at("uint8_t *", side),
        scratch,
        ffi.NULL,
        ffi.NULL,
    )
    return centroids, side


def _compiled(what: str) -> tuple[Any, Any]:
    if _core is None:
        raise KernelsMissing(what)
    return _core.lib, _core.ffi


def _at(ctype: str, array: NDArray[Any]) -> Any:
    """Point C at an array, which the caller keeps alive."""
    return _core.ffi.cast(ctype, array.ctypes.data)


def _metric(metric: str) -> int:
    if metric not in _METRICS:
        raise ValueError(f"no metric {metric!r}: choose one of {', '.join(_METRICS)}")
    return _METRICS[metric]


def _rows(values: ArrayLike, what: str) -> NDArray[np.float32]:
    rows = np.ascontiguousarray(values, np.float32)
    if rows.ndim != 2:
        raise ValueError(f"{what} has shape {rows.shape}: it must be (rows, dimensions)")
    if rows.shape[1] == 0:
        raise ValueError(f"{what} has no dimensions: vectors have at least one")
    return rows


def _vector(values: ArrayLike, what: str, dim: int | None = None) -> NDArray[np.float32]:
    vector = np.ascontiguousarray(values, np.float32)
    if vector.ndim != 1:
        raise ValueError(f"{what} has shape {vector.shape}: it must be one vector, (dimensions,)")
    if len(vector) == 0:
        raise ValueError(f"{what} has no dimensions: vectors have at least one")
    if dim is not None and len(vector) != dim:
        raise ValueError(f"{what} has {len(vector)} dimensions: the other vectors have {dim}")
    return vector


def _mask(values: ArrayLike | None, nqueries: int, nrows: int) -> NDArray[np.bool_] | None:
    if values is None:
        return None
    mask = np.asarray(values)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask is {mask.dtype}: it must be boolean")
    if mask.shape not in ((nrows,), (nqueries, nrows)):
        raise ValueError(f"mask has shape {mask.shape}: it must be ({nrows},) or ({nqueries}, {nrows})")
    return np.ascontiguousarray(mask)


def _in_threads(search: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call search(start, end) for equal parts of range(count), each in a thread of its own."""
    threads = max(1, min(threads, count))
    cuts = [count * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, cuts[:-1], cuts[1:]))


_warned = False


def _warn_numpy() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"the compiled kernels are missing, so numpy computes instead: {_WAY_OUT}",
            RuntimeWarning,
            stacklevel=3,
        )


def _numpy_distances(queries: NDArray[np.float32], rows: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Distances [q, n] in double precision, a block of rows at a time."""
    out = np.empty((len(queries), len(rows)), np.float32)
    wide_queries = queries.astype(np.float64)
    for start in range(0, len(rows), _NUMPY_BLOCK_ROWS):
        block = rows[start : start + _NUMPY_BLOCK_ROWS].astype(np.float64)
        part = out[:, start : start + len(block)]
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            if metric == "l2":
                for i, query in enumerate(wide_queries):
                    part[i] = np.sqrt(np.square(block - query).sum(axis=1))
            elif metric == "l1":
                for i, query in enumerate(wide_queries):
                    part[i] = np.abs(block - query).sum(axis=1)
            else:
                products = wide_queries @ block.T
                if metric == "ip":
                    part[:] = -products
                else:
                    lengths = np.linalg.norm(wide_queries, axis=1)[:, np.newaxis] * np.linalg.norm(block, axis=1)
                    part[:] = 1 - np.clip(products / lengths, -1, 1)
    return out


def _numpy_topk(
    queries: NDArray[np.float32],
    rows: NDArray[np.float32],
    k: int,
    metric: str,
    mask: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ids = np.full((len(queries), k), -1, np.int64)
    nearest_distances = np.full((len(queries), k), np.inf, np.float32)
    for i in range(len(queries)):
        wanted = mask[i] if mask is not None and mask.ndim == 2 else mask
        numbers = np.arange(len(rows)) if wanted is None else np.flatnonzero(wanted)
        found = _numpy_distances(queries[i : i + 1], rows[numbers], metric)[0]
        order = np.lexsort((numbers, found))[:k]
        ids[i, : len(order)] = numbers[order]
        nearest_distances[i, : len(order)] = found[order]
    return ids, nearest_distances
