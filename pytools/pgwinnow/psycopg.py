"""psycopg 3 adapters: ``vector`` columns come back as float32 arrays and float arrays go out as ``vector``.

Example::

    import psycopg, pgwinnow.psycopg

    with psycopg.connect() as connection:
        pgwinnow.psycopg.register(connection)
        connection.execute("SELECT id FROM items ORDER BY embedding <=> %b LIMIT 10", [query])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection, Connection, DataError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

from . import types
from .errors import ExtensionMissing

__all__ = ["register", "register_async", "register_type"]


class _VectorDumper(Dumper):
    """A numeric 1-d numpy array as text."""

    def dump(self, obj: npt.NDArray[Any]) -> Buffer:
        try:
            return types.to_text(obj).encode()
        except (TypeError, ValueError) as error:
            raise DataError(str(error)) from error


class _VectorBinaryDumper(_VectorDumper):
    """A numeric 1-d numpy array in the binary form."""

    format = Format.BINARY

    def dump(self, obj: npt.NDArray[Any]) -> Buffer:
        try:
            return types.to_binary(obj)
        except (TypeError, ValueError) as error:
            raise DataError(str(error)) from error


class _VectorLoader(Loader):
    def load(self, data: Buffer) -> npt.NDArray[np.float32]:
        return types.from_text(bytes(data).decode())


class _VectorBinaryLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> npt.NDArray[np.float32]:
        return types.from_binary(data)


def register(connection: Connection[Any], type_name: str = "vector") -> None:
    """Teach ``connection`` the type ``vector``, and arrays of it.

    ``type_name`` may be qualified (``"pgvector.vector"``) where the type is not on the search path.
    ExtensionMissing where there is no such type.
    """
    register_type(_found(TypeInfo.fetch(connection, type_name), type_name), connection)


async def register_async(connection: AsyncConnection[Any], type_name: str = "vector") -> None:
    """As ``register``, for an asynchronous connection."""
    register_type(_found(await TypeInfo.fetch(connection, type_name), type_name), connection)


def register_type(info: TypeInfo, context: AdaptContext) -> None:
    """Teach ``context`` (a connection or a cursor) the vector type ``info``; asks the server nothing."""
    info.register(context)
    adapters = context.adapters
    adapters.register_loader(info.oid, _VectorLoader)
    adapters.register_loader(info.oid, _VectorBinaryLoader)
    # Of the two, %s takes the dumper registered last: the binary one.
    for dumper in (_VectorDumper, _VectorBinaryDumper):
        adapters.register_dumper(np.ndarray, type(dumper.__name__, (dumper,), {"oid": info.oid}))


def _found(info: TypeInfo | None, type_name: str) -> TypeInfo:
    if info is None:
        raise ExtensionMissing(
            f"this database has no type {type_name!r}",
            "Run CREATE EXTENSION winnow, or put the extension's schema on the search_path.",
        )
    return info
