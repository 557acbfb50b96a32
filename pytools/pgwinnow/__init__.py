"""winnow: vector search in PostgreSQL whose filters are ordinary WHERE clauses.

    load_files(dsn, files, table)       .npy, parquet, CSV and JSONL files into a table
    embed_column(dsn, table)            a text column into a vector column, with a local model
    create_index(dsn, table, ...)       CREATE INDEX ... USING winnow, with its progress
    search(connection, query, ...)      a filtered search
    check_index(dsn, index)             is the index sound
    pgwinnow.psycopg, pgwinnow.sqlalchemy, pgwinnow.types, pgwinnow.server, pgwinnow.errors

What goes wrong with files, models, indexes, searches and embedded servers is a ``WinnowError``: their tree is in
``pgwinnow.errors``. An argument out of range is a ``ValueError``, one of the wrong kind a ``TypeError``, and what else
the server refuses a ``psycopg.Error``. Names are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors, psycopg, server, sqlalchemy, types
    from .embed import Provider, embed_column
    from .errors import WinnowError
    from .index import check_index, create_index
    from .load import LoadedFile, load_files
    from .query import SearchResult, search

__version__ = "0.1.0"

__all__ = [
    "LoadedFile",
    "Provider",
    "SearchResult",
    "WinnowError",
    "__version__",
    "check_index",
    "create_index",
    "embed_column",
    "errors",
    "load_files",
    "psycopg",
    "search",
    "server",
    "sqlalchemy",
    "types",
]

_HOME = {
    "LoadedFile": ".load",
    "Provider": ".embed",
    "SearchResult": ".query",
    "WinnowError": ".errors",
    "check_index": ".index",
    "create_index": ".index",
    "embed_column": ".embed",
    "load_files": ".load",
    "search": ".query",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name], __name__), name)
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
