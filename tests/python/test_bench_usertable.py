"""Measuring a table of the user's: right figures, and nothing but reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from rich.progress import Progress

pytest.importorskip("pyarrow")
testing = pytest.importorskip("typer.testing")

from pgwinnow._errors import WinnowError  # noqa: E402
from pgwinnow.bench.cli import app  # noqa: E402
from pgwinnow.bench.report import Results  # noqa: E402
from pgwinnow.bench.run import Options, command  # noqa: E402
from pgwinnow.bench.userquery import Condition  # noqa: E402
from pgwinnow.bench.usertable import measure_table  # noqa: E402
from pgwinnow.types import Metric, to_text  # noqa: E402

Connection = psycopg.Connection[Any]

ROWS, DIMENSIONS = 800, 8
QUERIES = 20
READER = "bench_reader"


@pytest.fixture
def shop(connection: Connection, seed: int) -> Connection:
    """A table with odd names, NULLs, duplicates of rows and a winnow index."""
    rng = np.random.default_rng(seed)
    connection.execute("CREATE SCHEMA shop")
    connection.execute(
        'CREATE TABLE shop."Items" (id int, embedding vector(8), price numeric(8,2), "Kind" varchar(10), tags text[])'
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO shop."Items" VALUES (%s, %s, %s, %s, %s)',
            [
                (
                    n,
                    None if n % 50 == 0 else to_text(rng.standard_normal(DIMENSIONS)),
                    None if n % 7 == 0 else n % 100,
                    ["it's", "a $price", "c%"][n % 3],
                    [f"t{n % 4}", f"t{n % 5}"],
                )
                for n in range(ROWS)
            ],
        )
    connection.execute('CREATE INDEX ON shop."Items" USING winnow (embedding vector_l2_ops, price, "Kind", tags)')
    connection.commit()
    connection.execute('ANALYZE shop."Items"')
    connection.commit()
    return connection


@pytest.fixture
def measuring(shop: Connection, dsn: str) -> Iterator[Connection]:
    """A connection of somebody who may read the table and nothing else."""
    if not shop.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [READER]).fetchone():
        shop.execute(f"CREATE ROLE {READER}")
    shop.execute(f'GRANT USAGE ON SCHEMA shop TO {READER}; GRANT SELECT ON shop."Items" TO {READER}')
    shop.commit()
    with psycopg.connect(dsn, options=f"-c role={READER}") as connection:
        yield connection
    shop.rollback()
    shop.execute(f"DROP OWNED BY {READER}")
    shop.commit()


def run(connection: Connection, filters: list[str], name: str = 'shop."Items"', **values: Any) -> Results:
    options = Options(
        ks=values.pop("ks", [10]), recall=values.pop("recall", 0.95), rounds=1, curve=values.pop("curve", False)
    )
    arguments: dict[str, Any] = {"vector": "embedding", "queries": QUERIES, "metric": None, **values}
    return measure_table(
        connection, name, filters=filters, options=options, progress=Progress(disable=True), **arguments
    )


def everything(connection: Connection) -> list[Any]:
    """What the database has, and where its rows and files are."""
    queries = [
        "SELECT oid, xmin::text, relname, relfilenode FROM pg_class WHERE oid > 16383 ORDER BY oid",
        "SELECT oid, nspname FROM pg_namespace ORDER BY oid",
        "SELECT oid, proname FROM pg_proc ORDER BY oid",
        "SELECT oid, typname FROM pg_type ORDER BY oid",
        "SELECT oid, extname FROM pg_extension ORDER BY oid",
        "SELECT datname FROM pg_database ORDER BY 1",
        'SELECT ctid::text, xmin::text, xmax::text, i::text FROM shop."Items" i',
        "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting",
    ]
    found = [connection.execute(query).fetchall() for query in queries]
    connection.rollback()
    return found


def test_figures_and_nothing_written(shop: Connection, measuring: Connection) -> None:
    before = everything(shop)
    filters = ['price < $price AND "Kind" = $"Kind"', "tags && $tags", "price = 3 -- a comment"]
    results = run(measuring, filters, recall=1.0, ks=[1, 10])
    assert everything(shop) == before
    assert measuring.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert {(each.workload, each.k) for each in results.answers} == {(name, k) for name in filters for k in (1, 10)}
    for answer in results.answers:
        assert answer.side == "winnow"
        assert (answer.recall, answer.wrong, answer.returned) == (1.0, 0, answer.expected), answer
        assert sum(answer.plans.values()) == QUERIES
    # Strictly cheaper rows of the same kind: not the row itself. Rows of equal tags: also itself, which is left out.
    prices = shop.execute(
        'SELECT avg(n) FROM (SELECT (SELECT count(*) FROM shop."Items" o WHERE o.tags && i.tags AND o.id <> i.id AND'
        ' o.embedding IS NOT NULL) n FROM shop."Items" i WHERE embedding IS NOT NULL) s'
    ).fetchone()
    assert prices is not None
    overlapping = next(each for each in results.answers if each.workload == "tags && $tags")
    rows = shop.execute('SELECT count(embedding) FROM shop."Items"').fetchone()
    assert rows is not None
    assert overlapping.matching * rows[0] == pytest.approx(float(prices[0]), rel=0.3)


def test_the_row_itself_is_no_answer(shop: Connection, measuring: Connection) -> None:
    # Every row has one twin: at k = 1 the twin is the answer, and the row itself, which is as near, is not.
    shop.execute('INSERT INTO shop."Items" SELECT id + 10000, embedding, price, "Kind", tags FROM shop."Items"')
    shop.commit()
    results = run(measuring, ["price = $price AND id % 10000 = $id % 10000"], ks=[3], recall=1.0)
    (answer,) = results.answers
    assert (answer.expected, answer.returned) == (QUERIES, QUERIES)
    assert answer.recall == 1.0
    rows = shop.execute('SELECT count(embedding) FROM shop."Items"').fetchone()
    assert rows is not None
    assert answer.matching == pytest.approx(1 / rows[0])
    without_filter = run(measuring, [], ks=[1], recall=1.0).answers[0]
    assert (without_filter.workload, without_filter.expected) == ("none", QUERIES)


def test_recall_is_measured_and_not_assumed(shop: Connection, measuring: Connection) -> None:
    shop.execute(
        'INSERT INTO shop."Items" (id, embedding) SELECT -n, embedding FROM shop."Items", generate_series(1, 3) n'
    )
    shop.execute("SELECT setseed(0.5)")
    shop.execute(
        'INSERT INTO shop."Items" (id, embedding) SELECT n, ARRAY[random(), random(), random(), random(), random(),'
        " random(), random(), random()]::real[]::vector FROM generate_series(1, 6000) n"
    )
    shop.execute('ANALYZE shop."Items"')
    shop.commit()
    measuring.execute("SET winnow.recall = 0.01")  # which the exact answers must not be found with
    measuring.commit()
    poor = run(measuring, [], recall=0.01, ks=[50]).answers[0]
    good = run(measuring, [], recall=0.99, ks=[50]).answers[0]
    assert poor.recall < 0.9
    assert poor.worst_decile <= poor.recall
    assert good.recall > 0.9
    points = run(measuring, [], recall=0.99, ks=[50], curve=True).points
    assert [point.effort for point in points][:2] == ["recall 0.8", "recall 0.9"]


def test_pgvector_beside_it(shop: Connection, measuring: Connection) -> None:
    if not shop.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
        pytest.skip("this server has no pgvector")
    shop.execute("CREATE SCHEMA pgvector")
    shop.execute(f"CREATE EXTENSION vector SCHEMA pgvector; GRANT USAGE ON SCHEMA pgvector TO {READER}")
    shop.execute('ALTER TABLE shop."Items" ADD COLUMN old pgvector.vector(8)')
    shop.execute('UPDATE shop."Items" SET old = embedding::real[]::pgvector.vector')
    shop.execute('CREATE INDEX hnsw_cosine ON shop."Items" USING hnsw (old pgvector.vector_cosine_ops)')
    shop.commit()
    assert {each.side for each in run(measuring, []).answers} == {"winnow"}  # indexed for another distance
    shop.execute('CREATE INDEX hnsw_l2 ON shop."Items" USING hnsw (old pgvector.vector_l2_ops)')
    shop.commit()
    before = everything(shop)
    results = run(measuring, ["price < $price"])
    assert everything(shop) == before
    assert [each.side for each in results.answers] == ["winnow", "pgvector"]
    assert all(each.recall >= 0.9 and each.wrong == 0 for each in results.answers)
    with pytest.raises(WinnowError, match="is indexed for"):
        run(measuring, [], vector="old")
    alone = run(measuring, [], vector="old", metric=Metric.COSINE)
    assert [each.side for each in alone.answers] == ["pgvector"]
    shop.execute('UPDATE shop."Items" SET old = old OPERATOR(pgvector.+) old WHERE embedding IS NOT NULL')
    shop.commit()
    different = run(measuring, [])
    assert [each.side for each in different.answers] == ["winnow"]
    assert different.environment["left out for other vectors"] == "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "shop.items"}, "there is no table shop.items"),
        ({"vector": "price"}, "not a vector"),
        ({"filters": ["price < $cost"]}, "has no column 'cost'"),
        ({"filters": ["price <"]}, "the filter failed: syntax error"),
        ({"filters": ["shop.nothing(price)"]}, "the filter failed"),
        ({"metric": Metric.COSINE}, "no index for the distance cosine"),
        ({"name": "shop.plain"}, "has no index of winnow's or pgvector's"),
    ],
)
def test_what_cannot_be_measured_is_explained(
    shop: Connection, measuring: Connection, arguments: dict[str, Any], message: str
) -> None:
    shop.execute(f"CREATE TABLE shop.plain (embedding vector(3)); GRANT SELECT ON shop.plain TO {READER}")
    shop.commit()
    with pytest.raises(WinnowError, match=message):
        run(measuring, **{"filters": [], **arguments})


def test_the_filter_cannot_write(shop: Connection, dsn: str) -> None:
    shop.execute("CREATE SEQUENCE shop.numbers")
    shop.commit()
    with psycopg.connect(dsn) as owner, pytest.raises(WinnowError, match="read-only transaction"):
        run(owner, ["nextval('shop.numbers') > 0"])


def test_placeholders() -> None:
    condition = Condition.parse("""a < $A AND b = '$a ''$b''' AND "$c" = $"Od""d" OR $a > 1 AND x = $1""")
    assert condition.names == ("a", 'Od"d')
    columns: Any = {name: type("C", (), {"formatted": kind}) for name, kind in (("a", "integer"), ('Od"d', "text"))}
    assert condition.sql(columns, 2) == (
        """a < ($2::integer) AND b = '$a ''$b''' AND "$c" = ($3::text) OR ($2::integer) > 1 AND x = $1"""
    )


def test_command_line_keeps_no_password() -> None:
    words = ["bench", "run", "--dsn", "password=x", "--dsn=password=y", "--workload", "EM *"]
    assert command(words) == "pgwinnow bench run --dsn DSN --dsn=DSN --workload 'EM *'"


def test_from_the_command_line(shop: Connection, dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    words = ["run", "--dsn", dsn, "--table", 'shop."Items"', "--filter", "tags @> $tags", "--queries", "5", "--k", "3"]
    done = testing.CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--rounds", "1", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "tags @> $tags (k 3)" in done.output
    assert json.loads(file.read_text())["answers"][0]["k"] == 3
    assert (
        Results.read(file).environment["data"].startswith("table shop.Items, column embedding: 784 x 8, 5 of its rows")
    )
    for wrong in (["--data", str(tmp_path)], ["--rival", "hnsw"], ["--bits", "4"]):
        with pytest.raises(WinnowError, match="takes no --data"):
            app([*words, *wrong], standalone_mode=False)
    with pytest.raises(WinnowError, match="--filter needs a table"):
        app(["run", "--filter", "true"], standalone_mode=False)


def test_partitions(shop: Connection, measuring: Connection) -> None:
    shop.execute("CREATE TABLE shop.parts (id int, embedding vector(8)) PARTITION BY HASH (id)")
    for n in range(2):
        shop.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF shop.parts FOR VALUES WITH (MODULUS 2, REMAINDER {})").format(
                sql.Identifier("shop", f"part{n}"), sql.Literal(n)
            )
        )
    shop.execute('INSERT INTO shop.parts SELECT id, embedding FROM shop."Items"')
    shop.execute("CREATE INDEX ON shop.parts USING winnow (embedding)")
    shop.execute(f"GRANT SELECT ON shop.parts TO {READER}; ANALYZE shop.parts")
    shop.commit()
    (answer,) = run(measuring, [], name="shop.parts", recall=1.0).answers
    assert (answer.recall, answer.returned, answer.wrong) == (1.0, 200, 0)
