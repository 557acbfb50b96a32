"""The demo's two tables of equal contents, one for each side, filled and indexed only where something changed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from pgwinnow._tables import get_columns, get_table
from pgwinnow.bench.datasets import ATTRIBUTES, EMBEDDINGS
from pgwinnow.bench.tables import comment_on, set_comment
from pgwinnow.demo.corpus import DATASET
from pgwinnow.embed import Provider
from pgwinnow.embed._record import claim
from pgwinnow.index import create_index
from pgwinnow.load import load_files

DATABASE = "demo"
TABLES = {"docs": "public", "docs_pgvector": "pgvector"}  # table: schema of its vector type
FILTERS = ("package", "kind", "n_lines", "n_params", "has_examples", "tags", "modified")
COLUMNS = """
    id bigint PRIMARY KEY,
    package text NOT NULL,
    module text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    n_lines integer NOT NULL,
    n_params integer,
    has_examples boolean NOT NULL,
    tags text[],
    modified timestamptz NOT NULL,
    doc text NOT NULL"""

Progress = Callable[[str, int, int], None]  # step, done, total


@dataclass(frozen=True)
class Corpus:
    """Texts with attributes and vectors, on disk in the form that the loader and the benchmark read."""

    folder: Path
    attributes: pa.Table
    vectors: npt.NDArray[np.float16]

    def digest(self) -> str:
        """Changes with anything in the corpus."""
        digest = hashlib.sha256(self.vectors.tobytes())
        for name in self.attributes.column_names:
            digest.update(repr(self.attributes[name].to_pylist()).encode())
        return digest.hexdigest()[:16]

    def save(self) -> None:
        """Write the files unless they hold the corpus already; a benchmark data set made of older ones goes."""
        seal = self.digest().encode()
        attributes = self.folder / ATTRIBUTES
        if attributes.is_file() and (pq.read_schema(attributes).metadata or {}).get(b"digest") == seal:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / DATASET, ignore_errors=True)
        np.save(self.folder / EMBEDDINGS, self.vectors)
        pq.write_table(self.attributes.replace_schema_metadata({b"digest": seal}), attributes, compression="zstd")


def make_database(dsn: str) -> None:
    """Create the demo's database with both extensions, unless they are there."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'")
    with psycopg.connect(dsn, dbname=DATABASE, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS winnow")
        if has_pgvector(connection):
            connection.execute("CREATE SCHEMA IF NOT EXISTS pgvector")
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA pgvector")


def has_pgvector(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has pgvector to compare with; Debian's does not."""
    found = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    return found is not None


def is_current(connection: psycopg.Connection[Any], table: str, corpus: Corpus) -> bool:
    """Whether the table holds this corpus, indexed."""
    return comment_on(connection, table) == corpus.digest()


def fill(dsn: str, connection: psycopg.Connection[Any], corpus: Corpus, provider: Provider, progress: Progress) -> None:
    """Make winnow's table anew, load it, and build its one index."""
    make_table(connection, "docs", corpus)
    table = get_table(connection, "docs")
    claim(connection, table, get_columns(connection, table)["embedding"], provider)
    load(dsn, "docs", corpus, progress)
    create_index(
        dsn,
        "docs",
        columns=FILTERS,
        name="docs_winnow",
        on_progress=lambda at: progress(f"winnow: {at.phase}", at.done, at.total),
    )
    set_comment(connection, "TABLE", "docs", corpus.digest())


def fill_pgvector(dsn: str, connection: psycopg.Connection[Any], corpus: Corpus, progress: Progress) -> None:
    """Make pgvector's table anew, load it, and build HNSW and an index on every filter column."""
    make_table(connection, "docs_pgvector", corpus)
    load(dsn, "docs_pgvector", corpus, progress)
    for column in FILTERS:
        method = "gin" if column == "tags" else "btree"
        connection.execute(f"CREATE INDEX ON docs_pgvector USING {method} ({column})")
    create_index(
        dsn,
        "docs_pgvector",
        name="docs_hnsw",
        method="hnsw",
        on_progress=lambda at: progress(f"pgvector: {at.phase}", at.done, at.total),
    )
    set_comment(connection, "TABLE", "docs_pgvector", corpus.digest())


def make_table(connection: psycopg.Connection[Any], table: str, corpus: Corpus) -> None:
    """An empty table in place of an older one."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))
    vector = f"embedding {TABLES[table]}.vector({corpus.vectors.shape[1]})"
    connection.execute(f"CREATE TABLE {table} ({COLUMNS},\n    {vector}\n)")


def load(dsn: str, table: str, corpus: Corpus, progress: Progress) -> None:
    """Load the corpus's files, which also analyses the table."""
    load_files(
        dsn,
        [corpus.folder / EMBEDDINGS],
        table,
        attributes=corpus.folder / ATTRIBUTES,
        on_progress=lambda at: progress(f"loading {table}", at.rows, at.total or len(corpus.vectors)),
    )


def sizes(connection: psycopg.Connection[Any]) -> dict[str, tuple[int, int]]:
    """Bytes of the rows and of the search indexes (without the key) of each table there is."""
    rows = connection.execute(
        "SELECT c.relname, pg_table_size(c.oid),"
        " (SELECT sum(pg_relation_size(indexrelid)) FROM pg_index WHERE indrelid = c.oid AND NOT indisprimary)::bigint"
        " FROM pg_class c WHERE c.relname = ANY (%s) AND relkind = 'r'",
        (list(TABLES),),
    ).fetchall()
    return {name: (heap, indexes or 0) for name, heap, indexes in rows}
