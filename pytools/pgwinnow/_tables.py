"""Tables and their columns, as the server's catalogs have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from .errors import ExtensionMissing, UnknownName
from .types import Metric


@dataclass(frozen=True)
class Table:
    """An existing table; ``schema`` and ``name`` are unquoted."""

    oid: int
    schema: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        """The table, schema-qualified, for psycopg.sql."""
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Column:
    """A column of a table. Domains are looked through: the type is the base type's."""

    name: str
    type_oid: int
    type_name: str
    type_schema: str
    type_kind: str  # pg_type.typtype: b base, e enum, c composite, r range, m multirange
    category: str  # pg_type.typcategory: A array, S string, ...
    modifier: int  # typmod: of a vector its dimensions; -1 for none
    formatted: str  # for messages, for example vector(384)
    element: Column | None  # of an array, its elements

    @property
    def is_vector(self) -> bool:
        """Whether this is a vector column, of winnow's type or of another extension's with that name."""
        return self.type_name == "vector" and self.type_schema != "pg_catalog"

    @property
    def dimensions(self) -> int | None:
        """Dimensions the column's type asks for; None where it takes any."""
        return self.modifier if self.is_vector and self.modifier > 0 else None


_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT attnum, attname, attrelid, atttypid AS type, atttypmod AS modifier
    FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attnum, attname, attrelid, typbasetype, CASE WHEN typtypmod >= 0 THEN typtypmod ELSE modifier END
    FROM base JOIN pg_type ON pg_type.oid = base.type WHERE typtype = 'd'
)
SELECT attname, t.oid, t.typname, tn.nspname, t.typtype, t.typcategory, modifier, format_type(t.oid, modifier),
       e.oid, e.typname, en.nspname, e.typtype, e.typcategory, format_type(e.oid, NULL)
FROM base
JOIN pg_type t ON t.oid = base.type AND t.typtype <> 'd'
JOIN pg_namespace tn ON tn.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_namespace en ON en.oid = e.typnamespace
ORDER BY attnum
"""


@contextmanager
def plain_rows(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Rows are tuples meanwhile, whatever the connection's owner has them made into."""
    kept = connection.row_factory
    connection.row_factory = tuple_row
    try:
        yield
    finally:
        connection.row_factory = kept


def names(given: Sequence[str]) -> list[str]:
    """A list of names; TypeError for a single one, whose letters would be taken for names."""
    if isinstance(given, str):
        raise TypeError(f"columns is a list of names, not a string: [{given!r}]")
    return list(given)


def extension_function(connection: psycopg.Connection[Any], name: str) -> sql.Identifier | None:
    """The extension's function of that name, schema-qualified, as its schema need not be on the search path."""
    row = connection.execute(
        "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'winnow'"
    ).fetchone()
    return sql.Identifier(row[0], name) if row else None


def count_winnow_indexes(connection: psycopg.Connection[Any], names: Sequence[str]) -> int:
    """How many of the indexes of these names, as a plan has them, are winnow's."""
    row = connection.execute(
        "SELECT count(*) FROM pg_class JOIN pg_am ON pg_am.oid = relam WHERE amname = 'winnow' AND relname = ANY (%s)",
        [list(names)],
    ).fetchone()
    return row[0] if row else 0


def find_table(connection: psycopg.Connection[Any], name: str) -> Table | None:
    """The table SQL would find under ``name`` (``items``, ``shop.items``, ``"Items"``), or None."""
    try:
        row = connection.execute(
            "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.oid = to_regclass(%s) AND c.relkind IN ('r', 'p', 'f', 'v', 'm')",
            [name],
        ).fetchone()
    except (psycopg.errors.InvalidName, psycopg.errors.SyntaxError, psycopg.errors.FeatureNotSupported) as error:
        raise UnknownName(f"{name!r} is not a table's name: {error.diag.message_primary}", _QUOTING) from error
    return Table(*row) if row else None


def get_table(connection: psycopg.Connection[Any], name: str) -> Table:
    """The table SQL would find under ``name``; UnknownName where there is none."""
    table = find_table(connection, name)
    if table is None:
        raise UnknownName(f"there is no table {name} in this database", _QUOTING)
    return table


_QUOTING = "Qualify it with its schema (shop.items), and quote capital letters ('\"Items\"')."


def get_columns(connection: psycopg.Connection[Any], table: Table) -> dict[str, Column]:
    """The table's columns by name, in order."""
    columns = {}
    for name, *rest in connection.execute(_COLUMNS, [table.oid]):
        (oid, type_name, schema, kind, category, modifier, formatted, *of) = rest
        element = None
        if of[0] is not None:
            element_oid, element_name, element_schema, element_kind, element_category, element_formatted = of
            element = Column(
                name,
                element_oid,
                element_name,
                element_schema,
                element_kind,
                element_category,
                -1,
                element_formatted,
                None,
            )
        columns[name] = Column(name, oid, type_name, schema, kind, category, modifier, formatted, element)
    return columns


def pick_column(columns: dict[str, Column], name: str, table: Table) -> Column:
    """The column called ``name``; UnknownName lists those there are."""
    if name not in columns:
        raise UnknownName(f"table {table} has no column {name!r}", f"Its columns are {', '.join(columns)}.")
    return columns[name]


def pick_vector(columns: dict[str, Column], name: str, table: Table) -> Column:
    """The vector column called ``name``; UnknownName where it is none."""
    column = pick_column(columns, name, table)
    if not column.is_vector:
        vectors = [other.name for other in columns.values() if other.is_vector]
        raise UnknownName(
            f"column {name!r} of table {table} is {column.formatted}, not a vector",
            f"Its vector columns are {', '.join(vectors)}." if vectors else "It has no vector column.",
        )
    return column


def find_metric(connection: psycopg.Connection[Any], table: Table, column: Column) -> Metric | None:
    """The metric the column is indexed for; None without an index, or where its indexes differ."""
    rows: Iterable[tuple[str]] = connection.execute(
        "SELECT DISTINCT opcname FROM pg_index i"
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = %s AND a.attnum = i.indkey[0]"
        " JOIN pg_opclass o ON o.oid = i.indclass[0]"
        " WHERE i.indrelid = %s AND i.indisvalid AND o.opcname = ANY (%s)",
        [column.name, table.oid, [metric.opclass for metric in Metric]],
    )
    found = [metric for (opclass,) in rows for metric in Metric if metric.opclass == opclass]
    return found[0] if len(found) == 1 else None


def vector_type(connection: psycopg.Connection[Any]) -> sql.Identifier:
    """The vector type on the search path; ExtensionMissing where there is none."""
    row = connection.execute(
        "SELECT nspname, typname FROM pg_type JOIN pg_namespace n ON n.oid = typnamespace"
        " WHERE pg_type.oid = to_regtype('vector')"
    ).fetchone()
    if row is None:
        raise ExtensionMissing(
            "this database has no type vector on its search_path", "Run CREATE EXTENSION winnow in it first."
        )
    return sql.Identifier(*row)
