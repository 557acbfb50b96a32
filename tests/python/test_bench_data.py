"""Data sets of one's own and how they are made: what is refused, what is loaded as it is, and what is never lost."""

from __future__ import annotations

import datetime
import io
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.progress import Progress

from cluster import VERSION, Cluster
from pgwinnow.bench import datasets, tables, truth, upkeep
from pgwinnow.bench.datasets import DataError, Dataset, Roles
from pgwinnow.bench.grow import grow
from pgwinnow.bench.rivals import Pgvector, Side, Winnow
from pgwinnow.bench.run import DATABASE, Options, run
from pgwinnow.bench.synthetic import generate
from pgwinnow.bench.truth import Exact
from pgwinnow.bench.upkeep import Plan
from pgwinnow.bench.workloads import make_workloads
from pgwinnow.types import Metric

ROWS, QUERIES = 400, 6


def make_source(folder: Path, attributes: pa.Table) -> Path:
    """A folder of embeddings with these attributes."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    np.save(folder / datasets.EMBEDDINGS, rng.standard_normal((len(attributes), 8)).astype(np.float16))
    pq.write_table(attributes, folder / datasets.ATTRIBUTES)
    return folder


def make_folder(folder: Path, attributes: pa.Table) -> Path:
    """A data set folder with these attributes."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    for name, rows in ((datasets.BASE, len(attributes)), (datasets.QUERIES, QUERIES)):
        np.save(folder / name, rng.standard_normal((rows, 8), dtype=np.float32))
    pq.write_table(attributes, folder / datasets.ATTRIBUTES)
    return folder


def numbered(rows: int = ROWS) -> pa.Table:
    return pa.table({"size": pa.array(range(rows), pa.int32())})


# Making them


@pytest.mark.parametrize("out", ["source", "link", "source/../source", "other"])
def test_a_source_is_not_written_to(tmp_path: Path, out: str) -> None:
    source = make_source(tmp_path / "source", numbered())
    make_source(tmp_path / "other", numbered())
    (tmp_path / "link").symlink_to(source)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(DataError, match=r"holds embeddings\.f16\.npy"):
        grow(source, tmp_path / out, 0, held_out=QUERIES)
    with pytest.raises(DataError, match=r"holds embeddings\.f16\.npy"):
        generate(tmp_path / out, 1000, 8, queries=QUERIES)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_nothing_is_written_where_the_arguments_do_not_fit(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", numbered().append_column("kind", pa.array(["a"] * ROWS)))
    grow(source, tmp_path / "out", 0, held_out=QUERIES)
    for jitter, message in (("sizes", "no column sizes"), ("kind", "column kind is string")):
        with pytest.raises(DataError, match=message):
            grow(source, tmp_path / "out", 1000, held_out=QUERIES, jitter=jitter)
    for rows in (-5, ROWS - QUERIES - 1):
        with pytest.raises(DataError, match=f"394 real rows are left beside the queries, more than the {rows}"):
            grow(source, tmp_path / "out", rows, held_out=QUERIES)
    assert len(datasets.open_dataset(tmp_path / "out").base) == ROWS - QUERIES


class Interrupted(Exception):
    """What a user's Ctrl-C stands for here."""


@pytest.mark.parametrize("way", ["data", "synthetic"])
@pytest.mark.parametrize("before", [False, True])
def test_an_interrupted_data_set_is_none(tmp_path: Path, way: str, *, before: bool) -> None:
    source, out = make_source(tmp_path / "source", numbered()), tmp_path / "out"
    seen = []

    def stop(step: str, done: int, total: int) -> None:
        seen.append(datasets.is_dataset(out))
        raise Interrupted

    def make(rows: int, **progress: Any) -> None:
        if way == "data":
            grow(source, out, rows, held_out=QUERIES, **progress)
        else:
            generate(out, rows, 8, queries=QUERIES, **progress)

    if before:
        make(1000)
    with pytest.raises(Interrupted):
        make(2000, progress=stop)
    assert seen == [False]
    assert not datasets.is_dataset(out)
    assert not list(out.glob("*.partial"))
    make(2000)
    made = datasets.open_dataset(out)
    assert len(made.base) == 2000
    np.testing.assert_allclose(np.linalg.norm(made.base, axis=1), 1, atol=1e-5)


def test_a_killed_run_leaves_no_data_set(tmp_path: Path) -> None:
    generate(tmp_path, 1000, 8, queries=QUERIES)
    making = datasets.new_dataset(tmp_path, 2000, 8)
    making.__enter__()
    assert not datasets.is_dataset(tmp_path)
    assert (tmp_path / f"{datasets.BASE}.partial").is_file()
    generate(tmp_path, 1500, 8, queries=QUERIES)
    assert len(datasets.open_dataset(tmp_path).base) == 1500


# Recognising them


def every_type() -> pa.Table:
    """A table of all types that are loaded, with NULLs."""
    rng = np.random.default_rng(1)
    times = rng.integers(0, 1_600_000_000, ROWS)
    kinds = [None if i % 7 == 0 else f"kind {i % 5}" for i in range(ROWS)]
    lists = [None if i % 5 == 0 else [i, None, i + 1][: i % 4] for i in range(ROWS)]
    days = [datetime.date(2000 + i % 20, 1, 1) if i % 3 else None for i in range(ROWS)]
    return pa.table(
        {
            "order": pa.array(kinds).dictionary_encode(),
            "my cat": pa.array(kinds, pa.large_string()),
            "Id": pa.array(range(ROWS), pa.uint16()),
            '50 % "off"': pa.array(times * 1000, pa.timestamp("ns")),
            "select": pa.array(times, pa.timestamp("s", tz="UTC")),
            "big": pa.array(times, pa.uint64()),
            "half": pa.array(np.arange(ROWS) % 50, pa.float16()),
            "single": pa.array([None if i % 9 == 0 else i / 8 for i in range(ROWS)], pa.float32()),
            "flag": pa.array([None if i % 9 == 0 else i % 2 == 0 for i in range(ROWS)]),
            "day": pa.array(days, pa.date64()),
            "numbers": pa.array(lists, pa.list_(pa.int64())),
            "moments": pa.array(lists, pa.large_list(pa.timestamp("ms"))),
            "values": pa.array([[f"{each}" for each in some or ()] for some in lists], pa.list_(pa.string())),
            "items": pa.array([None if i % 4 == 0 else i / 7 for i in range(ROWS)]),
        }
    )


def changed(column: pa.Array, row: int) -> pa.Array:
    """The column with one value replaced by another one's, or NULL."""
    values = column.to_pylist()
    values[row] = next((each for each in values if each is not None and each != values[row]), None)
    return pa.array(values, column.type)


def test_fingerprints_tell_any_change(tmp_path: Path) -> None:
    dataset = datasets.open_dataset(make_folder(tmp_path / "data", every_type()))
    known = dataset.fingerprint()
    assert len(known) == 16
    rng, others = np.random.default_rng(2), []
    for _ in range(5):
        base = np.array(dataset.base)
        base[rng.integers(ROWS), rng.integers(8)] += 1e-3
        others.append(replace(dataset, base=base))
    for place, name in enumerate(dataset.attributes.column_names):
        for row in (0, int(rng.integers(ROWS)), ROWS - 1):
            column = changed(dataset.attributes[name].combine_chunks(), row)
            others.append(replace(dataset, attributes=dataset.attributes.set_column(place, name, column)))
    others.append(replace(dataset, attributes=dataset.attributes.drop_columns(["flag"])))
    names = [*dataset.attributes.column_names[:-1], "renamed"]
    others.append(replace(dataset, attributes=dataset.attributes.rename_columns(names)))
    assert len({known, *(each.fingerprint() for each in others)}) == len(others) + 1


def test_fingerprints_tell_large_data_apart() -> None:
    base = np.zeros((5000, 4), dtype=np.float32)
    attributes = pa.table({"size": np.zeros(5000, dtype=np.int32)})
    roles = Roles(None, None, None, None, None)
    one = Dataset("one", base, base[:1], attributes, pa.table({}), roles)
    for row in (1, 2, 3, 4999):
        moved, sizes = base.copy(), np.zeros(5000, dtype=np.int32)
        moved[row, 0] = sizes[row] = 1
        assert replace(one, base=moved).fingerprint() != one.fingerprint()
        assert replace(one, attributes=pa.table({"size": sizes})).fingerprint() != one.fingerprint()


def test_fingerprints_do_not_depend_on_how_values_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = datasets.open_dataset(make_folder(tmp_path / "data", every_type()))
    parts = [dataset.attributes.slice(start, 90) for start in range(0, ROWS, 90)]
    monkeypatch.setattr(datasets, "BLOCK_BYTES", 100)
    again = replace(dataset, base=np.asfortranarray(dataset.base), attributes=pa.concat_tables(parts))
    assert again.fingerprint() == dataset.fingerprint()
    middle = replace(dataset, base=dataset.base[100:200], attributes=dataset.attributes.slice(100, 100))
    alone = replace(middle, attributes=dataset.attributes.take(np.arange(100, 200)))
    assert middle.fingerprint() == alone.fingerprint()


def test_answers_are_not_taken_over_for_changed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = datasets.open_dataset(make_folder(tmp_path / "data", numbered(3000)))
    workload = make_workloads(dataset, seed=1, patterns=["none"])[0]
    Exact(dataset, 10, cache=tmp_path / "truth").answer(workload)
    base = np.array(dataset.base)
    base[1] = dataset.queries[0]
    answer = Exact(replace(dataset, base=base), 10, cache=tmp_path / "truth").answer(workload)
    assert answer.threshold[0] < Exact(dataset, 10, cache=tmp_path / "truth").answer(workload).threshold[0]
    asked = replace(dataset, queries=dataset.queries[::-1].copy())
    assert Exact(asked, 10, cache=tmp_path / "truth").answer(workload).threshold[0] != answer.threshold[0]
    monkeypatch.setattr(truth, "exact_topk", None)
    Exact(dataset, 10, cache=tmp_path / "truth").answer(workload)


# Files of one's own


def npy(array: Any, cut: int | None = None) -> bytes:
    """What numpy.save writes, or only the beginning of it."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()[:cut]


def spoiled(row: int, value: float) -> Any:
    array = FINE.copy()
    array[row, 2] = value
    return array


FINE = np.ones((ROWS, 8), np.float32)
WRONG_FILES = [
    pytest.param(b"garbage, and more of it", "cannot be read as an array: the magic string", id="garbage"),
    pytest.param(b"\x93NUMPY\x01\x00\x10\x00{'descr': 5     }", "cannot be read as an array", id="header"),
    pytest.param(npy(FINE, 700), "cannot be read as an array: mmap length", id="truncated"),
    pytest.param(b"", "cannot be read as an array: EOF", id="empty"),
    pytest.param(npy(np.array([[None]])), "cannot be read as an array: .*Python objects", id="objects"),
    pytest.param(npy(FINE.astype(int)), "holds int64, not numbers of floating point", id="integers"),
    pytest.param(npy(FINE[0]), r"has the shape \(8,\)", id="one dimension"),
    pytest.param(npy(FINE[None]), r"has the shape \(1, 400, 8\)", id="three dimensions"),
    pytest.param(npy(FINE[:0]), r"has the shape \(0, 8\)", id="no rows"),
    pytest.param(npy(FINE[:, :0]), r"has the shape \(400, 0\)", id="no dimensions"),
    pytest.param(npy(spoiled(70, np.nan)), "holds nan in row 70", id="nan"),
    pytest.param(npy(spoiled(3, -np.inf)), "holds -inf in row 3", id="inf"),
]


@pytest.mark.parametrize("name", [datasets.BASE, datasets.QUERIES, datasets.EMBEDDINGS])
@pytest.mark.parametrize(("content", "message"), WRONG_FILES)
def test_files_that_hold_no_vectors_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr(datasets, "BLOCK_BYTES", 1000)
    grown = name == datasets.EMBEDDINGS
    folder = (make_source if grown else make_folder)(tmp_path / "folder", numbered())
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} {message}") as caught:
        grow(folder, tmp_path / "out", 0, held_out=QUERIES) if grown else datasets.open_dataset(folder)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["float64", ">f4"])
def test_a_base_of_another_type_can_be_converted(tmp_path: Path, kind: str) -> None:
    folder = make_folder(tmp_path, numbered())
    np.save(folder / datasets.BASE, FINE.astype(kind))
    with pytest.raises(DataError, match="float32 is needed") as caught:
        datasets.open_dataset(folder)
    statement = str(caught.value.hint).removeprefix("convert it: ")
    exec(statement, {"numpy": np})
    np.save(folder / datasets.QUERIES, FINE[:QUERIES].astype(kind))
    dataset = datasets.open_dataset(folder)
    assert dataset.base.dtype == dataset.queries.dtype == np.float32


@pytest.mark.parametrize("name", [datasets.ATTRIBUTES, datasets.QUERY_ATTRIBUTES])
@pytest.mark.parametrize("content", [b"", b"PAR1 and garbage PAR1"])
def test_parquet_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    folder = make_folder(tmp_path, numbered())
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} cannot be read as parquet"):
        datasets.open_dataset(folder)


@pytest.mark.parametrize("name", datasets.SOURCES)
def test_embeddings_of_any_name_and_float_type(tmp_path: Path, name: str) -> None:
    source = make_source(tmp_path / "source", numbered())
    (source / datasets.EMBEDDINGS).unlink()
    with pytest.raises(DataError, match=r"must hold embeddings\.f16\.npy or .* or embeddings\.npy, and") as caught:
        grow(source, tmp_path / "out", 0, held_out=QUERIES)
    assert "numpy.save('embeddings.npy'" in str(caught.value.hint)
    assert "pyarrow.parquet.write_table(" in str(caught.value.hint)
    np.save(source / name, FINE.astype(np.float64))
    assert grow(source, tmp_path / "out", 0, held_out=QUERIES) == ROWS - QUERIES
    with pytest.raises(DataError, match=f"holds {name}"):
        generate(source, 1000, 8)


def test_more_rows_than_the_disk_holds_are_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", numbered())
    with pytest.raises(DataError, match=r"rows of 8 dimensions take [\d,]+\.0 GB, and .* GB free"):
        grow(source, tmp_path / "out" / "new", 999_999_999_999, held_out=QUERIES)
    with pytest.raises(DataError, match="GB free"):
        generate(tmp_path / "out", 999_999_999_999, 8)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="nothing can be written to /proc"):
        generate(Path("/proc/papers"), 1000, 8)


# Columns of one's own


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("embedding", pa.array([1]), "column 'embedding' of attributes.parquet has the name of the column"),
        ("xmin", pa.array([1]), "column 'xmin' .* system column"),
        ("", pa.array([1]), "column '' .* name that PostgreSQL does not take"),
        ("ä" * 32, pa.array([1]), "column 'ä*' .* more than 63 bytes"),
        ("big", pa.array([2**63], pa.uint64()), r"column 'big' .*\(uint64\) .* 9223372036854775808 not in range"),
        ("when", pa.array([1001], pa.timestamp("ns")), r"column 'when' .*\(timestamp\[ns\]\) .* lose data: 1001"),
        ("when", pa.array([2**61], pa.timestamp("ms")), "column 'when' .* out of bounds"),
        ("when", pa.array([2**62], pa.timestamp("us")), "column 'when' .* cannot be loaded"),
        ("day", pa.array([2**30], pa.date32()), "column 'day' .* cannot be loaded"),
        ("lists", pa.array([[2**63]], pa.list_(pa.uint64())), "column 'lists' .* not in range"),
        ("nested", pa.array([[[1]]]), "column 'nested' .* no PostgreSQL type"),
        ("record", pa.array([{"a": 1}]), "column 'record' .* no PostgreSQL type"),
        ("empty", pa.nulls(1), "column 'empty' .* no PostgreSQL type"),
        ("text", pa.array(["a\0"]), "column 'text' .* NUL"),
    ],
)
def test_columns_that_cannot_be_loaded_are_refused_by_name(
    tmp_path: Path, name: str, values: pa.Array, message: str
) -> None:
    folder = make_folder(tmp_path / "data", pa.table({name: values}))
    with pytest.raises(DataError, match=message) as caught:
        datasets.open_dataset(folder)
    assert caught.value.hint
    source = make_source(tmp_path / "source", pa.table({name: pa.concat_arrays([values] * 30)}))
    with pytest.raises(DataError, match=message):
        grow(source, tmp_path / "out", 0, held_out=QUERIES)
    assert not (tmp_path / "out").exists()


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(DataError, match=r"column 'a' of attributes\.parquet is there 2 times"):
        datasets.open_dataset(make_folder(tmp_path, twice))


def test_columns_keep_their_values(tmp_path: Path) -> None:
    table = every_type()
    dataset = datasets.open_dataset(make_folder(tmp_path, table.append_column("id", pa.array(range(ROWS)))))
    assert dataset.attributes.column_names == table.column_names
    assert dataset.roles == Roles("order", "Id", "values", None, '50 % "off"')
    # Python has no nanoseconds, so times are compared as they are before.
    plain = table.set_column(3, '50 % "off"', table['50 % "off"'].cast(pa.timestamp("us")))
    plain = plain.set_column(9, "day", plain["day"].cast(pa.date32()))
    assert dataset.attributes.to_pylist() == plain.to_pylist()


def test_only_numbers_are_buckets(tmp_path: Path) -> None:
    table = pa.table({"bucket": pa.array(np.linspace(0, 1, ROWS)), "tags": pa.array([[1]] * ROWS)})
    assert datasets.open_dataset(make_folder(tmp_path, table)).roles == Roles(None, "bucket", None, None, None)


@pytest.mark.parametrize(
    ("large", "names"),
    [
        (0, []),
        (1, ["EM own", "NOT own"]),
        (3, ["EM own", "EM random", "EM farthest", "NOT own", "OR"]),
        (4, ["EM own", "EM random", "EM farthest", "IN 3", "NOT own", "OR"]),
    ],
)
def test_workloads_that_lack_categories_are_left_out(tmp_path: Path, large: int, names: list[str]) -> None:
    kinds = [f"large {i % large}" for i in range(large * 25)]
    kinds += [f"small {i}" for i in range(ROWS - len(kinds))]
    untagged = pa.array([[]] * ROWS, pa.list_(pa.string()))
    attributes = pa.table({"kind": kinds, "tags": untagged, "bucket": pa.array(range(ROWS))})
    folder = make_folder(tmp_path, attributes)
    dataset = datasets.open_dataset(folder, roles=Roles("kind", None, "tags", "bucket", None))
    found = [each.name for each in make_workloads(dataset, seed=1)]
    assert [name for name in found if "bucket" not in name and name not in ("none", "IN 50", "no limit 1 %")] == names


def test_indexes_have_names_of_their_own(tmp_path: Path) -> None:
    names = ["items", "hnsw", "plain_pkey", "x" * 63, "filter_1", "my cat"]
    attributes = pa.table({name: pa.array(range(ROWS)) for name in names})
    folder = make_folder(tmp_path, attributes)
    found = set()
    for pair in itertools.permutations(names, 2):
        side = Pgvector(Metric.COSINE, 0.9)
        dataset = datasets.open_dataset(folder, roles=Roles(None, pair[0], None, pair[1], None))
        own = [index.name for index in side.indexes(dataset)]
        assert len({*own, side.table, "pgvector_plain", "pgvector_plain_pkey", "pgvector_items_pkey"}) == 7
        assert all(len(name) <= 63 for name in own)
        found |= set(own)
    assert "pgvector_my cat" in found


def sides() -> list[Side]:
    rival: list[Side] = [] if VERSION == 15 else [Pgvector(Metric.COSINE, 0.9)]
    return [Winnow(Metric.COSINE, 0.9), *rival]


@pytest.mark.parametrize(
    "roles",
    [
        None,
        Roles("my cat", '50 % "off"', "values", "big", "items"),
        Roles(None, "items", None, "Id", "half"),
        Roles("order", "day", None, None, "select"),
    ],
)
def test_a_run_over_columns_of_ones_own(cluster: Cluster, tmp_path: Path, roles: Roles | None) -> None:
    table = every_type()
    items = [None if i % 4 == 0 else np.nan if i % 3 == 0 else i / 7 for i in range(ROWS)]
    table = table.set_column(table.column_names.index("items"), "items", pa.array(items, pa.float64()))
    dataset = datasets.open_dataset(make_folder(tmp_path / "data", table), roles=roles)
    options = Options(
        recall=0.9,
        rounds=1,
        clients=1,
        client_seconds=0.02,
        insert_rows=10,
        insert_rounds=1,
        upkeep=Plan(seconds=0.02, copied=50, updated=10, writers=1),
    )
    results = run(cluster.server.dsn(), dataset, sides(), options, Progress(disable=True))
    assert {answer.side for answer in results.answers} == {side.name for side in sides()}
    assert all(answer.wrong == 0 for answer in results.answers)
    measured = [answer for answer in results.answers if answer.measured and answer.side == "winnow"]
    assert measured
    assert all(answer.recall >= 0.8 for answer in measured)
    assert len(results.busy) == len(sides())
    # Both kinds of updates, as far as there are columns for them.
    updated = [cost for cost in results.upkeep if cost.task.startswith("UPDATE")]
    assert len(updated) == len(sides()) * ((dataset.roles.bucket is not None) + 1)


def test_loaded_values_are_those_of_the_file(cluster: Cluster, tmp_path: Path) -> None:
    dataset = datasets.open_dataset(make_folder(tmp_path / "data", every_type()))
    run(cluster.server.dsn(), dataset, [Winnow(Metric.COSINE, 0.9)], Options(phases=["build"]), Progress(disable=True))
    with psycopg.connect(cluster.server.dsn(), dbname=DATABASE) as connection:
        assert tables.comment_on(connection, "winnow_items") == dataset.fingerprint()
        rows = connection.execute("SELECT * FROM winnow_items ORDER BY id").fetchall()
    found = [tuple(row[1:-1]) for row in rows]
    assert found == [tuple(row.values()) for row in dataset.attributes.to_pylist()]


def test_rows_to_insert_never_run_out(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "POOL", 8)
    generate(tmp_path / "data", 1000, 8, queries=QUERIES)
    dataset = datasets.open_dataset(tmp_path / "data")
    rows = list(itertools.islice(upkeep.endless_rows(dataset, np.random.default_rng(1), 100), 30))
    assert [row[0] for row in rows] == [str(100 + place).encode() for place in range(30)]
    assert len({row[-1] for row in rows}) == 30
    assert rows[0][1:-1] == rows[8][1:-1]

    options = Options(phases=["upkeep"], upkeep=Plan(seconds=0.3, copied=10, updated=5))
    results = run(cluster.server.dsn(), dataset, [Winnow(Metric.COSINE, 0.9)], options, Progress(disable=True))
    singly = [cost for cost in results.upkeep if cost.task.startswith("INSERT")]
    assert [cost.clients for cost in singly] == [1, 2]
    assert all(cost.rows > 16 for cost in singly)
    with psycopg.connect(cluster.server.dsn(), dbname=DATABASE) as connection:
        row = connection.execute("SELECT count(*) FROM winnow_items WHERE id >= %s", (upkeep.FIRST_ID,)).fetchone()
    assert row is not None
    assert row[0] >= sum(cost.rows for cost in singly) + 3 + 10  # with the rows that open the connections, and COPY
