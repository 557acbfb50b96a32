"""What cannot be loaded is refused with the row, the column, the value and the way out; and nothing of it stays."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from pgwinnow import load_files
from pgwinnow.errors import ExtensionMissing, FileFormatError, LoadError, UnknownName, ValueRefused, WinnowError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Connection = psycopg.Connection[Any]


DEEP = "[" * 200_000


@pytest.fixture
def items(connection: Connection) -> Connection:
    connection.execute(
        "CREATE TABLE items"
        " (id int CHECK (id < 50000), embedding vector(3), price smallint, at timestamptz, ok boolean)"
    )
    connection.commit()
    return connection


def refuse(
    dsn: str, path: Path, message: str, hint: str = "", kind: type[WinnowError] = ValueRefused, **options: Any
) -> None:
    with pytest.raises(kind, match=message) as refused:
        load_files(dsn, [path], "items", **options)
    assert type(refused.value) is kind
    assert hint in (refused.value.hint or "")
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT to_regclass('items')").fetchone() != (None,):
            assert connection.execute("SELECT count(*) FROM items").fetchone() == (0,)


def write_npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_in_npy_names_the_row(items: Connection, dsn: str, tmp_path: Path, dtype: str, value: float) -> None:
    vectors = np.ones((40_000, 3), dtype)
    vectors[33_332, 1] = value
    vectors[35_000, 1] = value
    path = write_npy(tmp_path / "v.npy", vectors)
    refuse(dsn, path, rf"v\.npy: row 33333, column 'embedding' \(vector\(3\)\): a vector with {value} in it")


def test_malformed_vector_for_a_column_of_any_dimensions(connection: Connection, dsn: str, tmp_path: Path) -> None:
    connection.execute("CREATE TABLE items (embedding vector)")
    connection.commit()
    (tmp_path / "v.csv").write_text('embedding\n"[1,2"\n')
    refuse(dsn, tmp_path / "v.csv", "row 1, column 'embedding'")
    (tmp_path / "v.jsonl").write_text('{"embedding": 7}\n')
    refuse(dsn, tmp_path / "v.jsonl", "row 1, column 'embedding'")
    (tmp_path / "w.jsonl").write_text(json.dumps({"embedding": [1] * 40_000}))
    refuse(dsn, tmp_path / "w.jsonl", "row 1.*a vector of 40,000 dimensions, where 1 to 16,000 can be")


def test_numbers_too_long_for_bigint_become_text(connection: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(
        'code,share,embedding\n12345678901234567890,0.5,"[1,2]"\n12345678901234567891,1,"[3,4]"\n'
    )
    load_files(dsn, [tmp_path / "v.csv"], "items", create=True)
    rows = connection.execute("SELECT code, share FROM items ORDER BY id").fetchall()
    assert rows == [("12345678901234567890", 0.5), ("12345678901234567891", 1.0)]


def test_float64_beyond_float32(items: Connection, dsn: str, tmp_path: Path) -> None:
    refuse(dsn, write_npy(tmp_path / "v.npy", np.array([[1, 2, 3], [1, 1e39, 3]])), r"row 2.*1e\+39 in it")


@pytest.mark.parametrize(
    ("column", "given", "real", "double"),
    [
        ("text", ["1.5", "-0.0", "0e9", "-inf", "Infinity", "nan", "1e-45"], None, None),
        ("text", ["1", "1e39", "1e40"], "row 2, column 'number'.*1e39 is out of range for type real", None),
        ("text", ["0", "1e-60"], "row 2, .*1e-60 is out of range", None),
        ("text", ["0", "-1E400"], "row 2, .*-1E400 is out of range", "row 2, .*-1E400 is out of range"),
        ("text", ["0", "1e-400"], "row 2, .*1e-400 is out of range", "row 2, .*1e-400 is out of range"),
        ("float64", [1.5, -0.0, float("inf"), float("nan"), None, 1e-45], None, None),
        ("float64", [float("inf"), 1e39], r"row 2, .*1e\+39 is out of range", None),
        ("float64", [0.0, -1e-60], "row 2, .*-1e-60 is out of range", None),
        ("decimal", [Decimal(0), Decimal("1e-60")], "row 2, .*1E-60 is out of range", None),
    ],
)
def test_numbers_beyond_the_range_of_a_float(
    connection: Connection, dsn: str, tmp_path: Path, column: str, given: list[Any], real: Any, double: Any
) -> None:
    if column == "text":
        path = tmp_path / "v.csv"
        path.write_text("\n".join(["number", *given]))
    else:
        path = tmp_path / "v.parquet"
        pq.write_table(pa.table({"number": pa.array(given)}), path)
    for type_name, message in (("real", real), ("double precision", double)):
        connection.execute(f"DROP TABLE IF EXISTS items; CREATE TABLE items (number {type_name})")
        connection.commit()
        if message is None:
            assert load_files(dsn, [path], "items")[0].rows == len(given)
        else:
            refuse(dsn, path, message)


def test_numbers_in_json_beyond_double_precision(connection: Connection, dsn: str, tmp_path: Path) -> None:
    connection.execute("CREATE TABLE items (number float, numbers float[])")
    connection.commit()
    for numbers in ('"number": 1e400', f'"number": -1{"0" * 400}.5', '"numbers": [1.5, 1e400]'):
        (tmp_path / "v.jsonl").write_text(f'{{"number": Infinity, "numbers": [Infinity]}}\n{{{numbers}}}\n')
        refuse(dsn, tmp_path / "v.jsonl", "line 2: -?1.* is out of range for type double precision", "as a string")
    (tmp_path / "v.csv").write_text('numbers\n"[1.5]"\n"[1,1e400]"\n')
    refuse(dsn, tmp_path / "v.csv", "row 2, column 'numbers'.* 1e400 is out of range for type double precision")


def test_infinity_in_json(connection: Connection, dsn: str, tmp_path: Path) -> None:
    connection.execute("CREATE TABLE items (number float, numbers float[])")
    connection.commit()
    (tmp_path / "v.jsonl").write_text('{"number": Infinity, "numbers": [-Infinity, 1]}\n')
    load_files(dsn, [tmp_path / "v.jsonl"], "items")
    assert connection.execute("SELECT * FROM items").fetchone() == (float("inf"), [float("-inf"), 1])


def test_elements_beyond_the_range_of_a_float(connection: Connection, dsn: str, tmp_path: Path) -> None:
    connection.execute("CREATE TABLE items (numbers real[])")
    connection.commit()
    (tmp_path / "v.csv").write_text('numbers\n"[1]"\n"[1,1e39]"\n')
    refuse(dsn, tmp_path / "v.csv", r"row 2, column 'numbers'.*1e\+39 is out of range for type real")


def test_not_finite_after_nulls(items: Connection, dsn: str, tmp_path: Path) -> None:
    column = pa.array([None, [1.0, 2, 3], None, [1.0, float("nan"), 3]])
    pq.write_table(pa.table({"embedding": column}), tmp_path / "v.parquet")
    refuse(dsn, tmp_path / "v.parquet", r"row 4, column 'embedding'.*nan in it")


def test_null_within_a_vector(items: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"embedding": [1, 2, 3]}\n{"embedding": [1, null, 3]}\n')
    refuse(dsn, tmp_path / "v.jsonl", r"row 2, column 'embedding'.*NULL among its numbers")


def test_dimensions_differ_from_the_column(items: Connection, dsn: str, tmp_path: Path) -> None:
    refuse(dsn, write_npy(tmp_path / "v.npy", np.ones((2, 4), np.float32)), "row 1.*4 dimensions where 3 are expected")


def test_dimensions_differ_within_a_file(connection: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"embedding": null}\n{"embedding": [1, 2]}\n{"embedding": [1, 2, 3]}\n')
    refuse(dsn, tmp_path / "v.jsonl", "row 3.*3 dimensions where 2 are expected", create=True)
    connection.execute("CREATE TABLE items (embedding vector)")
    connection.commit()
    refuse(dsn, tmp_path / "v.jsonl", "row 3.*3 dimensions where 2 are expected")


@pytest.mark.parametrize(
    ("suffix", "content"), [("csv", "id\n1\n2\n"), ("jsonl", '{"id": 1}\n{"id": 2}\n'), ("parquet", [1, 2])]
)
@pytest.mark.parametrize("vectors", [1, 3])
def test_vectors_and_rows_differ_in_number(
    items: Connection, dsn: str, tmp_path: Path, suffix: str, content: Any, vectors: int
) -> None:
    other = tmp_path / f"v.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"id": content}), other)
    else:
        other.write_text(content)
    path = write_npy(tmp_path / "v.npy", np.ones((vectors, 3), np.float32))
    rows = "2" if vectors == 3 or suffix == "parquet" else "more than 1"
    refuse(dsn, path, rf"v\.npy has {vectors} vectors, .*v\.{suffix} {rows} rows", "same number", FileFormatError)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"price": 40_000}, r"row 3, column 'price' \(smallint\): .*40000"),
        ({"price": 10**20}, r"row 3, column 'price' \(smallint\): .*100000000000000000000"),
        ({"price": 1.5}, r"row 3, column 'price'.*1\.5"),
        ({"price": "cheap"}, r"row 3, column 'price': 'cheap' is of another type"),
        ({"at": "yesterday"}, r"row 3, column 'at'.*yesterday"),
        ({"ok": "perhaps"}, r"row 3, column 'ok': 'perhaps' is of another type"),
        ({"embedding": "[1,2"}, r"row 3, column 'embedding'"),
    ],
)
def test_value_that_does_not_fit(
    items: Connection, dsn: str, tmp_path: Path, line: dict[str, Any], message: str
) -> None:
    good = {"embedding": [1, 2, 3], "price": 1, "at": "2024-01-01", "ok": True}
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, [good, good, good | line, good])))
    refuse(dsn, tmp_path / "v.jsonl", message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('4.5,"[1,2,3]"', r"row 2, column 'price'.*4\.5"),
        ('4,"[1,2"', "row 2, column 'embedding'"),
        ("4,12", r"row 2, column 'embedding'.*'12' is not a list"),
        ('4,"{1,{2},3}"', "row 2, column 'embedding'.*not a one-dimensional array"),
        ('4,"[1,2,""a""]"', "row 2, column 'embedding'"),
        ('4,"{1,b,3}"', "row 2, column 'embedding'.*'b' is not a number"),
        ('4,"{1,2_0,3}"', "row 2, column 'embedding'.*'2_0' is not a number"),
        ('4,"[1,1e400,3]"', "row 2, column 'embedding'.*a vector with inf in it"),
        ('4,"{1,1e400,3}"', "row 2, column 'embedding'.*1e400 is out of range"),
        (f'4,"{DEEP}"', "row 2, column 'embedding'.*nested too deep"),
    ],
)
def test_value_in_csv_that_does_not_fit(items: Connection, dsn: str, tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "v.csv").write_text(f'price,embedding\n1,"[1,2,3]"\n{row}\n')
    refuse(dsn, tmp_path / "v.csv", message)


def test_deep_json_in_a_new_table(connection: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(f"embedding\n{DEEP}\n")
    refuse(dsn, tmp_path / "v.csv", "not vectors: .*nested too deep", "--vector", FileFormatError, create=True)


@pytest.mark.parametrize("value", ["\ud800", ["a", "\ud800"], {"a": "\ud800"}])
def test_half_of_a_surrogate_pair(connection: Connection, dsn: str, tmp_path: Path, value: Any) -> None:
    good = {"embedding": [1, 2], "n": [] if isinstance(value, list) else None}
    (tmp_path / "v.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(good | {"n": value}) + "\n")
    message = r"row 2, column 'n': .*\\ud800.* has half of a surrogate pair"
    refuse(dsn, tmp_path / "v.jsonl", message, "in pairs", create=True)


def test_parquet_with_two_columns_of_one_name(items: Connection, dsn: str, tmp_path: Path) -> None:
    columns = [pa.array([1]), pa.array([[1.0, 2, 3]]), pa.array([3])]
    pq.write_table(pa.Table.from_arrays(columns, names=["id", "embedding", "id"]), tmp_path / "v.parquet")
    refuse(dsn, tmp_path / "v.parquet", "several columns called id", kind=FileFormatError)


def test_unknown_column_names_both_sides(items: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id,colour,price\n1,red,2\n")
    refuse(
        dsn, tmp_path / "v.csv", r"a column 'colour', table public\.items does not", "--columns id,price", UnknownName
    )
    refuse(dsn, tmp_path / "v.csv", "no column 'size'", "'id', 'colour'", FileFormatError, columns=["size"])


def test_no_columns(items: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id\n1\n")
    refuse(dsn, tmp_path / "v.csv", r"no column of .*v\.csv is to be loaded", "--columns", LoadError, columns=[])
    with pytest.raises(TypeError, match=r"list of names, not a string: \['id'\]"):
        load_files(dsn, [tmp_path / "v.csv"], "items", columns="id")


@pytest.mark.parametrize(
    ("given", "message", "kind"),
    [
        ({"zz": "int"}, r"table public\.items has no column 'zz'", UnknownName),
        ({"price": "int"}, r"column 'price' of table public\.items is smallint, not int as --type says", LoadError),
        ({"embedding": "vector(4)"}, r"is vector\(3\), not vector\(4\)", LoadError),
        ({"price": "monney"}, "no type 'monney'", LoadError),
    ],
)
def test_types_that_the_table_does_not_have(
    items: Connection, dsn: str, tmp_path: Path, given: dict[str, str], message: str, kind: type[WinnowError]
) -> None:
    (tmp_path / "v.csv").write_text("price\n1\n")
    refuse(dsn, tmp_path / "v.csv", message, kind=kind, sql_types=given)


def test_type_for_a_column_that_is_not_loaded(connection: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text('embedding,price\n"[1]",2\n')
    message = "--type gives a type to 'zz', which is not among the columns"
    refuse(dsn, tmp_path / "v.csv", message, "'embedding', 'price'", UnknownName, create=True, sql_types={"zz": "int"})


def test_malformed_uuid(connection: Connection, dsn: str, tmp_path: Path) -> None:
    connection.execute("CREATE TABLE items (key uuid)")
    connection.commit()
    for value in ("1234", "zz345678-1234-5678-1234-567812345678"):
        (tmp_path / "v.csv").write_text(f"key\n{value}\n")
        refuse(dsn, tmp_path / "v.csv", f"row 1, column 'key'.*'{value}' is not a uuid")


def test_vectors_for_a_column_that_is_not_there(items: Connection, dsn: str, tmp_path: Path) -> None:
    path = write_npy(tmp_path / "v.npy", np.ones((1, 3), np.float32))
    refuse(dsn, path, "no column 'vec' for the vectors", "vector columns: embedding", UnknownName, vector="vec")


def test_key_that_comes_late(items: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"id": 1}\n' * 10_000 + '{"id": 1, "price": 2}\n')
    refuse(dsn, tmp_path / "v.jsonl", "line 10001 has the key 'price'", "first ones", FileFormatError)


def test_what_the_server_refuses(items: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id\n" + "".join(f"{number}\n" for number in range(50_001)))
    refuse(dsn, tmp_path / "v.csv", "check constraint.*COPY items, line 50001", "Nothing of this file", LoadError)


def test_column_type_that_is_not_known(connection: Connection, dsn: str, tmp_path: Path) -> None:
    connection.execute("CREATE TABLE items (place point)")
    connection.commit()
    (tmp_path / "v.csv").write_text('place\n"(1,2)"\n')
    refuse(dsn, tmp_path / "v.csv", "column 'place' is of type point", "staging table", LoadError)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.npy", b"", r"v\.npy"),
        ("v.npy", b"not an array at all", r"v\.npy"),
        ("v.parquet", b"PAR1", "not a parquet file"),
        ("v.csv", b"", "the file is empty"),
        ("v.csv", b"id,id\n1,2\n", "names id more than once"),
        ("v.csv", b"id,price\n1\n", "Expected 2 columns"),
        ("v.csv", b"id\n\xff\n", "(?i)utf"),
        ("v.jsonl", b'{"id": 1}\n{"id": ', "line 2 is not JSON"),
        ("v.jsonl", b"[1, 2]\n", "line 1 is not a JSON object"),
        ("v.jsonl", b'{"id": "\xff"}\n', "not UTF-8"),
        ("v.jsonl", b"", "no line names a column"),
        ("v.jsonl", b"{}\n\n{}\n", "no line names a column"),
        ("v.jsonl", b'{"id": 1}\n{"id": ' + DEEP.encode(), "line 2 is not JSON: .*nested too deep"),
        ("v.jsonl", b'{"\\ud800": 1}\n', r"the key '\\ud800' has half of a surrogate pair"),
        ("v.npy", b"[[1, 2, 3]]", "magic string is not correct"),
        ("v.txt", b"1", "files ending in .txt"),
    ],
)
def test_file_that_cannot_be_read(
    items: Connection, dsn: str, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    refuse(dsn, tmp_path / name, message, kind=FileFormatError)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3, np.float32), r"shape \(3,\)"),
        (np.ones((2, 0), np.float32), r"shape \(2, 0\)"),
        (np.ones((2, 3), np.int8), "vectors of int8"),
        (np.array([{}], object), "Python objects"),
    ],
)
def test_array_that_is_no_vectors(items: Connection, dsn: str, tmp_path: Path, array: Any, message: str) -> None:
    refuse(dsn, write_npy(tmp_path / "v.npy", array), message, kind=FileFormatError)


def test_one_file_is_no_list(dsn: str, tmp_path: Path) -> None:
    path = write_npy(tmp_path / "v.npy", np.ones((1, 3), np.float32))
    for file in (path, str(path)):
        with pytest.raises(TypeError, match=r"a list of files is needed, not one file: \['.*v\.npy'\]"):
            load_files(dsn, file, "items")  # type: ignore[arg-type]


def test_truncated_npy(items: Connection, dsn: str, tmp_path: Path) -> None:
    path = write_npy(tmp_path / "v.npy", np.ones((1000, 3), np.float32))
    path.write_bytes(path.read_bytes()[:-100])
    refuse(dsn, path, r"v\.npy", kind=FileFormatError)


def test_files_that_do_not_belong_together(items: Connection, dsn: str, tmp_path: Path) -> None:
    path = write_npy(tmp_path / "v.npy", np.ones((1, 3), np.float32))
    refuse(dsn, tmp_path / "missing.npy", "there is no file", kind=FileFormatError)
    refuse(dsn, path, "is vectors itself", kind=FileFormatError, vectors=path)
    (tmp_path / "v.csv").write_text("id,embedding\n1,x\n")
    refuse(dsn, path, "has a column 'embedding', and", "--vector", FileFormatError)
    refuse(dsn, path, "has a column 'embedding', and", "--vector", FileFormatError, columns=["id", "embedding"])
    (tmp_path / "v.jsonl").write_text('{"id": 1}\n')
    refuse(dsn, path, "several files of attributes", "--attributes", FileFormatError)
    with pytest.raises(FileFormatError, match="other half of one file"):
        load_files(dsn, [path, path], "items", attributes=tmp_path / "v.csv")


def test_new_table_without_vectors_or_without_the_type(connection: Connection, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"id": 1, "emb": [1, 2]}\n')
    refuse(
        dsn, tmp_path / "v.jsonl", "no column 'embedding' for the vectors", "lists: emb", FileFormatError, create=True
    )
    refuse(dsn, tmp_path / "v.jsonl", "no table items", "--create", UnknownName)
    for sql_type, message in [("monney", "no type 'monney'"), ("int); --", "invalid type name")]:
        wanted = {"id": sql_type}
        refuse(dsn, tmp_path / "v.jsonl", message, kind=LoadError, create=True, vector="emb", sql_types=wanted)
    connection.execute("DROP EXTENSION winnow")
    connection.commit()
    refuse(dsn, tmp_path / "v.jsonl", "no type vector", "CREATE EXTENSION", ExtensionMissing, create=True, vector="emb")
    assert connection.execute("SELECT to_regclass('items')").fetchone() == (None,)
