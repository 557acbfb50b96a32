"""Storage parameters and settings take what is allowed, and refuse the rest with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import sql

from fuzz.examples import fuzz

Connection = psycopg.Connection[tuple[object, ...]]

ROWS = 40
NEAREST = "SELECT id FROM items ORDER BY e <-> '[1,2]' LIMIT 5"

whole_numbers = st.one_of(
    st.integers(0, 20), st.integers(4090, 4100), st.integers(-(2**70), 2**70), st.sampled_from([2**31, -(2**31) - 1])
).map(str)
odd_values = st.one_of(
    st.floats().map(repr),
    st.sampled_from(
        ["0x10", "010", "1e2", " 64 ", "64kB", "64.4", "true", "off", "", "NULL", "nan", "infinity", "8,9"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
names = st.one_of(
    st.sampled_from(["list_size", "LIST_SIZE", "fillfactor", "lists", "list_size ", "oids", "recall", "simd"]),
    st.text(st.characters(min_codepoint=33, exclude_categories=["Cs"]), min_size=1, max_size=12),
)


@pytest.fixture
def items(connection: Connection) -> Iterator[Connection]:
    """Connection to a database with the table ``items (id, e)``, without an index."""
    connection.autocommit = True
    connection.execute("CREATE TABLE items (id integer, e vector(2))")
    connection.execute(f"INSERT INTO items SELECT i, ARRAY[i, -i]::vector(2) FROM generate_series(1, {ROWS}) i")
    connection.execute("SET enable_seqscan = off")
    backend = connection.info.backend_pid
    yield connection
    assert connection.execute("SELECT pg_backend_pid()").fetchone() == (backend,), "the backend did not survive"


def assert_refused(error: psycopg.Error) -> None:
    """Invalid parameter or name, said in words."""
    assert error.sqlstate is not None, f"connection lost: {error}"
    assert error.sqlstate[:2] in {"22", "42"}, f"{error.sqlstate}: {error}"
    assert error.diag.message_primary


def assert_works(connection: Connection) -> None:
    connection.execute("SELECT winnow_check('items_index', true)")
    assert connection.execute(NEAREST).fetchall() == [(1,), (2,), (3,), (4,), (5,)]


@fuzz(0.3)
@given(name=st.one_of(st.just("list_size"), names), value=st.one_of(whole_numbers, odd_values))
@example(name="list_size", value="8")
@example(name="list_size", value="4097")
@example(name="list_size", value="9223372036854775808")
def test_storage_parameters(items: Connection, name: str, value: str) -> None:
    items.execute("DROP INDEX IF EXISTS items_index")
    create = sql.SQL("CREATE INDEX items_index ON items USING winnow (e vector_l2_ops) WITH ({}={})")
    allowed = name == "list_size" and re.fullmatch("[0-9]{1,4}", value) is not None and 8 <= int(value) <= 4096
    try:
        items.execute(create.format(sql.Identifier(name), sql.Literal(value)))
    except psycopg.Error as error:
        assert not allowed
        assert_refused(error)
        return
    assert name == "list_size", "a parameter that does not exist was taken"
    record = items.execute("SELECT list_size FROM winnow_index_info('items_index')").fetchone()
    assert record is not None
    used = int(str(record[0]))
    assert 8 <= used <= 4096
    if re.fullmatch("-?[0-9]+", value):
        # A leading zero makes it octal.
        assert allowed
        assert value.startswith("0") or used == int(value)
    items.execute("ALTER INDEX items_index RESET (list_size); ALTER INDEX items_index SET (list_size = 10)")
    items.execute("REINDEX INDEX items_index")
    assert_works(items)


@fuzz(0.3)
@given(value=st.one_of(st.floats().map(repr), st.floats(-0.5, 1.5).map(repr), whole_numbers, odd_values))
@example(value="0.01")
@example(value="1.0000000000000002")
@example(value="nan")
def test_recall(items: Connection, value: str) -> None:
    items.execute("CREATE INDEX IF NOT EXISTS items_index ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    number = float(value) if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?|nan|-?inf", value) else None
    try:
        items.execute("SELECT set_config('winnow.recall', %s, false)", [value])
    except psycopg.Error as error:
        assert number is None or not 0.01 <= number <= 1
        assert_refused(error)
        return
    record = items.execute("SELECT current_setting('winnow.recall')::float8").fetchone()
    assert record is not None
    assert 0.01 <= float(str(record[0])) <= 1
    assert len(items.execute(NEAREST).fetchall()) == 5


@fuzz(0.3)
@given(value=st.one_of(st.sampled_from(["scalar", "neon", "avx2", "AVX512", "avx512_vpopcnt"]), odd_values))
def test_simd(items: Connection, value: str) -> None:
    """Any level that has a name can be asked for on any machine."""
    items.execute("CREATE INDEX IF NOT EXISTS items_index ON items USING winnow (e vector_l2_ops) WITH (list_size = 8)")
    known = value.lower() in {"scalar", "neon", "avx2", "avx512", "avx512_vpopcnt"}
    try:
        items.execute("SELECT set_config('winnow.simd', %s, false)", [value])
    except psycopg.Error as error:
        assert not known
        assert_refused(error)
        return
    assert known
    assert_works(items)


@fuzz(0.1)
@given(name=st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
def test_settings_that_do_not_exist(items: Connection, name: str) -> None:
    """The prefix is reserved, so a misspelt setting is noticed."""
    if name in {"recall", "simd"}:
        return
    items.execute("SELECT winnow_simd()")
    with pytest.raises(psycopg.errors.InvalidName, match="reserved prefix"):
        items.execute("SELECT set_config(%s, '1', false)", [f"winnow.{name}"])
