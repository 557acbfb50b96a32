"""Attribute columns for random tests: types, values, and conditions on them, all as SQL text."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

Sample = Callable[[Random], str]


@dataclass(frozen=True)
class Kind:
    """A type that a column of a winnow index can have.

    ``sample`` draws the text of a value, ``others`` names further types whose constants compare with the column.
    ``ordered`` types have ``<`` and its like, the others ``&&`` and ``@>``.
    """

    type: str
    sample: Sample
    declaration: str = ""
    others: tuple[tuple[str, Sample], ...] = ()
    ordered: bool = True
    pattern: bool = False

    @property
    def column_type(self) -> str:
        return self.declaration or self.type


def boolean(rng: Random) -> str:
    return rng.choice(["true", "false"])


def integer(bits: int) -> Sample:
    def sample(rng: Random) -> str:
        most = 2 ** (bits - 1) - 1
        return str(rng.choice([rng.randint(-9, 9), rng.randint(-9, 9), rng.randint(-most, most), most, -most - 1]))

    return sample


def small_integer(rng: Random) -> str:
    """Without extremes, which make everything else look near to one another."""
    return str(rng.randint(-40, 40))


def recent_day(rng: Random) -> str:
    """Around the day that dates are counted from."""
    return rng.choice([f"1999-12-{rng.randint(1, 31):02}", f"2000-01-{rng.randint(1, 31):02}"])


def object_id(rng: Random) -> str:
    return str(rng.choice([rng.randint(0, 9), rng.randint(0, 2**32 - 1), 0, 2**31 - 1, 2**31, 2**32 - 1]))


def single(rng: Random) -> str:
    special = ["NaN", "Infinity", "-Infinity", "0", "-0", "1e-45", "-1e-45", "3.4028235e38", "-3.4028235e38"]
    number = struct.unpack("f", struct.pack("f", rng.uniform(-5, 5)))[0]
    return rng.choice([rng.choice(special), repr(number), str(rng.randint(-5, 5))])


def double(rng: Random) -> str:
    special = ["NaN", "Infinity", "-Infinity", "0", "-0", "5e-324", "1.7976931348623157e308", "3.5e38", "0.1"]
    return rng.choice([rng.choice(special), repr(rng.uniform(-5, 5)), single(rng)])


def numeric(rng: Random) -> str:
    special = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "2e400", "1e-400", "0.1", "0.10000000000000000000001"]
    return rng.choice([rng.choice(special), str(rng.randint(-99, 99) / 4), "0.1" + str(rng.randint(0, 9)) * 20])


def string(rng: Random) -> str:
    special = [
        "",
        " ",
        "a",
        "A",
        "Z",
        "\u00e9\u00df",
        "\U0001f600",
        "it's",
        'say "x"',
        "back\\slash",
        "100%",
        "z" * 3000,
    ]
    shared = "prefix__" + rng.choice(["", "a", "b", "ab", "B", "\u00e4"])
    return rng.choice([rng.choice(special), shared, chr(rng.randint(97, 105)) * rng.randint(1, 3)])


def short_string(rng: Random) -> str:
    return string(rng)[:20]


def padded(rng: Random) -> str:
    return rng.choice(["", "a", "a ", "ab", "abcd", "B", "zzzz"])


def octets(rng: Random) -> str:
    value = rng.choice([b"", b"\0", b"\0\0", b"\xff" * 9, rng.randbytes(2), b"12345678" + rng.randbytes(1)])
    return "\\x" + value.hex()


def identifier(rng: Random) -> str:
    near = f"00000000-0000-0000-{rng.randint(0, 3):04x}-{rng.randint(0, 3):012x}"
    return rng.choice([near, str(uuid.UUID(int=rng.getrandbits(128))), "f" * 32, "0" * 32])


def day(rng: Random) -> str:
    special = ["infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "2000-01-01", "1999-12-31"]
    return rng.choice([rng.choice(special), f"2024-03-{rng.randint(1, 31):02}", f"1969-12-{rng.randint(25, 31)}"])


def clock(rng: Random) -> str:
    moment = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}.{rng.randint(0, 999999):06}"
    return rng.choice(["00:00", "24:00", "23:59:59.999999", moment, f"{rng.randint(8, 12):02}:00"])


def moment(rng: Random) -> str:
    special = ["infinity", "-infinity", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999"]
    near = f"2024-03-{rng.randint(8, 12):02} {clock(rng)}"
    return rng.choice(
        [rng.choice(special), near, f"2024-03-{rng.randint(1, 31):02} 00:00", "1999-12-31 23:59:59.999999"]
    )


def zoned(rng: Random) -> str:
    value = moment(rng)
    if value.startswith("2024"):
        value += rng.choice(["+00", "-05", "+14", "-12"])
    return value


def shade(rng: Random) -> str:
    return rng.choice(["dark", "dim", "grey", "light", "white"])


def array(element: Sample) -> Sample:
    def sample(rng: Random) -> str:
        if rng.random() < 0.1:
            return "{}"
        return array_text([None if rng.random() < 0.05 else element(rng) for _ in range(rng.randint(1, 4))])

    return sample


def array_text(elements: list[str | None]) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join("NULL" if element is None else quoted(element) for element in elements) + "}"


INTEGERS = (("smallint", integer(16)), ("integer", integer(32)), ("bigint", integer(64)))
DAYS = (("date", day), ("timestamp", moment), ("timestamptz", zoned))

KINDS = (
    Kind("boolean", boolean),
    Kind("smallint", integer(16), others=INTEGERS),
    Kind("integer", integer(32), others=INTEGERS),
    Kind("bigint", integer(64), others=INTEGERS),
    Kind("integer", small_integer, others=INTEGERS),
    Kind("bigint", small_integer),
    Kind("real", single, others=(("double precision", double),)),
    Kind("double precision", double, others=(("real", single),)),
    Kind("numeric", numeric),
    Kind("text", string, pattern=True),
    Kind("text", string, 'text COLLATE "C"', pattern=True),
    Kind("text", string, 'text COLLATE "C.utf8"', pattern=True),
    Kind("varchar", short_string, "varchar(20)", pattern=True),
    Kind("bpchar", padded, "char(4)"),
    Kind("bytea", octets),
    Kind("uuid", identifier),
    Kind("date", day, others=DAYS),
    Kind("date", recent_day, others=DAYS),
    Kind("time", clock),
    Kind("timestamp", moment, others=DAYS),
    Kind("timestamptz", zoned, others=DAYS),
    Kind("oid", object_id),
    Kind("shade", shade),
    Kind("integer[]", array(integer(16)), ordered=False),
    Kind("text[]", array(string), ordered=False),
    Kind("uuid[]", array(identifier), ordered=False),
    Kind("shade[]", array(shade), ordered=False),
)
FOLDED = (
    Kind("text", string, "text COLLATE folded"),
    Kind("bpchar", padded, "char(4) COLLATE folded"),
    Kind("bpchar[]", array(padded), "char(4)[] COLLATE folded", ordered=False),
)
"""For servers with ICU, after :data:`SETUP_ICU`."""

# The ranks of an enum's values are not the order of their OIDs.
SETUP = """
    CREATE TYPE shade AS ENUM ('dark', 'light');
    ALTER TYPE shade ADD VALUE 'grey' BEFORE 'light';
    ALTER TYPE shade ADD VALUE 'dim' BEFORE 'grey';
    ALTER TYPE shade ADD VALUE 'white';
"""
SETUP_ICU = "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"


@dataclass(frozen=True)
class Column:
    """What a condition can be on: a column or an expression, with values that occur in it."""

    name: str
    kind: Kind
    pool: list[str]
    stored: bool = True

    @classmethod
    def random(cls, rng: Random, name: str, kind: Kind) -> Column:
        return cls(name, kind, [kind.sample(rng) for _ in range(rng.choice([1, 3, 10, 100]))])

    def value(self, rng: Random) -> str | None:
        """For a row: often one that other rows have, sometimes NULL."""
        return None if rng.random() < 0.08 else self.constant(rng)

    def constant(self, rng: Random) -> str:
        """For a condition: often one that rows have."""
        return rng.choice(self.pool) if rng.random() < 0.85 else self.kind.sample(rng)


def literal(text: str | None, type_name: str) -> str:
    return f"NULL::{type_name}" if text is None else "'" + text.replace("'", "''") + f"'::{type_name}"


@dataclass
class Values:
    """The constants of a statement: in its text, or parameters of a prepared one."""

    prepared: bool
    types: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def add(self, text: str | None, type_name: str) -> str:
        if not self.prepared:
            return literal(text, type_name)
        self.types.append(type_name)
        self.arguments.append(literal(text, type_name))
        return f"${len(self.types)}"


def simple_condition(rng: Random, column: Column, values: Values) -> str:
    """One key that the index answers, but for ``<>`` where the index is not exact."""
    kind = column.kind
    name = column.name
    form = rng.random()
    if form < 0.12:
        return f"{name} IS {rng.choice(['', 'NOT '])}NULL"
    if not kind.ordered and form < 0.3:
        element = next(iter(_elements(column.constant(rng))), None)
        return f"{values.add(element, kind.type.removesuffix('[]'))} = ANY ({name})"
    if not kind.ordered:
        elements = array_text([*_elements(column.constant(rng)), *([None] if rng.random() < 0.03 else [])])
        return f"{name} {rng.choice(['&&', '@>'])} {values.add(elements, kind.type)}"
    if kind.type == "boolean" and form < 0.4:
        return rng.choice([name, f"NOT {name}", f"{name} IS TRUE", f"{name} IS NOT TRUE"])
    type_name, constant = _constant_type(rng, column)
    if form < 0.35:
        listed: list[str | None] = [constant() for _ in range(rng.choice([0, 1, 2, 5, 40]))]
        if rng.random() < 0.1:
            listed.append(None)
        # IN casts constants of another type to the column's, and may fail in that.
        if listed and type_name == kind.type and rng.random() < 0.5:
            return f"{name} IN ({', '.join(values.add(text, type_name) for text in listed)})"
        return f"{name} = ANY ({values.add(array_text(listed), f'{type_name}[]')})"
    if form < 0.5:
        first, second = values.add(constant(), type_name), values.add(constant(), type_name)
        return (
            f"{name} BETWEEN SYMMETRIC {first} AND {second}" if form < 0.45 else f"{name} BETWEEN {first} AND {second}"
        )
    if form < 0.52:
        return f"{name} = {values.add(None, type_name)}"
    operator = rng.choice(["=", "=", "<", "<=", ">", ">=", "<>"])
    return f"{name} {operator} {values.add(constant(), type_name)}"


def _elements(text: str) -> list[str | None]:
    """Of an array's text as :func:`array_text` writes it: some of its elements."""
    parts: list[str | None] = []
    inside = text[1:-1]
    while inside:
        if inside.startswith("NULL"):
            end = 4
        else:
            end = 1
            while inside[end] != '"':
                end += 2 if inside[end] == "\\" else 1
            parts.append(inside[1:end].replace('\\"', '"').replace("\\\\", "\\"))
            end += 1
        inside = inside[end + 1 :]
    return parts[:2]


def _constant_type(rng: Random, column: Column) -> tuple[str, Callable[[], str]]:
    if column.kind.others and rng.random() < 0.4:
        type_name, sample = rng.choice(column.kind.others)
        return type_name, lambda: sample(rng)
    return column.kind.type, lambda: column.constant(rng)


def residual_condition(rng: Random, columns: list[Column], values: Values) -> str:
    """A condition that the executor has to test."""
    patterned = [column for column in columns if column.kind.pattern]
    ordered = [column for column in columns if column.kind.ordered]
    form = rng.random()
    if patterned and form < 0.3:
        operator = rng.choice(["LIKE", "NOT LIKE"])
        return f"{rng.choice(patterned).name} {operator} {values.add(rng.choice('aAbpz') + '%', 'text')}"
    if ordered and form < 0.5:
        column = rng.choice(ordered)
        return f"{column.name} IS DISTINCT FROM {values.add(column.constant(rng), column.kind.type)}"
    if form < 0.75:
        return f"other < {values.add(str(rng.randint(0, 100)), 'integer')}"
    return f"id % {rng.randint(2, 20)} = {values.add(str(rng.randint(0, 1)), 'integer')}"


def element_condition(rng: Random, column: Column, values: Values) -> str:
    """A condition with a list for which ``NOT`` and NULLs are not what they seem."""
    kind = column.kind
    if not kind.ordered:
        return simple_condition(rng, column, values)
    listed: list[str | None] = [column.constant(rng) for _ in range(rng.choice([0, 1, 2, 5, 40]))]
    if rng.random() < 0.1:
        listed.append(None)
    array = values.add(None if rng.random() < 0.03 else array_text(listed), f"{kind.type}[]")
    return f"{column.name} {rng.choice(['=', '<>', '<>', '<', '>='])} {rng.choice(['ANY', 'ALL', 'ALL'])} ({array})"


def constant_condition(rng: Random, values: Values) -> str:
    """A condition that says the same of every row, as those on optional parameters do."""
    value = values.add(rng.choice([None, "1"]), "integer")
    return rng.choice([f"{value} IS NULL", f"{value} = 1", f"NOT {value} IS NULL"])


def condition_tree(rng: Random, columns: list[Column], values: Values, depth: int = 3) -> str:
    """Conditions joined by AND, OR and NOT to some depth, and tests of what comes out."""
    form = rng.random()
    if depth == 0 or form < 0.15:
        leaf = rng.random()
        if not columns or leaf < 0.06:
            return residual_condition(rng, columns, values)
        if leaf < 0.12:
            return constant_condition(rng, values)
        column = rng.choice(columns)
        if leaf < 0.35:
            return element_condition(rng, column, values)
        if leaf < 0.45:
            distinct = values.add(rng.choice([None, column.constant(rng)]), column.kind.type)
            return f"{column.name} IS {rng.choice(['', 'NOT '])}DISTINCT FROM {distinct}"
        return simple_condition(rng, column, values)
    if form < 0.3:
        return f"NOT ({condition_tree(rng, columns, values, depth - 1)})"
    if form < 0.4:
        outcome = rng.choice(["TRUE", "FALSE", "UNKNOWN", "NULL"])
        return f"({condition_tree(rng, columns, values, depth - 1)}) IS {rng.choice(['', 'NOT '])}{outcome}"
    parts = [condition_tree(rng, columns, values, depth - 1) for _ in range(rng.choice([2, 2, 3]))]
    return "(" + rng.choice([" AND ", " OR ", " OR "]).join(parts) + ")"


def where_clause(rng: Random, columns: list[Column], values: Values) -> str:
    """Any number of conditions, joined by AND; empty for none."""
    parts = []
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 4])):
        form = rng.random()
        if not columns or form < 0.12:
            parts.append(residual_condition(rng, columns, values))
        elif form < 0.22:
            sides = [simple_condition(rng, rng.choice(columns), values) for _ in range(2)]
            parts.append(f"({sides[0]} OR {sides[1]})")
        elif form < 0.3:
            parts.append(f"NOT ({simple_condition(rng, rng.choice(columns), values)})")
        elif form < 0.55:
            parts.append(condition_tree(rng, columns, values))
        else:
            parts.append(simple_condition(rng, rng.choice(columns), values))
    return " AND ".join(parts)
