"""Ways to load rows with vectors into a table, against each other: rows per second into equal, unindexed tables.

The rows are the data set's own, read from files in the same form each time; all the ways are timed from the file to
the last row committed.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.conninfo import make_conninfo
from rich.progress import Progress
from rich.table import Table

from pgwinnow.bench.datasets import Dataset, postgres_type
from pgwinnow.bench.rivals import Side, Winnow
from pgwinnow.bench.run import DATABASE, bar, connect, make_database
from pgwinnow.bench.tables import know_vector
from pgwinnow.load import load_files
from pgwinnow.types import Metric, to_text

TABLE = "load_items"
TEXT_ROWS = "text COPY, row by row"


@dataclass(frozen=True)
class Loads:
    """Rows per second of each way, the best of its repeats."""

    rows: int
    dimensions: int
    rows_per_second: dict[str, float]

    def as_json(self) -> str:
        """The same as JSON text."""
        return json.dumps(asdict(self), indent=1)


def compare_loads(dsn: str, dataset: Dataset, rows: int, repeats: int, progress: Progress) -> Loads:
    """Load ``rows`` rows of the data set every way, in turns."""
    make_database(dsn)
    side = Winnow(Metric.COSINE, 1.0)
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="pgwinnow-load-") as folder, connect(dsn) as connection:
        side.create_extension(connection)
        vectors, attributes = write_files(Path(folder), dataset, rows)
        ways: dict[str, Callable[[], float]] = {
            TEXT_ROWS: partial(text_rows, connection, vectors, attributes),
            "binary COPY, row by row": partial(binary_rows, connection, side, vectors, attributes),
            "pgwinnow.load_files": partial(blocks, dsn, vectors),
        }
        with bar(progress, "load", repeats * len(ways)) as step:
            for _ in range(repeats):
                for name, way in ways.items():
                    make_table(connection, side, dataset)
                    step(name)
                    best[name] = max(best.get(name, 0.0), rows / way())
                    found = connection.execute("SELECT count(*) FROM load_items").fetchone()
                    if found != (rows,):
                        raise AssertionError(f"{name} loaded {found} rows, not {rows}")
        connection.execute(f"DROP TABLE {TABLE}")
    return Loads(rows, dataset.dimensions, best)


def write_files(folder: Path, dataset: Dataset, rows: int) -> tuple[Path, Path]:
    """The first rows of the data set as a .npy file and a parquet file beside it."""
    vectors, attributes = folder / "rows.npy", folder / "rows.parquet"
    np.save(vectors, dataset.base[:rows])
    table = dataset.attributes.slice(0, rows)
    pq.write_table(table.add_column(0, "id", pa.array(np.arange(rows))), attributes)
    return vectors, attributes


def make_table(connection: psycopg.Connection[Any], side: Side, dataset: Dataset) -> None:
    """An empty table without indexes; the checkpoint keeps one way's writing out of the next one's time."""
    connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
    connection.execute(side.table_sql(dataset, TABLE))
    connection.execute("CHECKPOINT")


def read_rows(vectors: Path, attributes: Path) -> Iterator[tuple[Any, ...]]:
    """Rows of Python values in the order of the table's columns: id, attributes, vector."""
    base = np.load(vectors, mmap_mode="r")
    start = 0
    for batch in pq.ParquetFile(attributes).iter_batches(batch_size=1024):
        columns = [column.to_pylist() for column in batch.columns]
        yield from zip(*columns, base[start : start + len(batch)], strict=True)
        start += len(batch)


def text_rows(connection: psycopg.Connection[Any], vectors: Path, attributes: Path) -> float:
    """COPY in text format, the way most scripts do it; seconds to the commit."""
    start = time.perf_counter()
    with connection.cursor() as cursor, cursor.copy(f"COPY {TABLE} FROM STDIN") as copy:
        for *values, vector in read_rows(vectors, attributes):
            copy.write_row((*values, to_text(vector)))
    return time.perf_counter() - start


def binary_rows(connection: psycopg.Connection[Any], side: Side, vectors: Path, attributes: Path) -> float:
    """COPY in binary format, a row at a time; seconds to the commit."""
    start = time.perf_counter()
    kinds: list[int | str] = [
        *(postgres_type(column.type) for column in pq.read_schema(attributes)),
        know_vector(connection, side),
    ]
    with connection.cursor() as cursor, cursor.copy(f"COPY {TABLE} FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(kinds)
        for row in read_rows(vectors, attributes):
            copy.write_row(row)
    return time.perf_counter() - start


def blocks(dsn: str, vectors: Path) -> float:
    """This package's loader; seconds to the commit, hence without the ANALYZE it ends with."""
    return sum(loaded.seconds for loaded in load_files(make_conninfo(dsn, dbname=DATABASE), [vectors], TABLE))


def loads_table(loads: Loads) -> Table:
    """Rows per second, and how many times the slowest way's."""
    table = Table(title=f"Loading {loads.rows:,} rows with vectors of {loads.dimensions} dimensions")
    for name in ("way", "rows/s", "ratio"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for name, rate in loads.rows_per_second.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / loads.rows_per_second[TEXT_ROWS]:.1f}")
    return table
