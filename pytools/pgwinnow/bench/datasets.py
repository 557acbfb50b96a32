"""Data sets: a folder of vectors, attributes and held-out queries, and which column plays which part.

A data set folder holds ``base.f32.npy`` (n x d float32), ``queries.f32.npy`` (m x d float32),
``attributes.parquet`` (n rows) and ``query_attributes.parquet`` (m rows). Row i of the base has id i, whatever a column
``id`` of the attributes says; the other columns are loaded under their own names.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pgwinnow.errors import WinnowError
from pgwinnow.types import MAX_DIMENSIONS

Vectors = npt.NDArray[np.float32]

BASE, QUERIES = "base.f32.npy", "queries.f32.npy"
ATTRIBUTES, QUERY_ATTRIBUTES = "attributes.parquet", "query_attributes.parquet"
EMBEDDINGS = "embeddings.f16.npy"
SOURCES = (EMBEDDINGS, "embeddings.f32.npy", "embeddings.npy")  # the first of them that is there, whatever type it has

OUR_COLUMNS = ("embedding",)  # of the tables, beside the id, which a file may hold and which is dropped
SYSTEM_COLUMNS = ("ctid", "xmin", "cmin", "xmax", "cmax", "tableoid")  # PostgreSQL gives every table these
NAME_BYTES = 63  # PostgreSQL cuts longer names off
BLOCK_BYTES = 1 << 26  # of the base, checked or hashed at a time

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
        """A short digest of what the tables hold: it changes with the columns and with any value of any row."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        columns = [(field.name, str(field.type)) for field in self.attributes.schema]
        digest = hashlib.blake2b(repr((self.base.shape, columns)).encode(), digest_size=8)
        block = max(1, BLOCK_BYTES // (4 * self.dimensions))
        for start in range(0, len(self.base), block):
            digest.update(np.ascontiguousarray(self.base[start : start + block]).data)
        for column in self.attributes.columns:
            for part in contents(column.combine_chunks()):
                digest.update(part)
        return digest.hexdigest()


def contents(array: pa.Array) -> Iterator[bytes]:
    """Bytes that are equal for two arrays of one type and length only if all values are, whatever NULLs hide."""
    yield np.asarray(array.is_null()).tobytes()
    present = array.drop_null()
    if is_list(array.type):
        yield np.asarray(pc.list_value_length(present)).tobytes()
        yield from contents(present.flatten())
    elif is_text(array.type):
        encoded = present.dictionary_encode()  # numbers values as they appear, so equal values give equal codes
        yield np.asarray(encoded.indices).tobytes()
        yield repr(encoded.dictionary.to_pylist()).encode()
    else:
        yield np.asarray(present).tobytes()


def is_dataset(folder: Path) -> bool:
    """Whether the folder holds vectors split into base and queries."""
    return all((folder / name).is_file() for name in (BASE, QUERIES, ATTRIBUTES))


def is_source(folder: Path) -> bool:
    """Whether the folder holds plain embeddings, which ``pgwinnow bench data`` turns into a data set."""
    return embeddings_file(folder) is not None and (folder / ATTRIBUTES).is_file()


def embeddings_file(folder: Path) -> Path | None:
    """The embeddings that the folder holds, if it does."""
    return next((folder / name for name in SOURCES if (folder / name).is_file()), None)


def read_vectors(file: Path, *, mapped: bool = False) -> Vectors:
    """The vectors in a .npy file as float32; ``mapped``, they stay in the file, which then has to hold float32.

    Raises DataError where the file holds anything but rows of finite numbers.
    """
    try:
        # Not numpy.load, which takes what is no array for pickled objects, and advises to allow them.
        array = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # a damaged header is parsed as Python, with whatever error that gives
        raise DataError(
            f"{file} cannot be read as an array: {getattr(error, 'strerror', None) or error}",
            "write it anew: numpy.save(file, numpy.asarray(vectors, dtype='float32'))",
        ) from error
    if array.dtype.kind != "f":
        raise DataError(f"{file} holds {array.dtype}, not numbers of floating point", float32_hint(file))
    if array.ndim != 2 or 0 in array.shape or array.shape[1] > MAX_DIMENSIONS:
        raise DataError(
            f"{file} has the shape {array.shape}",
            f"one row per vector is needed: (rows, dimensions), with 1 to {MAX_DIMENSIONS} dimensions, and some rows",
        )
    if mapped and array.dtype != np.float32:
        raise DataError(f"{file} holds {array.dtype.name} ({array.dtype.str}); float32 is needed", float32_hint(file))
    with np.errstate(over="ignore"):
        vectors = array if mapped else np.array(array, dtype=np.float32)
    block = max(1, BLOCK_BYTES // (4 * array.shape[1]))
    for start in range(0, len(vectors), block):
        finite = np.isfinite(vectors[start : start + block])
        if not finite.all():
            row = start + int(np.flatnonzero(~finite.all(axis=1))[0])
            value = vectors[row][~np.isfinite(vectors[row])][0]
            raise DataError(
                f"{file} holds {value} in row {row} (the first is 0)", "drop such rows, and those of the attributes"
            )
    return vectors


def float32_hint(file: Path) -> str:
    """How to convert a file in place."""
    return f"convert it: numpy.save({str(file)!r}, numpy.load({str(file)!r}).astype('float32'))"


def read_parquet(file: Path) -> pa.Table:
    """The table in a parquet file. Raises DataError where it cannot be read."""
    with reading(file):
        return pq.read_table(file)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """DataError where a parquet file cannot be read."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{file} cannot be read as parquet: {reason}", "write it anew: pyarrow.parquet.write_table(table, file)"
        ) from error


def open_dataset(folder: Path, *, queries: int | None = None, roles: Roles | None = None) -> Dataset:
    """Open a data set folder; ``queries`` keeps only that many of the held-out queries.

    Raises DataError when files are missing or do not fit together, or a column cannot be loaded.
    """
    if not is_dataset(folder):
        missing = [name for name in (BASE, QUERIES, ATTRIBUTES) if not (folder / name).is_file()]
        hint = f"make one of it: pgwinnow bench data {folder} OUT" if is_source(folder) else None
        raise DataError(f"{folder} is not a data set: {', '.join(missing)} missing", hint)
    base, asked = read_vectors(folder / BASE, mapped=True), read_vectors(folder / QUERIES)
    if base.shape[1] != asked.shape[1]:
        raise DataError(
            f"{folder}: vectors of {base.shape[1]} dimensions but queries of {asked.shape[1]}",
            f"{BASE} and {QUERIES} must come from the same model",
        )
    attributes = read_attributes(folder / ATTRIBUTES)
    if len(attributes) != len(base):
        raise DataError(
            f"{folder}: {len(base)} vectors but {len(attributes)} rows of attributes",
            f"row i of {ATTRIBUTES} belongs to row i of {BASE}",
        )
    query_file = folder / QUERY_ATTRIBUTES
    query_attributes = read_parquet(query_file) if query_file.is_file() else pa.table({})
    if query_file.is_file() and len(query_attributes) != len(asked):
        raise DataError(
            f"{folder}: {len(asked)} queries but {len(query_attributes)} rows in {QUERY_ATTRIBUTES}",
            f"row i of {QUERY_ATTRIBUTES} belongs to row i of {QUERIES}; the file may be left out",
        )
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


def read_attributes(file: Path) -> pa.Table:
    """The attributes in a parquet file without the id, in the types that they are loaded with.

    Categoricals become their values, and all times count microseconds. Raises DataError with the name of a column that
    PostgreSQL cannot have or hold.
    """
    with reading(file):
        names = pq.read_schema(file).names
    for name, count in Counter(names).items():
        check_name(name, count)
    table = read_parquet(file).replace_schema_metadata(None)
    if "id" in table.column_names:
        table = table.drop_columns(["id"])
    for place, name in enumerate(table.column_names):
        table = table.set_column(place, name, loadable(name, table[name]))
    return table


def check_name(name: str, count: int) -> None:
    """Raise DataError unless a table of the benchmark can have the column."""
    reason = None
    if count > 1:
        reason = f"is there {count} times"
    elif name in OUR_COLUMNS:
        reason = "has the name of the column that the vectors are loaded into"
    elif name in SYSTEM_COLUMNS:
        reason = "has the name of a system column of PostgreSQL"
    elif not name or "\0" in name:
        reason = "has a name that PostgreSQL does not take"
    elif len(name.encode()) > NAME_BYTES:
        reason = f"has a name of more than {NAME_BYTES} bytes, which PostgreSQL cuts off"
    if reason is not None:
        raise DataError(f"column {name!r} of {ATTRIBUTES} {reason}", "rename or drop it there")


def loadable(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in the type that it is loaded with, no value changed. Raises DataError where there is no such type."""
    described = f"column {name!r} of {ATTRIBUTES} ({column.type})"
    try:
        kind = loadable_type(column.type)
        postgres_type(kind)
    except DataError as error:
        raise DataError(f"{described} cannot be loaded: {error}", "convert it to another type, or drop it") from error
    element = kind.value_type if is_list(kind) else kind
    try:
        column = column.cast(kind)
        elements = pc.list_flatten(column) if is_list(kind) else column
        if is_text(element) and pc.any(pc.match_substring(elements, "\0")).as_py():
            raise DataError(
                f"{described} has a text with the character NUL", "remove the character, or drop the column"
            )
        if pa.types.is_date(element) or pa.types.is_timestamp(element):
            pc.min_max(elements).as_py()  # overflows if a value is not of the years 1 to 9999
    except (pa.ArrowInvalid, OverflowError, ValueError) as error:
        hint = "convert it to another type, or drop it"
        if pa.types.is_timestamp(element):
            hint = "round it to microseconds, of the years 1 to 9999, or drop it"
        elif pa.types.is_integer(element):
            hint = "bigint ends at 2^63 - 1: store it as text, or drop it"
        raise DataError(f"{described} cannot be loaded: {error}", hint) from error
    return column


def loadable_type(kind: pa.DataType) -> pa.DataType:
    """The Arrow type with the same values that a column is loaded with."""
    if pa.types.is_dictionary(kind):
        return loadable_type(kind.value_type)
    if pa.types.is_list(kind):
        return pa.list_(loadable_type(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(loadable_type(kind.value_type))
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    same = {pa.uint64(): pa.int64(), pa.date64(): pa.date32(), pa.float16(): pa.float32()}
    return same.get(kind, kind)


def find_roles(attributes: pa.Table) -> Roles:
    """Pick a column for each part, in the order of the columns.

    A name that is ``id`` or ends in ``_id`` is a key, not a quantity, so it serves for nothing here.
    """
    category = number = tags = bucket = residual = None
    for field in attributes.schema:
        if field.name == "id" or field.name.endswith("_id"):
            continue
        if is_list(field.type):
            if tags is None and is_text(field.type.value_type):
                tags = field.name
            continue
        distinct = pc.count_distinct(attributes[field.name]).as_py()
        if is_text(field.type):
            if category is None and distinct in CATEGORY_VALUES:
                category = field.name
        elif field.name == "bucket" and pa.types.is_integer(field.type):
            bucket = field.name
        elif is_ordered(field.type) and distinct >= min(RANGE_VALUES, len(attributes)):
            if number is None:
                number = field.name
            elif residual is None:
                residual = field.name
    return Roles(category, number, tags, bucket, residual)


def is_list(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type are strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_ordered(kind: pa.DataType) -> bool:
    """Whether ranges over this Arrow type make sense in the workloads."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    )


def postgres_type(kind: pa.DataType) -> str:
    """The PostgreSQL column type for an Arrow type. Raises DataError for types the benchmark does not load."""
    if is_list(kind) and not is_list(kind.value_type):
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


@contextmanager
def new_dataset(folder: Path, rows: int, dimensions: int) -> Iterator[Vectors]:
    """The base of a data set that is made in the folder, in place of an older one: rows x dimensions, to be filled.

    Whoever makes it calls ``write_rest`` too before the context ends. The folder holds a data set again from then on,
    and none in the meantime or after a failure. Raises DataError, with nothing touched, where the folder holds the
    embeddings that data sets are made of, as their attributes would be overwritten.
    """
    check_out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (BASE, QUERIES, ATTRIBUTES, QUERY_ATTRIBUTES):
        (folder / name).unlink(missing_ok=True)
    partial = folder / f"{BASE}.partial"
    try:
        base = np.lib.format.open_memmap(partial, "w+", np.float32, (rows, dimensions))
        yield base
        base.flush()
        partial.replace(folder / BASE)
    finally:
        partial.unlink(missing_ok=True)


def check_out(folder: Path) -> None:
    """Raise DataError where a data set must not be made."""
    if (source := embeddings_file(folder)) is not None:
        raise DataError(
            f"{folder} holds {source.name}, whose {ATTRIBUTES} a data set would overwrite", "name another folder"
        )


def check_room(folder: Path, rows: int, dimensions: int) -> None:
    """Raise DataError where the disk of a folder, which need not be there yet, has no room for so many vectors."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    needed, disk = 4 * rows * dimensions, shutil.disk_usage(there)
    # file systems that are none, such as /proc, have no room at all
    if not os.access(there, os.W_OK | os.X_OK) or disk.total == 0:
        raise DataError(f"nothing can be written to {there}", "name another folder")
    if needed > disk.free:
        raise DataError(
            f"{rows:,} rows of {dimensions} dimensions take {needed / 1e9:,.1f} GB, and {folder} has"
            f" {disk.free / 1e9:,.1f} GB free",
            "ask for fewer --rows, or name a folder on a larger disk",
        )


def write_rest(folder: Path, *, queries: Vectors, attributes: pa.Table, query_attributes: pa.Table) -> None:
    """Write everything but the base vectors."""
    np.save(folder / QUERIES, queries)
    pq.write_table(query_attributes, folder / QUERY_ATTRIBUTES, compression="zstd")
    pq.write_table(attributes, folder / ATTRIBUTES, compression="zstd")
