"""Data sets: a folder of vectors, attributes and held-out queries, and which column plays which part.

A data set folder holds ``base.f32.npy`` (n x d float32), ``queries.f32.npy`` (m x d float32),
``attributes.parquet`` (n rows) and ``query_attributes.parquet`` (m rows). Row i of the base has id i.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pgwinnow._errors import WinnowError

Vectors = npt.NDArray[np.float32]

BASE, QUERIES = "base.f32.npy", "queries.f32.npy"
ATTRIBUTES, QUERY_ATTRIBUTES = "attributes.parquet", "query_attributes.parquet"
EMBEDDINGS = "embeddings.f16.npy"

CATEGORY_VALUES = range(5, 1001)  # distinct values a text column may have to count as a category
RANGE_VALUES = 200  # distinct values a column needs before ranges of 0.1 % mean anything


class DataError(WinnowError):
    """A data set that cannot be used."""


@dataclass(frozen=True)
class Roles:
    """The column that plays each part in the workloads; None where the data set has no such column."""

    category: str | None  # text of few values, related to the vector
    number: str | None  # a number or time of many values
    tags: str | None  # a set of text values
    bucket: str | None  # uniform integers, independent of the vector
    residual: str | None  # a number that no index covers

    @property
    def indexed(self) -> list[str]:
        """The columns both sides index, in the order of the winnow index."""
        return [name for name in (self.category, self.number, self.bucket, self.tags) if name is not None]


@dataclass(frozen=True)
class Dataset:
    """Vectors with attributes, and queries with the attributes of the rows they were taken from."""

    name: str
    base: Vectors  # n x d, row i has id i
    queries: Vectors  # m x d
    attributes: pa.Table  # n rows, without the id
    query_attributes: pa.Table  # m rows
    roles: Roles

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        return int(self.base.shape[1])

    def fingerprint(self) -> str:
        """A short digest of what the tables hold: it changes with the columns, and with the rows as far as sampled."""
        digest = hashlib.sha256(repr((self.base.shape, self.attributes.schema)).encode())
        sample = np.linspace(0, len(self.base) - 1, num=min(len(self.base), 997), dtype=np.int64)
        digest.update(np.ascontiguousarray(self.base[sample]).tobytes())
        for name in self.attributes.column_names:
            digest.update(repr(self.attributes[name].take(pa.array(sample)).to_pylist()).encode())
        return digest.hexdigest()[:16]


def is_dataset(folder: Path) -> bool:
    """Whether the folder holds vectors split into base and queries."""
    return all((folder / name).is_file() for name in (BASE, QUERIES, ATTRIBUTES))


def is_source(folder: Path) -> bool:
    """Whether the folder holds plain embeddings, which ``pgwinnow bench data`` turns into a data set."""
    return all((folder / name).is_file() for name in (EMBEDDINGS, ATTRIBUTES))


def open_dataset(folder: Path, *, queries: int | None = None, roles: Roles | None = None) -> Dataset:
    """Open a data set folder; ``queries`` keeps only that many of the held-out queries.

    Raises DataError when files are missing or do not fit together.
    """
    if not is_dataset(folder):
        missing = [name for name in (BASE, QUERIES, ATTRIBUTES) if not (folder / name).is_file()]
        hint = f"make one of it: pgwinnow bench data {folder} OUT" if is_source(folder) else None
        raise DataError(f"{folder} is not a data set: {', '.join(missing)} missing", hint)
    base: Vectors = np.load(folder / BASE, mmap_mode="r")
    asked: Vectors = np.load(folder / QUERIES)
    if base.ndim != 2 or asked.ndim != 2 or base.shape[1] != asked.shape[1] or base.dtype != np.float32:
        raise DataError(f"{folder}: base {base.shape} {base.dtype} and queries {asked.shape} {asked.dtype} do not fit")
    attributes = pq.read_table(folder / ATTRIBUTES)
    if len(attributes) != len(base):
        raise DataError(f"{folder}: {len(base)} vectors but {len(attributes)} rows of attributes")
    if "id" in attributes.column_names:
        attributes = attributes.drop_columns(["id"])
    query_file = folder / QUERY_ATTRIBUTES
    query_attributes = pq.read_table(query_file) if query_file.is_file() else pa.table({})
    if query_file.is_file() and len(query_attributes) != len(asked):
        raise DataError(f"{folder}: {len(asked)} queries but {len(query_attributes)} rows in {QUERY_ATTRIBUTES}")
    if queries is not None:
        asked, query_attributes = asked[:queries], query_attributes.slice(0, queries)
    return Dataset(
        name=folder.resolve().name,
        base=base,
        queries=asked,
        attributes=attributes,
        query_attributes=query_attributes,
        roles=roles or find_roles(attributes),
    )


def find_roles(attributes: pa.Table) -> Roles:
    """Pick a column for each part, in the order of the columns.

    A name that is ``id`` or ends in ``_id`` is a key, not a quantity, so it serves for nothing here.
    """
    category = number = tags = bucket = residual = None
    for field in attributes.schema:
        if field.name == "id" or field.name.endswith("_id"):
            continue
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            tags = tags or field.name
            continue
        distinct = pc.count_distinct(attributes[field.name]).as_py()
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            if category is None and distinct in CATEGORY_VALUES:
                category = field.name
        elif field.name == "bucket":
            bucket = field.name
        elif is_ordered(field.type) and distinct >= min(RANGE_VALUES, len(attributes)):
            if number is None:
                number = field.name
            elif residual is None:
                residual = field.name
    return Roles(category, number, tags, bucket, residual)


def is_ordered(kind: pa.DataType) -> bool:
    """Whether ranges over this Arrow type make sense in the workloads."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    )


def postgres_type(kind: pa.DataType) -> str:
    """The PostgreSQL column type for an Arrow type. Raises DataError for types the benchmark does not load."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return postgres_type(kind.value_type) + "[]"
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    for test, name in (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_int8, "smallint"),
        (pa.types.is_int16, "smallint"),
        (pa.types.is_int32, "integer"),
        (pa.types.is_integer, "bigint"),
        (pa.types.is_float32, "real"),
        (pa.types.is_floating, "double precision"),
        (pa.types.is_string, "text"),
        (pa.types.is_large_string, "text"),
        (pa.types.is_date, "date"),
    ):
        if test(kind):
            return name
    raise DataError(f"no PostgreSQL type is known for Arrow type {kind}", f"drop that column from {ATTRIBUTES}")


def write_dataset(folder: Path, *, queries: Vectors, attributes: pa.Table, query_attributes: pa.Table) -> None:
    """Write everything but the base vectors, which their makers stream to ``base.f32.npy`` themselves."""
    np.save(folder / QUERIES, queries)
    pq.write_table(query_attributes, folder / QUERY_ATTRIBUTES, compression="zstd")
    pq.write_table(attributes, folder / ATTRIBUTES, compression="zstd")
