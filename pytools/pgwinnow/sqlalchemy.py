"""SQLAlchemy: the column type ``Vector``, its distances, its reflection, and ``winnow_index``.

    items = Table(
        "items", metadata,
        Column("id", BigInteger, primary_key=True),
        Column("embedding", Vector(384)),
        Column("category", Text),
    )
    winnow_index("items_embedding_idx", items.c.embedding, items.c.category, metric="cosine")

    select(items).where(items.c.category == "shoes").order_by(items.c.embedding.cosine_distance(query)).limit(10)

Values come back as float32 numpy arrays. In a declarative class ``winnow_index`` goes into ``__table_args__``, with the
``mapped_column`` objects or the columns' names, or behind the class, with its attributes. Arrays of vectors are
``ARRAY(Vector(3), dimensions=1)``, on connections that know the type::

    @event.listens_for(engine, "connect")
    def register(connection, record):
        pgwinnow.psycopg.register(connection)

For Alembic, name ``alembic_render_item`` as ``render_item`` in env.py, and migrations import what they use. (It sees a
column's dimensions change, but not an index's metric.) Reflection gives ``Vector`` unless another library (pgvector's
Python package) has registered its own class for the type name before: then that class stays, and works as it does
without this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

from .errors import MissingExtra

try:
    from sqlalchemy import Column, ColumnElement, Dialect, Float, Index, event
except ModuleNotFoundError as missing:
    raise MissingExtra("sqlalchemy", "sqlalchemy") from missing
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType

from . import types
from .types import Metric, VectorLike

__all__ = ["Vector", "alembic_render_item", "winnow_index"]


class VectorComparator(UserDefinedType.Comparator[npt.NDArray[np.float32]]):
    """Distances as SQL expressions; sort by one of them to use an index for that metric."""

    def l2_distance(self, other: Any) -> ColumnElement[float]:
        """Euclidean distance, ``<->``."""
        return self._distance(Metric.L2, other)

    def cosine_distance(self, other: Any) -> ColumnElement[float]:
        """1 minus the cosine of the angle, ``<=>``."""
        return self._distance(Metric.COSINE, other)

    def max_inner_product(self, other: Any) -> ColumnElement[float]:
        """The inner product negated, ``<#>``, so that the greatest comes first."""
        return self._distance(Metric.IP, other)

    def l1_distance(self, other: Any) -> ColumnElement[float]:
        """Taxicab distance, ``<+>``."""
        return self._distance(Metric.L1, other)

    def _distance(self, metric: Metric, other: Any) -> ColumnElement[float]:
        return cast("ColumnElement[float]", self.op(metric.operator, return_type=Float())(other))


class Vector(UserDefinedType[npt.NDArray[np.float32]]):
    """The type ``vector(dim)``; without ``dim``, ``vector`` of any dimensions.

    Takes anything numpy makes a 1-d array of numbers from.
    """

    cache_ok = True
    hashable = False  # arrays are not
    render_bind_cast = True  # a bound value has no type of its own: $1::VECTOR(384)

    def __init__(self, dim: int | None = None) -> None:
        if dim is not None and not (isinstance(dim, int) and 1 <= dim <= types.MAX_DIMENSIONS):
            raise ValueError(f"a vector has 1 to {types.MAX_DIMENSIONS} dimensions, not {dim!r}")
        self.dim = dim

    def get_col_spec(self, **_: Any) -> str:
        """The type in DDL and casts."""
        return "VECTOR" if self.dim is None else f"VECTOR({self.dim})"

    def bind_processor(self, dialect: Dialect) -> Callable[[VectorLike | None], Any]:
        """Binary through psycopg 3, text through any other driver."""
        write: Callable[[VectorLike], Any] = types.to_text
        if dialect.driver in ("psycopg", "psycopg_async"):
            write = _Packed
        return lambda value: None if value is None else write(value)

    def literal_processor(self, dialect: Dialect) -> Callable[[VectorLike], str]:
        """The value inside the statement's text."""
        return lambda value: f"'{types.to_text(value)}'"

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Arrays, from text or from whatever a registered adapter has made of it."""

        def read(value: Any) -> npt.NDArray[np.float32] | None:
            if value is None:
                return None
            if isinstance(value, str):
                return types.from_text(value)
            # pgvector's own adapters give objects with to_numpy().
            return np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value, dtype=np.float32)

        return read

    comparator_factory = VectorComparator


def winnow_index(
    name: str | None,
    vector: Any,
    *attributes: Any,
    metric: str = "cosine",
    with_: Mapping[str, Any] | None = None,
    **options: Any,
) -> Index:
    """An index ``USING winnow`` over a vector column and the attribute columns its searches filter by.

    ``vector`` is a column, its name, an attribute of a mapped class or an expression; ``metric`` is l2, ip or cosine;
    ``with_`` holds storage parameters; ``options`` go to ``sqlalchemy.Index`` (``postgresql_where``, ``postgresql_ops``
    of attributes, ...). ValueError for another metric.
    """
    opclass = Metric.indexed(metric).opclass
    if hasattr(vector, "__clause_element__"):
        vector = vector.__clause_element__()
    if isinstance(vector, ColumnElement) and not isinstance(vector, Column) and vector.key is None:
        vector = vector.label("winnow_vector")  # operator classes go by keys; the label is not in the DDL
    operator_classes = dict(options.pop("postgresql_ops", {}))
    index = Index(
        name,
        vector,
        *attributes,
        postgresql_using="winnow",
        postgresql_ops=operator_classes,
        postgresql_with={**options.pop("postgresql_with", {}), **(with_ or {})},
        **options,
    )

    # A column's key may not be known before it belongs to a table.
    def set_opclass(attached: Index, _: Any) -> None:
        column: Any = attached.expressions[0]
        attached.dialect_options["postgresql"]["ops"] = {**operator_classes, column.key: opclass}

    if index.table is None:
        event.listen(index, "after_parent_attach", set_opclass)
    else:
        set_opclass(index, index.table)
    return index


def alembic_render_item(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Alembic's ``render_item`` hook: writes ``Vector`` columns with the import they need."""
    if kind == "type" and isinstance(item, Vector):
        autogen_context.imports.add("import pgwinnow.sqlalchemy")
        return f"pgwinnow.sqlalchemy.{item!r}"
    return False


class _Packed:
    """A vector on its way to psycopg: it takes the type from the cast around it, so no type has to be looked up."""

    def __init__(self, value: VectorLike) -> None:
        self.array = types.as_vector(value)

    def __repr__(self) -> str:  # in the messages of errors, and with echo=True
        return f"vector({types.to_text(self.array)})"


class _PackedDumper(Dumper):
    def dump(self, obj: _Packed) -> Buffer:
        return types.to_text(obj.array).encode()


class _PackedBinaryDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _Packed) -> Buffer:
        return types.to_binary(obj.array)


psycopg.adapters.register_dumper(_Packed, _PackedDumper)
psycopg.adapters.register_dumper(_Packed, _PackedBinaryDumper)  # registered last: what %s takes
ischema_names.setdefault("vector", Vector)
