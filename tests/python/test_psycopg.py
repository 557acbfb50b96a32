"""Vectors through psycopg: both formats, both directions, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import psycopg
import pytest

import pgwinnow.psycopg
from pgwinnow.errors import ExtensionMissing

Connection = psycopg.Connection[Any]


@pytest.mark.parametrize("placeholder", ["%s", "%b", "%t"])
@pytest.mark.parametrize("binary", [False, True])
def test_round_trip(connection: Connection, placeholder: str, binary: bool) -> None:
    pgwinnow.psycopg.register(connection)
    sent = np.array([1, -2.5, 1e-30, 3.4e38], dtype=np.float32)
    row = connection.execute(f"SELECT {placeholder}::vector(4)", [sent], binary=binary).fetchone()
    assert row is not None
    assert row[0].dtype == np.float32
    assert row[0].tobytes() == sent.tobytes()


def test_null_and_array_of_vectors(connection: Connection) -> None:
    pgwinnow.psycopg.register(connection)
    sent = [np.array([1, 2], np.float32), None, np.array([3, 4], np.float32)]
    row = connection.execute("SELECT %s::vector[], NULL::vector", [sent]).fetchone()
    assert row is not None
    assert row[1] is None
    assert [None if vector is None else vector.tolist() for vector in row[0]] == [[1, 2], None, [3, 4]]


def test_array_needs_no_cast_beside_an_operator(connection: Connection) -> None:
    pgwinnow.psycopg.register(connection)
    row = connection.execute("SELECT %s <-> %s", [np.zeros(2), np.array([3, 4])]).fetchone()
    assert row == (5.0,)


def test_client_side_binding(connection: Connection) -> None:
    pgwinnow.psycopg.register(connection)
    cursor = psycopg.ClientCursor(connection)
    assert cursor.execute("SELECT vector_dims(%s)", [np.ones(3)]).fetchone() == (3,)


def test_matrix_is_refused_before_it_is_sent(connection: Connection) -> None:
    pgwinnow.psycopg.register(connection)
    with pytest.raises(psycopg.DataError, match=r"shape \(2, 2\)"):
        connection.execute("SELECT %s", [np.ones((2, 2))])


def test_type_in_a_schema_off_the_search_path(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA away; ALTER EXTENSION winnow SET SCHEMA away")
    with pytest.raises(ExtensionMissing, match="no type 'vector'"):
        pgwinnow.psycopg.register(connection)
    pgwinnow.psycopg.register(connection, "away.vector")
    row = connection.execute("SELECT %s", [np.array([1, 2], np.float32)]).fetchone()
    assert row is not None
    assert row[0].tolist() == [1, 2]


def test_async_connection(dsn: str) -> None:
    async def round_trip() -> list[float]:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await pgwinnow.psycopg.register_async(connection)
            row = await (await connection.execute("SELECT %s", [np.array([7, 8], np.float32)])).fetchone()
            assert row is not None
            numbers: list[float] = row[0].tolist()
            return numbers

    assert asyncio.run(round_trip()) == [7, 8]
