"""Columns of an index with any values that their types have: the index finds what a sequential scan finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.examples import fuzz
from server.attributes import KINDS, SETUP, Kind, array_text, literal
from server.oracle import INDEX_ONLY, NO_INDEX

Connection = psycopg.Connection[tuple[object, ...]]

Texts = st.SearchStrategy[str]

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def whole(bits: int) -> Texts:
    most = 2 ** (bits - 1) - 1
    return st.one_of(st.integers(-3, 3), st.integers(-most - 1, most), st.sampled_from([most, -most - 1])).map(str)


def strings(longest: int) -> Texts:
    """Short ones, such as begin alike, and ones of characters of several bytes each."""
    return st.one_of(
        st.text("ab \u00e9\U0001f600", max_size=min(longest, 12)),
        st.text(characters, max_size=min(longest, 30)),
        st.builds(lambda start, end: (start * longest)[: longest - 1] + end, st.sampled_from("a\u00e9"), characters),
    )


def dates() -> Texts:
    special = ["infinity", "-infinity", "4714-11-24 BC", "0001-12-31 BC", "5874897-12-31", "1999-12-31", "2000-01-01"]
    return st.one_of(st.dates().map(str), st.sampled_from(special))


def moments() -> Texts:
    special = ["infinity", "-infinity", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "2000-01-01 00:00"]
    return st.one_of(st.datetimes().map(str), st.sampled_from(special))


numerics = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).filter(lambda value: abs(value.adjusted()) < 2000).map(str),
    st.builds("{}.{}".format, st.integers(-3, 3), st.text("0123456789", min_size=1, max_size=40)),
    st.builds("{}e{}".format, st.integers(-9, 9), st.integers(-400, 400)),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "9e999", "-1e-999", "1.7976931348623158e308", "0.00"]),
)

VALUES: dict[str, Texts] = {
    "boolean": st.sampled_from(["true", "false"]),
    "smallint": whole(16),
    "integer": whole(32),
    "bigint": whole(64),
    "oid": st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)).map(str),
    "real": st.floats(width=32).map(repr),
    "double precision": st.floats().map(repr),
    "numeric": numerics,
    "text": strings(30_000),
    "varchar": strings(20),
    "bpchar": st.text("ab \u00e9", max_size=4),
    "bytea": st.one_of(st.binary(max_size=12), st.binary(max_size=3).map(lambda end: bytes(9) + end)).map(
        lambda value: "\\x" + value.hex()
    ),
    "uuid": st.one_of(st.uuids(), st.uuids().map(lambda value: type(value)(int=value.int >> 60))).map(str),
    "date": dates(),
    "time": st.one_of(st.times().map(str), st.sampled_from(["24:00", "23:59:59.999999"])),
    "timestamp": moments(),
    "timestamptz": st.one_of(
        moments(), st.builds("{}{}".format, st.datetimes(), st.sampled_from(["+00", "+14", "-15:59:59"]))
    ),
    "shade": st.sampled_from(["dark", "dim", "grey", "light", "white"]),
}


def arrays(elements: Texts) -> Texts:
    """Empty ones, with NULL, of two dimensions, counted from elsewhere than 1."""
    members = st.one_of(elements, st.none())
    flat = st.lists(members, min_size=1, max_size=5).map(array_text)
    return st.one_of(
        st.just("{}"),
        flat,
        st.lists(st.tuples(members, members), min_size=1, max_size=3).map(
            lambda rows: "{" + ",".join(array_text(list(row)) for row in rows) + "}"
        ),
        st.lists(members, min_size=2, max_size=2).map(lambda two: "[-1:0]=" + array_text(two)),
    )


def values_of(kind: Kind) -> Texts:
    if kind.type == "text[]":
        return arrays(strings(40))
    return VALUES[kind.type] if kind.ordered else arrays(VALUES[kind.type.removesuffix("[]")])


@dataclass
class Example:
    """Rows before and after the index is made, and conditions on them."""

    before: list[str | None]
    after: list[str | None]
    conditions: list[str]


@st.composite
def examples(draw: st.DrawFn, kind: Kind) -> Example:
    pool = draw(st.lists(values_of(kind), min_size=1, max_size=6))
    rows = st.lists(st.one_of(st.sampled_from(pool), st.none()), max_size=12)
    constants = st.one_of(st.sampled_from(pool), values_of(kind)).map(lambda text: literal(text, kind.type))
    return Example(draw(rows), draw(rows), draw(st.lists(conditions(kind, constants), min_size=1, max_size=6)))


def conditions(kind: Kind, constants: Texts) -> Texts:
    nulls = st.sampled_from(["c IS NULL", "c IS NOT NULL"])
    if not kind.ordered:
        return st.one_of(nulls, st.builds("c {} {}".format, st.sampled_from(["&&", "@>"]), constants))
    return st.one_of(
        nulls,
        st.builds("c {} {}".format, st.sampled_from(["=", "=", "<", "<=", ">", ">=", "<>"]), constants),
        st.builds("c BETWEEN {} AND {}".format, constants, constants),
        st.lists(constants, min_size=1, max_size=9).map(lambda listed: f"c IN ({', '.join(listed)})"),
    )


@pytest.fixture
def any_column(connection: Connection) -> Iterator[Callable[[Kind], Connection]]:
    """Makes the table ``items (id, e, c)`` with a column ``c`` of a kind."""
    connection.autocommit = True
    connection.prepare_threshold = None
    connection.execute(f"{SETUP}; SET winnow.recall = 1")

    def make(kind: Kind) -> Connection:
        connection.execute(f"CREATE TABLE items (id integer, e vector(1), c {kind.column_type})")
        return connection

    backend = connection.info.backend_pid
    yield make
    assert connection.execute("SELECT pg_backend_pid()").fetchone() == (backend,), "the backend did not survive"


def insert(connection: Connection, kind: Kind, first: int, rows: list[str | None]) -> None:
    if rows:
        tuples = ", ".join(f"({first + i}, '[{i % 7}]', {literal(text, kind.type)})" for i, text in enumerate(rows))
        connection.execute(f"INSERT INTO items VALUES {tuples}".encode())


def ids(connection: Connection, setting: str, condition: str, order: str) -> list[object]:
    connection.execute(setting)
    return [row[0] for row in connection.execute(f"SELECT id FROM items WHERE {condition}{order}".encode()).fetchall()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.column_type)
def test_index_agrees_with_table(any_column: Callable[[Kind], Connection], kind: Kind) -> None:
    connection = any_column(kind)

    @fuzz(1 / 40)
    @given(example=examples(kind))
    def agree(example: Example) -> None:
        connection.execute("DROP INDEX IF EXISTS items_index; TRUNCATE items")
        insert(connection, kind, 0, example.before)
        connection.execute("CREATE INDEX items_index ON items USING winnow (e, c) WITH (list_size = 8)")
        insert(connection, kind, 100, example.after)
        for condition in example.conditions:
            expected = ids(connection, NO_INDEX, condition, "")
            found = ids(connection, INDEX_ONLY, condition, " ORDER BY e <-> '[3]'")
            assert sorted(map(str, found)) == sorted(map(str, expected)), condition[:1000]
        connection.execute("SELECT winnow_check('items_index', true)")

    agree()
