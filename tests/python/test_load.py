"""What files hold arrives: every format, every type, NULLs; one file at a time, whole."""

from __future__ import annotations

import csv
import datetime as dt
import json
import random
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

import pgwinnow.psycopg
from patience import eventually
from pgwinnow import load_files
from pgwinnow._load import ledger
from pgwinnow.errors import LoadError, UnknownName
from pgwinnow.load import LoadedFile, LoadProgress

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Connection = psycopg.Connection[Any]
UTC = dt.timezone.utc

ROWS: list[dict[str, Any]] = [
    {
        "id": 1,
        "embedding": [1.0, -2.5, 3.25],
        "small": 7,
        "real": 0.5,
        "flag": True,
        "name": 'naïve ☃, "quoted"\nline',
        "day": dt.date(1969, 7, 20),
        "at": dt.datetime(2024, 2, 29, 23, 59, 59, 123456),
        "seen": dt.datetime(1999, 12, 31, 23, 0, tzinfo=UTC),
        "key": uuid.UUID("12345678-1234-5678-1234-567812345678"),
        "tags": ["a", 'b "c", {d}\\', "NULL", ""],
        "counts": [1, 2],
        "amount": Decimal("12345678901234567890.000100"),
        "meta": {"x": [1, {"y": None}]},
    },
    dict.fromkeys(
        ["embedding", "small", "real", "flag", "name", "day", "at", "seen", "key", "tags", "counts", "amount"]
    )
    | {"id": 2, "meta": None},
    {
        "id": 3,
        "embedding": [0.0, 1e-30, -1e30],
        "small": -7,
        "real": -1e300,
        "flag": False,
        "name": "",
        "day": dt.date(4000, 1, 1),
        "at": dt.datetime(1900, 1, 1),
        "seen": dt.datetime(2262, 1, 1, tzinfo=UTC),
        "key": uuid.UUID(int=0),
        "tags": [],
        "counts": [None, -(2**60)],
        "amount": Decimal("-0.5"),
        "meta": {"x": []},
    },
]

TABLE = """
    CREATE TABLE items (id bigint PRIMARY KEY, embedding vector(3), small smallint, real double precision, flag boolean,
        name text, day date, at timestamp, seen timestamptz, key uuid, tags text[], counts bigint[], amount numeric,
        meta jsonb)
"""

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("embedding", pa.list_(pa.float64())),
        ("small", pa.int16()),
        ("real", pa.float64()),
        ("flag", pa.bool_()),
        ("name", pa.string()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("seen", pa.timestamp("us", "UTC")),
        ("key", pa.uuid()),
        ("tags", pa.list_(pa.string())),
        ("counts", pa.list_(pa.int64())),
        ("amount", pa.decimal128(38, 6)),
        ("meta", pa.string()),
    ]
)


def read_items(connection: Connection, columns: str = "*", table: str = "items") -> list[dict[str, Any]]:
    pgwinnow.psycopg.register(connection)
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()
    connection.commit()
    for row in rows:
        if row.get("embedding") is not None:
            row["embedding"] = row["embedding"].tolist()
    return rows


def expected(rows: list[dict[str, Any]] = ROWS) -> list[dict[str, Any]]:
    def as_float32(vector: list[float] | None) -> list[float] | None:
        return None if vector is None else [float(np.float32(number)) for number in vector]

    return [{**row, "embedding": as_float32(row["embedding"])} for row in rows]


def make_table(connection: Connection, ddl: str = TABLE) -> None:
    connection.execute(ddl)
    connection.commit()


def write_parquet(path: Path, rows: list[dict[str, Any]] = ROWS, schema: Any = SCHEMA, **options: Any) -> Path:
    dumped = [{**row, "meta": None if row["meta"] is None else json.dumps(row["meta"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(dumped, schema=schema), path, **options)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    def plain(value: Any) -> Any:
        return float(value) if isinstance(value, Decimal) else str(value)

    path.write_text("".join(json.dumps(row, default=plain) + "\n" for row in rows))
    return path


def write_csv(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    def cell(value: Any) -> Any:
        if isinstance(value, (list, dict)):
            return json.dumps(value)
        return value

    with path.open("w", newline="") as file:
        # Quotes around text: an empty string is not NULL.
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        for row in rows:
            cells = {name: cell(value) for name, value in row.items()}
            writer.writerow({name: _Unquoted() if value is None else value for name, value in cells.items()})
    return path


class _Unquoted(float):
    """An empty cell without quotes."""

    def __repr__(self) -> str:
        return ""

    __str__ = __repr__


def test_parquet_every_type(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection)
    loaded = load_files(dsn, [write_parquet(tmp_path / "items.parquet")], "items")
    assert [file.rows for file in loaded] == [3]
    assert read_items(connection) == expected()


def test_parquet_of_narrow_and_odd_arrow_types(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection)
    rows = [{**row, "real": 0.5, "amount": 2, "counts": [5]} for row in ROWS]
    replaced = {
        "embedding": pa.list_(pa.float32(), 3),
        "real": pa.float16(),
        "name": pa.dictionary(pa.int32(), pa.string()),
        "tags": pa.large_list(pa.large_string()),
        "counts": pa.list_(pa.int8()),
        "seen": pa.timestamp("ms", "America/New_York"),
        "amount": pa.int32(),
    }
    schema = pa.schema([(field.name, replaced.get(field.name, field.type)) for field in SCHEMA])
    load_files(dsn, [write_parquet(tmp_path / "items.parquet", rows, schema)], "items")
    assert read_items(connection) == expected(rows)


def test_jsonl_every_type(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection)
    rows = [{**row, "amount": None if row["amount"] is None else Decimal("0.25")} for row in ROWS]
    load_files(dsn, [write_jsonl(tmp_path / "items.jsonl", rows)], "items")
    assert read_items(connection) == expected(rows)


def test_csv_every_type(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection)
    load_files(dsn, [write_csv(tmp_path / "items.csv")], "items")
    assert read_items(connection) == expected()


def test_csv_that_postgres_wrote(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection)
    load_files(dsn, [write_parquet(tmp_path / "items.parquet")], "items")
    with connection.cursor().copy("COPY items TO STDOUT (FORMAT csv, HEADER)") as copy:
        (tmp_path / "copied.csv").write_bytes(b"".join(bytes(block) for block in copy))
    connection.execute("CREATE TABLE copied (LIKE items)")
    connection.commit()
    load_files(dsn, [tmp_path / "copied.csv"], "copied")
    assert read_items(connection, table="copied") == expected()


def test_json_column_takes_any_json(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection, "CREATE TABLE items (id int, embedding vector, meta jsonb)")
    values = [1, "text", [1, "a"], {"k": 1}, {"k": "v"}, None, True]
    lines = [{"id": number, "meta": value} for number, value in enumerate(values)]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    load_files(dsn, [tmp_path / "items.jsonl"], "items")
    assert [row["meta"] for row in read_items(connection)] == values


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_beside_attributes(connection: Connection, dsn: str, tmp_path: Path, dtype: str, order: Any) -> None:
    vectors = np.array(np.arange(60).reshape(20, 3) / 8, dtype=dtype, order=order)
    np.save(tmp_path / "items.npy", vectors)
    (tmp_path / "items.csv").write_text("id,name\n" + "".join(f"{number},n{number}\n" for number in range(20)))
    load_files(dsn, [tmp_path / "items.npy"], "items", create=True)
    rows = read_items(connection)
    assert [row["embedding"] for row in rows] == vectors.tolist()
    assert [row["name"] for row in rows] == [f"n{number}" for number in range(20)]


def test_pair_is_loaded_once_however_it_is_named(connection: Connection, dsn: str, tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", np.ones((2, 3), np.float32))
    (tmp_path / "items.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    loaded = load_files(dsn, sorted(tmp_path.iterdir()), "items", create=True)
    assert [file.rows for file in loaded] == [2]


def test_vectors_alone_get_an_id_in_the_order_of_the_file(connection: Connection, dsn: str, tmp_path: Path) -> None:
    vectors = np.arange(30, dtype=np.float32).reshape(10, 3)
    np.save(tmp_path / "v.npy", vectors)
    load_files(dsn, [tmp_path / "v.npy"], "items", create=True, vector="vec")
    rows = connection.execute("SELECT id, vec::text FROM items ORDER BY id").fetchall()
    assert rows == [(n + 1, f"[{3 * n},{3 * n + 1},{3 * n + 2}]") for n in range(10)]


def test_random_tables_in_many_blocks(connection: Connection, dsn: str, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = []
    for number in range(40_000):
        row = dict(rng.choice(ROWS), id=number)
        row["tags"] = (
            None if rng.random() < 0.2 else [rng.choice("abc☃") * rng.randrange(4) for _ in range(rng.randrange(4))]
        )
        row["counts"] = [rng.choice([None, rng.randrange(100)]) for _ in range(rng.randrange(3))]
        row["embedding"] = None if rng.random() < 0.2 else [rng.uniform(-1, 1) for _ in range(3)]
        row["small"] = rng.choice([None, rng.randrange(-(2**15), 2**15)])
        rows.append(row)
    make_table(connection)
    load_files(dsn, [write_parquet(tmp_path / "items.parquet", rows, row_group_size=9_001)], "items")
    assert read_items(connection) == expected(rows)


@pytest.mark.parametrize("write", [write_parquet, write_jsonl, write_csv])
def test_types_of_a_new_table(connection: Connection, dsn: str, tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / f"items.{write.__name__.removeprefix('write_')}")
    load_files(dsn, [path], "items", create=True, sql_types={"amount": "numeric(30,6)"})
    types = dict(
        connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'items'::regclass AND attnum > 0"
        ).fetchall()
    )
    assert types == {
        "id": "bigint",
        "embedding": "vector(3)",
        "small": "smallint" if write is write_parquet else "bigint",
        "real": "double precision",
        "flag": "boolean",
        "name": "text",
        "day": "date",
        "at": "timestamp without time zone",
        "seen": "timestamp with time zone",
        "key": "uuid",
        "tags": "text[]",
        "counts": "bigint[]",
        "amount": "numeric(30,6)",
        "meta": "jsonb" if write is write_jsonl else "text",
    }


def test_text_that_only_looks_like_numbers_stays_text(connection: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text('embedding,zip,day\n"[1]",00501,2024-02-31\n"[2]",12345,2024-02-01\n')
    load_files(dsn, [tmp_path / "items.csv"], "items", create=True)
    assert connection.execute("SELECT zip, day FROM items ORDER BY id").fetchone() == ("00501", "2024-02-31")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_fractions_of_a_microsecond_in_text_are_cut_off(
    connection: Connection, dsn: str, tmp_path: Path, suffix: str
) -> None:
    cells = {
        "at": "1969-01-01T10:00:00.123456789",
        "seen": "2024-01-01 10:00:00.9999999+01:00",
        "t": "23:59:59.9999999",
    }
    path = tmp_path / f"v.{suffix}"
    if suffix == "csv":
        path.write_text(f"embedding,{','.join(cells)}\n[1],{','.join(cells.values())}\n")
    else:
        path.write_text(json.dumps({"embedding": [1], **cells}))
    load_files(dsn, [path], "items", create=True, sql_types={"t": "time"})
    row = read_items(connection)[0]
    assert row["at"] == dt.datetime(1969, 1, 1, 10, 0, 0, 123456)
    assert row["seen"] == dt.datetime(2024, 1, 1, 9, 0, 0, 999999, tzinfo=UTC)
    assert row["t"] == dt.time(23, 59, 59, 999999)


def test_other_types_of_column(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(
        connection,
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN vec2 AS vector(2); CREATE DOMAIN mail AS varchar(9);"
        'CREATE TABLE items (id int, embedding vec2, mood mood, mail mail, "Odd ""Name" char(3), raw bytea, t time,'
        " other text DEFAULT 'given')",
    )
    (tmp_path / "items.csv").write_text(
        'id,embedding,mood,mail,"Odd ""Name",raw,t\n1,"[1,2]",bad,a@b,xy,\\xdeadbeef,12:30:00.5\n2,,,,,,\n'
    )
    load_files(dsn, [tmp_path / "items.csv"], "public.items")
    assert list(read_items(connection)[0].values()) == [
        1, [1, 2], "bad", "a@b", "xy ", b"\xde\xad\xbe\xef", dt.time(12, 30, 0, 500_000), "given",
    ]  # fmt: skip
    assert list(read_items(connection)[1].values()) == [2, *[None] * 6, "given"]


VECTOR_TEXTS = ["[1,2,3]", " [1, 2 ,3]\t", "{1,2,3}", ' {1,"2", 3e0}']


@pytest.mark.parametrize("type_name", ["vector(3)", "vector"])
@pytest.mark.parametrize("kind", ["csv", "parquet", "dictionary", "jsonl"])
def test_vectors_written_as_text(connection: Connection, dsn: str, tmp_path: Path, type_name: str, kind: str) -> None:
    path = tmp_path / f"v.{kind.replace('dictionary', 'parquet')}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["embedding"], *([text] for text in VECTOR_TEXTS)])
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"embedding": text}) + "\n" for text in VECTOR_TEXTS))
    else:
        texts = pa.array(VECTOR_TEXTS)
        pq.write_table(pa.table({"embedding": texts.dictionary_encode() if kind == "dictionary" else texts}), path)
    make_table(connection, f"CREATE TABLE items (id serial, embedding {type_name})")
    load_files(dsn, [path], "items")
    load_files(dsn, [path], "made", create=True)
    for table in ("items", "made"):
        assert [row["embedding"] for row in read_items(connection, table=table)] == [[1, 2, 3]] * 4
    assert connection.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'made'::regclass AND attname = 'embedding'"
    ).fetchone() == ("vector(3)",)


LONG = ["[1,100000000000000000000,3]", "[0.5,9007199254740993,3]", "[1,2,3]"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("create", [True, False])
def test_whole_numbers_of_any_length_in_vectors(
    connection: Connection, dsn: str, tmp_path: Path, kind: str, create: bool
) -> None:
    path = tmp_path / f"v.{kind}"
    if kind == "csv":
        path.write_text("id,embedding\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(LONG)))
    else:
        path.write_text("".join(f'{{"id": {number}, "embedding": {text}}}\n' for number, text in enumerate(LONG)))
    if not create:
        make_table(connection, "CREATE TABLE items (id int, embedding vector)")
    load_files(dsn, [path], "items", create=create)
    vectors = [np.array(json.loads(text), np.float32).tolist() for text in LONG]
    assert [row["embedding"] for row in read_items(connection)] == vectors


def test_numbers_in_arrays_keep_their_digits(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection, "CREATE TABLE items (id int, n numeric[], d float[], t text[], b bigint[])")
    cells = ["[100000000000000000001, 1.50]", "[100000000000000000000, 2]", '[""a"", 1.50]']
    (tmp_path / "v.csv").write_text("id,n,d,t,b\n1," + ",".join(f'"{cell}"' for cell in cells) + ',"[1]"\n')
    load_files(dsn, [tmp_path / "v.csv"], "items")
    assert list(read_items(connection)[0].values())[1:] == [
        [Decimal("100000000000000000001"), Decimal("1.50")], [1e20, 2.0], ["a", "1.50"], [1],
    ]  # fmt: skip
    (tmp_path / "v.jsonl").write_text('{"id": 2, "n": [100000000000000000001, 2], "b": [4]}\n')
    load_files(dsn, [tmp_path / "v.jsonl"], "items")
    assert read_items(connection)[1]["n"] == [Decimal("100000000000000000001"), 2]


def test_whole_numbers_of_any_length_in_json(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection, "CREATE TABLE items (id int, n numeric, d double precision)")
    (tmp_path / "v.jsonl").write_text(
        '{"id": 1, "n": 0.5, "d": 0.5}\n'
        '{"id": 2, "n": 100000000000000000001, "d": 100000000000000000001}\n'
        '{"id": 3, "n": null, "d": 9007199254740993}\n'
    )
    load_files(dsn, [tmp_path / "v.jsonl"], "items")
    assert [(row["n"], row["d"]) for row in read_items(connection)] == [
        (Decimal("0.5"), 0.5), (Decimal("100000000000000000001"), 1e20), (None, 9007199254740992.0),
    ]  # fmt: skip


def test_only_the_columns_asked_for(connection: Connection, dsn: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "items.parquet")
    load_files(dsn, [path], "items", create=True, columns=["name", "embedding"])
    assert list(read_items(connection)[0]) == ["id", "name", "embedding"]


def test_npy_vectors_are_loaded_whatever_the_columns(connection: Connection, dsn: str, tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", np.ones((1, 2), np.float32))
    (tmp_path / "items.csv").write_text("id,name,size\n1,a,2\n")
    load_files(dsn, [tmp_path / "items.npy"], "items", create=True, columns=["id", "size"])
    assert read_items(connection) == [{"id": 1, "size": 2, "embedding": [1, 1]}]


def test_columns_leave_out_what_clashes_with_the_vectors(connection: Connection, dsn: str, tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", np.ones((1, 2), np.float32))
    (tmp_path / "items.csv").write_text('id,embedding,size\n1,"[7,8,9]",2\n')
    load_files(dsn, [tmp_path / "items.npy"], "items", create=True, columns=["id", "size"])
    assert read_items(connection) == [{"id": 1, "size": 2, "embedding": [1, 1]}]


def test_columns_leave_out_a_key_that_comes_late(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection, "CREATE TABLE items (id int)")
    (tmp_path / "v.jsonl").write_text('{"id": 1}\n' * 10_000 + '{"id": 2, "late": 1}\n')
    load_files(dsn, [tmp_path / "v.jsonl"], "items", columns=["id"])
    assert connection.execute("SELECT count(*), max(id) FROM items").fetchone() == (10_001, 2)


def test_types_that_a_table_has_already_may_be_given(connection: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,embedding,price,size\n1,"[1]",2,3\n')
    (tmp_path / "b.csv").write_text('id,embedding,size\n2,"[1]",4\n')
    given = {"price": "numeric(8,2)", "size": "float(3)"}
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert len(load_files(dsn, files, "items", create=True, sql_types=given)) == 2


def test_text_without_a_zone_is_utc(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection, "CREATE TABLE items (seen timestamptz)")
    (tmp_path / "v.csv").write_text("seen\n2024-01-01 10:00\n2024-01-01\n")
    load_files(f"{dsn} options='-c timezone=Asia/Tokyo'", [tmp_path / "v.csv"], "items")
    rows = connection.execute("SELECT seen AT TIME ZONE 'UTC' FROM items").fetchall()
    assert rows == [(dt.datetime(2024, 1, 1, 10),), (dt.datetime(2024, 1, 1),)]


def test_quoted_and_qualified_names(connection: Connection, dsn: str, tmp_path: Path) -> None:
    connection.execute('CREATE SCHEMA "My Shop"')
    connection.commit()
    np.save(tmp_path / "v.npy", np.ones((2, 2), np.float32))
    load_files(dsn, [tmp_path / "v.npy"], '"My Shop"."The Items"', create=True, vector="Vec")
    assert connection.execute('SELECT "Vec"::text FROM "My Shop"."The Items"').fetchall() == [("[1,1]",)] * 2
    with pytest.raises(UnknownName, match="no table The_Items"):
        load_files(dsn, [tmp_path / "v.npy"], "The_Items")


def test_progress_and_result(connection: Connection, dsn: str, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((40_000, 2), np.float32))
    seen: list[LoadProgress] = []
    committed: list[LoadedFile] = []
    load_files(dsn, [tmp_path / "v.npy"], "items", create=True, on_progress=seen.append, on_loaded=committed.append)
    assert [event.rows for event in seen] == [0, 8_192, 16_384, 24_576, 32_768, 40_000]
    assert {event.total for event in seen} == {40_000}
    assert [(file.rows, file.skipped) for file in committed] == [(40_000, False)]


def test_files_before_a_bad_one_stay(connection: Connection, dsn: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, 2), np.float32))
    np.save(tmp_path / "b.npy", np.full((5, 2), np.nan, np.float32))
    committed: list[LoadedFile] = []
    with pytest.raises(LoadError):
        load_files(dsn, [tmp_path / "a.npy", tmp_path / "b.npy"], "items", create=True, on_loaded=committed.append)
    assert [file.rows for file in committed] == [5]
    assert connection.execute("SELECT count(*) FROM items").fetchone() == (5,)


def test_resume_passes_over_what_is_loaded(connection: Connection, dsn: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(good, np.ones((5, 2), np.float32))
    np.save(bad, np.full((5, 2), np.nan, np.float32))
    with pytest.raises(LoadError):
        load_files(dsn, [good, bad], "items", create=True, resume=True)
    np.save(bad, np.zeros((4, 2), np.float32))
    loaded = load_files(dsn, [good, bad], "items", create=True, resume=True)
    assert [(file.rows, file.skipped) for file in loaded] == [(0, True), (4, False)]
    assert connection.execute("SELECT count(*) FROM items").fetchone() == (9,)
    # The same contents under another name are the same file; other contents under the same name are refused.
    assert load_files(dsn, [good.rename(tmp_path / "c.npy")], "items", resume=True)[0].skipped
    np.save(bad, np.ones((4, 2), np.float64))
    with pytest.raises(LoadError, match=r"b\.npy was loaded into public\.items at .* and has changed since"):
        load_files(dsn, [bad], "items", resume=True)
    # What another table has does not count.
    assert not load_files(dsn, [bad], "others", create=True, resume=True)[0].skipped


def test_first_loads_with_resume_do_not_wait_for_each_other(connection: Connection, dsn: str, tmp_path: Path) -> None:
    make_table(connection, "CREATE TABLE a (embedding vector); CREATE TABLE b (embedding vector)")
    np.save(tmp_path / "v.npy", np.ones((5, 2), np.float32))
    during: list[LoadedFile] = []

    def load_another(event: LoadProgress) -> None:
        if event.rows:  # the first load is not committed yet
            during.extend(load_files(f"{dsn} options='-c lock_timeout=20s'", [tmp_path / "v.npy"], "b", resume=True))

    loaded = load_files(dsn, [tmp_path / "v.npy"], "a", resume=True, on_progress=load_another)
    assert [(file.rows, file.skipped) for file in during + loaded] == [(5, False)] * 2
    assert connection.execute("SELECT count(*) FROM pgwinnow_loads").fetchone() == (2,)


def wait_for_lock(connection: Connection, waiter: Future[Any]) -> None:
    """Return once another session of the database waits for a lock, or is done without."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    eventually(
        "another session waits for a lock, or is done",
        lambda: waiter.done() or connection.execute(waiting).rowcount > 0,
    )


def test_two_sessions_make_the_record_of_loads(connection: Connection, dsn: str) -> None:
    connection.autocommit = True
    with ThreadPoolExecutor() as threads, psycopg.connect(dsn, autocommit=True) as other:
        with connection.transaction():
            ledger.make(connection, "public")
            made = threads.submit(ledger.make, other, "public")
            with psycopg.connect(dsn, autocommit=True) as watcher:
                wait_for_lock(watcher, made)
        made.result()


@pytest.mark.parametrize("resume", [False, True])
def test_two_sessions_create_one_table(connection: Connection, dsn: str, tmp_path: Path, resume: bool) -> None:
    np.save(tmp_path / "v.npy", np.ones((5, 2), np.float32))
    connection.autocommit = True

    def load(name: str, on_progress: Any = None) -> LoadedFile:
        files = [tmp_path / "v.npy"]
        return load_files(dsn, files, name, create=True, resume=resume, on_progress=on_progress)[0]

    with ThreadPoolExecutor() as threads:
        others: list[Future[LoadedFile]] = []

        def start_another(event: LoadProgress) -> None:
            if event.rows:
                others.append(threads.submit(load, "public.items"))
                wait_for_lock(connection, others[0])

        assert load("items", start_another).rows == 5
        other = others[0].result()
    assert (other.rows, other.skipped) == ((0, True) if resume else (5, False))
    assert connection.execute("SELECT count(*) FROM items").fetchone() == (5 if resume else 10,)


def test_without_resume_nothing_is_recorded(connection: Connection, dsn: str, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((2, 2), np.float32))
    load_files(dsn, [tmp_path / "v.npy"], "items", create=True)
    assert connection.execute("SELECT to_regclass('pgwinnow_loads')").fetchone() == (None,)


def test_empty_files_make_empty_tables(connection: Connection, dsn: str, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.empty((0, 4), np.float32))
    write_parquet(tmp_path / "p.parquet", [])
    make_table(connection)
    loaded = load_files(dsn, [tmp_path / "v.npy"], "empty", create=True)
    loaded += load_files(dsn, [tmp_path / "p.parquet"], "items")
    assert [file.rows for file in loaded] == [0, 0]
