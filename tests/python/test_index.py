"""Building indexes from Python, their progress, and what failures say."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgwinnow import check_index, create_index
from pgwinnow.errors import ExtensionMissing, IndexBuildError, IndexDamaged, UnknownName, WinnowError
from pgwinnow.index import BuildProgress

Connection = psycopg.Connection[Any]


@pytest.fixture
def items(connection: Connection) -> Connection:
    connection.execute(
        'CREATE TABLE items (id int PRIMARY KEY, "Odd Name" text, price int, place point, embedding vector(8));'
        "INSERT INTO items SELECT n, n % 7, n, NULL, ARRAY[n, 1, 2, 3, 4, 5, 6, sin(n)]::real[]::vector"
        " FROM generate_series(1, 3000) n"
    )
    connection.commit()
    return connection


def definition(connection: Connection, index: str) -> str:
    row = connection.execute("SELECT pg_get_indexdef(%s::regclass)", [index]).fetchone()
    connection.commit()
    assert row is not None
    text: str = row[0]
    return text.partition(" USING ")[2]


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_columns_and_metric(items: Connection, dsn: str, metric: str) -> None:
    index = create_index(dsn, "items", metric=metric, columns=["Odd Name", "price"])
    assert index == "items_embedding_Odd Name_price_idx"
    expected = {"l2": "", "ip": " vector_ip_ops", "cosine": " vector_cosine_ops"}[metric]
    assert definition(items, f'"{index}"').replace(" vector_l2_ops", "") == (
        f'winnow (embedding{expected}, "Odd Name", price)'
    )


def test_names(items: Connection, dsn: str) -> None:
    assert create_index(dsn, "items") == "items_embedding_idx"
    assert create_index(dsn, "public.items", metric="l2") == "items_embedding_idx1"
    assert create_index(dsn, "items", name="My index", concurrently=True) == "My index"
    items.execute(f"CREATE TABLE {'t' * 63} (v vector(2))")
    items.commit()
    names = {create_index(dsn, "t" * 63, vector="v") for _ in range(2)}
    assert len(names) == 2
    assert all(items.execute("SELECT to_regclass(%s)", [name]).fetchone() != (None,) for name in names)


def test_progress_is_reported_from_the_second_connection(items: Connection, dsn: str) -> None:
    # The build waits for this transaction, so that there is time to see it.
    seen: list[BuildProgress] = []

    def look(progress: BuildProgress) -> None:
        seen.append(progress)
        items.rollback()

    items.execute("UPDATE items SET price = 0 WHERE id = 1")
    create_index(dsn, "items", concurrently=True, on_progress=look)
    assert seen
    assert seen[0].phase == "waiting for writers before build"


def test_interrupt_cancels_the_build(items: Connection, dsn: str) -> None:
    def interrupt(progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    items.execute("UPDATE items SET price = 0 WHERE id = 1")
    with pytest.raises(KeyboardInterrupt) as interrupted:
        create_index(dsn, "items", concurrently=True, on_progress=interrupt)
    assert items.execute("SELECT to_regclass('items_embedding_idx')").fetchone() != (None,)
    assert 'DROP INDEX "public"."items_embedding_idx";' in str(interrupted.value)
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgwinnow' AND state = 'active'"
    assert items.execute(others).fetchone() == (0,)


def test_failed_concurrent_build_says_what_is_left(items: Connection, dsn: str) -> None:
    items.execute("CREATE TABLE mixed (v vector); INSERT INTO mixed VALUES ('[1,2]'), ('[1,2,3]')")
    items.commit()
    with pytest.raises(IndexBuildError, match=r"index mixed_v_idx on public\.mixed was not built") as failed:
        create_index(dsn, "mixed", vector="v", concurrently=True)
    left = items.execute("SELECT to_regclass('mixed_v_idx')").fetchone() != (None,)
    assert left == ('DROP INDEX "public"."mixed_v_idx";' in (failed.value.hint or ""))
    assert isinstance(failed.value.__cause__, psycopg.Error)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"table": "nothing"}, UnknownName, "no table nothing"),
        ({"vector": "price"}, UnknownName, "is integer, not a vector"),
        ({"columns": ["colour"]}, UnknownName, "no column 'colour'.*"),
        ({"columns": ["place"]}, IndexBuildError, "point"),
        ({"metric": "dot"}, ValueError, "unknown metric 'dot'; an index serves l2, ip or cosine"),
        ({"metric": "l1"}, ValueError, "no index serves l1"),
        ({"name": "items_pkey"}, IndexBuildError, "already exists"),
        ({"with_": {"nonsense": 1}}, IndexBuildError, "nonsense"),
        ({"method": "btree"}, ExtensionMissing, "no operator class vector_cosine_ops for access method btree"),
    ],
)
def test_refusals(items: Connection, dsn: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_index(dsn, **{"table": "items", **options})


def test_a_connection_is_no_connection_string(items: Connection) -> None:
    with pytest.raises(TypeError, match=r"a connection string such as .* is needed, not a Connection"):
        create_index(items, "items")  # type: ignore[arg-type]


def test_check(items: Connection, dsn: str) -> None:
    index = create_index(dsn, "items", columns=["price"])
    check_index(dsn, index)
    check_index(dsn, index, heap=True)
    with pytest.raises(UnknownName, match="no index nothing"):
        check_index(dsn, "nothing")
    items.execute("DROP EXTENSION winnow CASCADE")
    items.commit()
    with pytest.raises(ExtensionMissing, match="no extension winnow"):
        check_index(dsn, "items_pkey")


def test_check_of_another_kind_of_index(items: Connection, dsn: str) -> None:
    with pytest.raises(UnknownName, match=r"^items_pkey is not a winnow index$"):
        check_index(dsn, "items_pkey")


def test_check_without_the_right_to(items: Connection, dsn: str) -> None:
    items.execute("CREATE ROLE reader; GRANT SELECT ON items TO reader")
    items.commit()
    try:
        with pytest.raises(WinnowError, match="cannot be checked: permission denied") as refused:
            check_index(f"{dsn} options='-c role=reader'", "items_pkey")
        assert "GRANT EXECUTE ON FUNCTION winnow_check" in (refused.value.hint or "")
    finally:
        items.execute("DROP OWNED BY reader; DROP ROLE reader")
        items.commit()


def test_check_passes_on_what_the_server_found(items: Connection, dsn: str) -> None:
    items.execute(
        "ALTER EXTENSION winnow DROP FUNCTION winnow_check;"
        "CREATE OR REPLACE FUNCTION winnow_check(index regclass, heapallindexed boolean DEFAULT false) RETURNS void"
        " LANGUAGE plpgsql AS $$ BEGIN RAISE 'page 7 is zero' USING ERRCODE = 'index_corrupted'; END $$"
    )
    items.commit()
    with pytest.raises(IndexDamaged, match="index items_pkey is damaged: page 7 is zero") as damaged:
        check_index(dsn, "items_pkey")
    assert "REINDEX INDEX items_pkey" in (damaged.value.hint or "")
