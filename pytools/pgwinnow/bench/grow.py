"""Grow a real set of embeddings to any number of rows without leaving its manifold.

Every extra row lies between a real row and one of its nearest neighbours, with a little noise, scaled back to unit
length. The real rows come first, unchanged. Some rows are held out as queries and never mixed into the base.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pgwinnow.bench.datasets import (
    ATTRIBUTES,
    SOURCES,
    DataError,
    Vectors,
    check_out,
    check_room,
    embeddings_file,
    new_dataset,
    read_attributes,
    read_vectors,
    write_rest,
)

NEIGHBOURS = 10
LARGEST_SHARE = 0.5  # of the neighbour in a mixed row
NOISE = 0.02  # standard deviation per component before scaling back
SIZE_JITTER = (0.8, 1.25)  # factors on a number, so that rows grown from one row differ in it
BUCKETS = 1000
BLOCK = 50_000

Progress = Callable[[str, int, int], None]  # step, done, total


def grow(
    source: Path,
    out: Path,
    rows: int,
    *,
    held_out: int = 1000,
    seed: int = 7,
    jitter: str | None = None,
    progress: Progress = lambda step, done, total: None,
) -> int:
    """Write a data set of ``rows`` rows to ``out``, or with 0 of the real rows alone, and return how many it has.

    ``source`` holds one of SOURCES (of any float type) and ``attributes.parquet``. The attributes of a mixed row
    are those of its real row, except for the integer column ``jitter``, which is scaled at random, and a new column
    ``bucket``, uniform in 0..999 and independent of the vector. The same arguments give the same rows (up to the
    last bit of float arithmetic between machines). Raises DataError when the folder does not fit or ``out`` is a source
    itself; nothing is written then.
    """
    embeddings = embeddings_file(source)
    if embeddings is None or not (source / ATTRIBUTES).is_file():
        raise DataError(
            f"{source} must hold {' or '.join(SOURCES)}, and {ATTRIBUTES}",
            f"numpy.save('{SOURCES[-1]}', array) writes rows x dimensions, pyarrow.parquet.write_table(table,"
            f" '{ATTRIBUTES}') as many rows of what searches filter by",
        )
    check_out(out)
    vectors = unit(read_vectors(embeddings))
    table = read_attributes(source / ATTRIBUTES)
    if len(table) != len(vectors):
        raise DataError(
            f"{source}: {len(vectors)} vectors but {len(table)} rows of attributes",
            f"row i of {ATTRIBUTES} belongs to row i of {embeddings.name}",
        )
    if len(vectors) <= held_out + NEIGHBOURS:
        raise DataError(f"{source}: {len(vectors)} rows are too few to hold out {held_out} queries", "lower --queries")
    if jitter is not None:
        check_jitter(table, jitter)

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(vectors))
    query_rows, real_rows = order[:held_out], order[held_out:]
    real = vectors[real_rows]
    if rows and rows < len(real):
        raise DataError(
            f"{source}: {len(real):,} real rows are left beside the queries, more than the {rows:,} asked for",
            "--rows grows a data set: leave it out for the real rows alone, or hold out more of them as --queries",
        )
    rows = rows or len(real)
    check_room(out, rows, real.shape[1])
    origin = np.concatenate([np.arange(len(real)), rng.integers(0, len(real), rows - len(real))])

    with new_dataset(out, rows, real.shape[1]) as base:
        base[: len(real)] = real
        if rows > len(real):
            near = nearest(real, NEIGHBOURS, progress)
            for start in range(len(real), rows, BLOCK):
                part = origin[start : start + BLOCK]
                partner = near[part, rng.integers(0, NEIGHBOURS, len(part))]
                share = rng.uniform(0.0, LARGEST_SHARE, (len(part), 1)).astype(np.float32)
                mixed = real[part] * (1 - share) + real[partner] * share
                mixed += rng.standard_normal(mixed.shape, dtype=np.float32) * NOISE
                base[start : start + len(part)] = unit(mixed)
                progress("rows", start + len(part), rows)

        grown = table.take(pa.array(real_rows[origin]))
        if jitter is not None:
            grown = with_jitter(grown, jitter, len(real), rng)
        if "bucket" not in grown.column_names:
            grown = grown.append_column("bucket", pa.array(rng.integers(0, BUCKETS, rows, dtype=np.int32)))
        asked = table.take(pa.array(query_rows))
        write_rest(out, queries=vectors[query_rows], attributes=grown, query_attributes=asked)
    return rows


def unit(vectors: Vectors) -> Vectors:
    """Scale rows to length one, in place; rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    return vectors


def nearest(vectors: Vectors, count: int, progress: Progress) -> npt.NDArray[np.int64]:
    """The ``count`` nearest other rows of every row of unit vectors, in no particular order: n x count."""
    block = max(1, 200_000_000 // (4 * len(vectors)))  # about 200 MB of similarities at a time
    found = np.empty((len(vectors), count), dtype=np.int64)
    for start in range(0, len(vectors), block):
        part = slice(start, min(start + block, len(vectors)))
        similarity = vectors[part] @ vectors.T
        similarity[np.arange(part.stop - start), np.arange(start, part.stop)] = -np.inf
        found[part] = np.argpartition(similarity, -count, axis=1)[:, -count:]
        progress("neighbours", part.stop, len(vectors))
    return found


def check_jitter(table: pa.Table, name: str) -> None:
    """Raise DataError unless the column is one that ``with_jitter`` can scale."""
    if name not in table.column_names:
        raise DataError(f"there is no column {name} to be jittered", f"there are {', '.join(table.column_names)}")
    kind = table.schema.field(name).type
    if not pa.types.is_integer(kind):
        raise DataError(f"column {name} is {kind}; only integer columns can be jittered")


def with_jitter(table: pa.Table, name: str, real: int, rng: np.random.Generator) -> pa.Table:
    """Scale an integer column by random factors after the first ``real`` rows, so that rows of one origin differ."""
    place = table.column_names.index(name)
    kind = table.schema.field(name).type
    empty = np.asarray(table[name].is_null())
    values = np.asarray(table[name].fill_null(0)).astype(np.float64)
    factors = rng.uniform(*SIZE_JITTER, len(values))
    factors[:real] = 1
    scaled = np.rint(values * factors).astype(np.int64)
    return table.set_column(place, name, pa.array(scaled, type=kind, mask=empty))
