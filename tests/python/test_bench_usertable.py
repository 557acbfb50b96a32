"""Measuring a table of the user's: right figures, and nothing but reading."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from rich.progress import Progress

from patience import PATIENCE

pytest.importorskip("pyarrow")
testing = pytest.importorskip("typer.testing")

from pgwinnow import _tables  # noqa: E402
from pgwinnow.bench import usertable  # noqa: E402
from pgwinnow.bench.cli import app  # noqa: E402
from pgwinnow.bench.prepared import BenchError, Statement, vector_call  # noqa: E402
from pgwinnow.bench.report import Results  # noqa: E402
from pgwinnow.bench.run import Options, command  # noqa: E402
from pgwinnow.bench.truth import Score  # noqa: E402
from pgwinnow.bench.userquery import (  # noqa: E402
    ANSWER,
    Condition,
    draw_sample,
    find_targets,
    ordering_index,
)
from pgwinnow.bench.usertable import TableExact, measure_table  # noqa: E402
from pgwinnow.bench.workloads import Workload  # noqa: E402
from pgwinnow.errors import WinnowError  # noqa: E402
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
    of_options = {name: values.pop(name) for name in ("ks", "recall", "curve", "save") if name in values}
    options = Options(rounds=1, **of_options)
    arguments: dict[str, Any] = {
        "vector": "embedding",
        "queries": QUERIES,
        "metric": None,
        "progress": Progress(disable=True),
        **values,
    }
    return measure_table(connection, name, filters=filters, options=options, **arguments)


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
        assert answer.counters["lists_probed"] > 0
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


@pytest.mark.parametrize("off", [[], ["enable_seqscan", "enable_sort", "enable_bitmapscan"]])
def test_recall_is_measured_and_not_assumed(shop: Connection, measuring: Connection, off: list[str]) -> None:
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
    for name in off:
        measuring.execute(sql.SQL("SET {} = off").format(sql.Identifier(name)))
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
    shop.execute('ALTER TABLE shop."Items" ADD COLUMN old pgvector.vector(8), ADD COLUMN half pgvector.halfvec(8)')
    shop.commit()
    with pytest.raises(BenchError, match=r"column 'half' .* is a halfvec; only columns of type vector are measured"):
        run(measuring, [], vector="half")
    shop.execute('UPDATE shop."Items" SET old = embedding::real[]::pgvector.vector')
    shop.commit()
    with pytest.raises(WinnowError, match="has no index of winnow's or pgvector's") as caught:
        run(measuring, [], vector="old")
    assert 'CREATE INDEX ON shop."Items" USING hnsw (old pgvector.vector_cosine_ops)' in str(caught.value.hint)
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
    # Two indexes of one column: the planner may take either, so the knobs of both are turned.
    shop.execute('CREATE INDEX ON shop."Items" USING ivfflat (old pgvector.vector_l2_ops) WITH (lists = 2)')
    shop.commit()
    (either,) = run(measuring, [], vector="old", metric=Metric.L2).answers
    assert (either.side, either.wrong) == ("pgvector", 0)
    assert either.effort.startswith("ef ")
    assert "; probes " in either.effort


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "shop.items"}, "there is no table shop.items"),
        ({"vector": "price"}, "not a vector"),
        ({"filters": ["price < $cost"]}, "has no column 'cost'"),
        ({"filters": ["price <"]}, "the filter 'price <' failed: syntax error"),
        ({"filters": ["shop.nothing(price)"]}, r"the filter 'shop.nothing\(price\)' failed"),
        ({"filters": ["id / 0 = 1"]}, "the filter 'id / 0 = 1' failed: division by zero"),
        ({"filters": ["true", " "]}, "a filter is empty"),
        ({"metric": Metric.COSINE}, "no index for the distance cosine"),
        ({"name": "shop.plain"}, "has no index of winnow's or pgvector's"),
        ({"filters": ["price < $1"]}, r"\$1 in the filter 'price < \$1' is no placeholder"),
        ({"filters": ["random() < 0.5"]}, "holds for a row at one time and not at another"),
        ({"filters": ["price = $price AND false_when = $false_when"]}, "for the filter 'price = .*false_when'"),
    ],
)
def test_what_cannot_be_measured_is_explained(
    shop: Connection, measuring: Connection, arguments: dict[str, Any], message: str
) -> None:
    shop.execute(f"CREATE TABLE shop.plain (embedding vector(3)); GRANT SELECT ON shop.plain TO {READER}")
    shop.execute('ALTER TABLE shop."Items" ADD COLUMN false_when boolean')
    shop.commit()
    with pytest.raises(WinnowError, match=message):
        run(measuring, **{"filters": [], **arguments})


def test_the_filter_cannot_write(shop: Connection, dsn: str) -> None:
    shop.execute("CREATE SEQUENCE shop.numbers")
    shop.commit()
    with psycopg.connect(dsn) as owner, pytest.raises(WinnowError, match="read-only transaction"):
        run(owner, ["nextval('shop.numbers') > 0"])


def test_wrong_rows_are_counted(shop: Connection, measuring: Connection) -> None:
    """Conditions that let more rows pass where indexes are scanned do what a wrong index would."""
    wrong = "current_setting('enable_indexscan')::boolean"
    half, none, right = run(measuring, [f"id % 2 = 0 OR {wrong}", f"id < 0 OR {wrong}", "id % 2 = 0"]).answers
    assert half.returned == half.expected == 10 * QUERIES
    assert 0 < half.wrong < half.returned
    assert half.recall <= 1 - half.wrong / half.returned + 0.01
    assert (none.expected, none.returned, none.wrong, none.recall) == (0, 10 * QUERIES, 10 * QUERIES, 0)
    assert (right.wrong, right.recall >= 0.9) == (0, True)


def scored(connection: Connection, condition: Condition | None, k: int) -> tuple[TableExact, Any]:
    """The exact answers about the table, and what scores the answer to the first query."""
    table = _tables.get_table(connection, 'shop."Items"')
    columns = _tables.get_columns(connection, table)
    (target,) = find_targets(connection, table, columns, columns["embedding"], None, 0.95)
    sample = draw_sample(connection, table, target, condition, 1, 7)
    exact = TableExact(connection, table, condition, columns, sample, rows=ROWS, k=k)
    truth = exact.answer(target)

    def score(answers: list[tuple[int, str, float]]) -> Score:
        rows = [(oid, *map(int, place.strip("()").split(",")), distance) for oid, place, distance in answers]
        return exact.score(Workload("", (None,)), truth, 0, np.array(rows, dtype=ANSWER))

    return exact, score


def test_score(shop: Connection) -> None:
    shop.execute('UPDATE shop."Items" SET price = NULL WHERE id NOT BETWEEN 10 AND 780')
    condition = Condition.parse("id > $id AND $price >= 0")  # a query has some rows on both sides of its own
    exact, score = scored(shop, condition, 2)
    (oid, place), vector = exact.sample.places[0], to_text(exact.queries[0])
    near = 'SELECT tableoid::bigint, ctid::text, embedding <-> %s::vector FROM shop."Items" WHERE id {} %s ORDER BY 3'
    after, before = (
        shop.execute(near.format(sign), [vector, exact.sample.values[0]["id"]]).fetchall()[:3] for sign in (">", "<")
    )
    assert score(after[:2]) == Score(1.0, 2, 2, 0)
    assert score([after[0], after[2]]) == Score(0.5, 2, 2, 0)
    assert score([after[0], after[0]]) == Score(0.5, 2, 2, 1)
    assert score([(oid, place, 0.0), after[0]]) == Score(0.5, 2, 2, 1)  # the row itself does not match
    assert score([(before[0][0], before[0][1], 0.0), after[0]]) == Score(0.5, 2, 2, 1)


def test_vectors_without_direction(shop: Connection, measuring: Connection) -> None:
    shop.execute('DROP INDEX shop."Items_embedding_price_Kind_tags_idx"')
    shop.execute("""UPDATE shop."Items" SET embedding = '[0,0,0,0,0,0,0,0]' WHERE id % 2 = 0""")
    shop.execute('CREATE INDEX ON shop."Items" USING winnow (embedding vector_cosine_ops, price)')
    shop.commit()
    shop.execute('UPDATE shop."Items" SET price = NULL WHERE id BETWEEN 1 AND 4')  # which are no queries then
    shop.commit()
    # Every row is right for a query of zeros; for others, rows of zeros are the last of those that match.
    for filters in ([], ["id BETWEEN 5 AND 8"]):
        (answer,) = run(measuring, filters, recall=1.0, ks=[30]).answers
        assert (answer.recall, answer.wrong) == (1.0, 0)
    exact, score = scored(shop, Condition.parse("id BETWEEN 1 AND 4 AND $price >= 0"), 3)
    rows = shop.execute(
        'SELECT tableoid::bigint, ctid::text, embedding <=> %s::vector FROM shop."Items" WHERE id BETWEEN 1 AND 4'
        " ORDER BY 3",
        [to_text(exact.queries[0])],
    ).fetchall()
    directed = 0 if np.isnan(rows[0][2]) else 2
    assert score([*rows[:2], rows[3]]) == Score(1.0, 3, 3, 0)
    assert score(rows[1:]) == Score(2 / 3 if directed else 1.0, 3, 3, 0)


def test_a_filter_has_the_rows_that_it_needs(shop: Connection, measuring: Connection) -> None:
    shop.execute('ALTER TABLE shop."Items" ADD COLUMN a int, ADD COLUMN b int')
    shop.execute(
        'UPDATE shop."Items" SET a = CASE id % 2 WHEN 0 THEN 1 END, b = CASE id WHEN 1 THEN 1 WHEN 3 THEN 2 END'
    )
    shop.commit()
    results = run(measuring, ["a = $a", "b >= $b"])
    assert [each.workload for each in results.answers] == ["a = $a", "b >= $b"]
    assert [each.plans and sum(each.plans.values()) for each in results.answers] == [QUERIES, 2]
    assert results.answers[1].expected == 1
    assert f"up to {QUERIES} of its rows" in results.environment["data"]
    with pytest.raises(BenchError, match="no row to take a query from for the filter 'a IS") as caught:
        run(measuring, ["a IS NOT DISTINCT FROM $a AND b = $b"])
    assert "NULL is never put in" in str(caught.value.hint)


def test_a_filter_more_is_no_other_table(shop: Connection, measuring: Connection) -> None:
    one, two = (run(measuring, filters).environment["fingerprint"] for filters in (["id > 5"], ["price < 7", "id > 5"]))
    assert set(two) == {"price < 7", "id > 5"}
    assert one == {"id > 5": two["id > 5"]}
    assert run(measuring, ["id > 5"], queries=QUERIES - 1).environment["fingerprint"] != one


def test_queries_without_an_answer_are_told(shop: Connection, measuring: Connection) -> None:
    results = run(measuring, ["id < 0", "id > $id AND id < 400"], curve=True)
    nothing, some = results.answers
    assert (np.isnan(nothing.recall), nothing.answered, nothing.queries, nothing.reached) == (True, 0, QUERIES, True)
    assert some.answered is not None
    assert 0 < some.answered < QUERIES
    assert {point.workload for point in results.points} == {some.workload}


@contextmanager
def interrupted_at_sleep(connection: Connection) -> Iterator[None]:
    """Ctrl-C as soon as the server sleeps. Who does not end that sleep then loses the connection."""
    done = threading.Event()

    def watch() -> None:
        with psycopg.connect(connection.info.dsn, autocommit=True) as watcher:
            sleeping = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            while not done.wait(0.05):
                if watcher.execute(f"SELECT {sleeping}").rowcount:
                    os.kill(os.getpid(), signal.SIGINT)
                    break
            if not done.wait(PATIENCE):
                watcher.execute(f"SELECT pg_terminate_backend(pid) {sleeping}")

    thread = threading.Thread(target=watch)
    # A process that was started in the background may have been told to ignore it.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, handler)


def test_ctrl_c_ends_a_running_search(shop: Connection, measuring: Connection) -> None:
    with interrupted_at_sleep(shop):  # pg_sleep in the measured search alone
        run(measuring, ["CASE WHEN current_setting('enable_indexscan')::bool THEN pg_sleep(999) IS NULL ELSE true END"])
    assert measuring.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    statement = Statement(measuring, "SELECT $1::public.vector, pg_sleep(999)::text")
    with interrupted_at_sleep(shop):
        statement.explain(vector_call(np.ones(3, dtype=np.float32)))
    measuring.rollback()
    assert measuring.execute("SELECT 1").fetchone() == (1,)


def test_what_is_shown_after_ctrl_c_is_kept(
    shop: Connection, measuring: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*unused: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(usertable, "trace", interrupted)
    kept: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(measuring, [], curve=True, save=lambda results: kept.append(len(results.answers)))
    assert kept[-1] == 1


def test_placeholders() -> None:
    condition = Condition.parse("""a < $A AND b = '$a ''$b''' AND "$c" = $"Od""d" OR $a > 1 AND x$a = 1""")
    assert condition.names == ("a", 'Od"d')
    columns: Any = {name: type("C", (), {"formatted": kind}) for name, kind in (("a", "integer"), ('Od"d', "text"))}
    assert condition.sql(columns, 2) == (
        """a < ($2::integer) AND b = '$a ''$b''' AND "$c" = ($3::text) OR ($2::integer) > 1 AND x$a = 1"""
    )


@pytest.mark.parametrize(
    "text",
    [
        "b = $$ $a $$",
        "b = $q$ $a $$ $1 $q$",
        r"b = E'it\'s $a'",
        r"b = e'\\' || '$a'",
        "b = 1 -- $a or it's $1",
        "b /* $a, $1 */ = 1",
        "b$a = 1",
    ],
)
def test_what_is_no_placeholder(text: str) -> None:
    condition = Condition.parse(f"{text}\nAND c = $c")
    assert condition.names == ("c",)
    columns: Any = {"c": type("C", (), {"formatted": "integer"})}
    assert condition.sql(columns, 2) == f"{text}\nAND c = ($2::integer)"


def test_capital_letters_of_placeholders(shop: Connection, measuring: Connection) -> None:
    with pytest.raises(WinnowError, match="has no column 'kind'") as caught:
        run(measuring, ['"Kind" = $Kind'])
    assert '$"Kind"' in str(caught.value.hint)
    with pytest.raises(WinnowError, match='has no column "\\$Kind"') as caught:
        run(measuring, ['"Kind" = "$Kind"'])
    assert str(caught.value.hint).endswith(' $"Kind"')
    shop.execute('ALTER TABLE shop."Items" ADD COLUMN "$Kind" int')
    shop.commit()
    assert run(measuring, ['"$Kind" IS NULL']).answers


@pytest.mark.parametrize("wrong", ["price <", "price = 'x' AND id = $id", "tags && $price"])
def test_filters_are_checked_before_anything_is_measured(
    shop: Connection, measuring: Connection, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr(usertable, "draw_sample", None)
    with pytest.raises(BenchError, match=f"^the filter {re.escape(repr(wrong))} failed: .*") as caught:
        run(measuring, ["id > 5", wrong])
    assert "\n" not in str(caught.value)


def test_no_index_for_another_reason(shop: Connection, measuring: Connection) -> None:
    shop.execute('CREATE VIEW shop.seen AS SELECT * FROM shop."Items"')
    shop.execute("CREATE TABLE shop.parts (id int, embedding vector(8)) PARTITION BY RANGE (id)")
    shop.execute("CREATE TABLE shop.part PARTITION OF shop.parts DEFAULT")
    shop.execute("CREATE INDEX ON shop.part USING winnow (embedding)")
    shop.execute("CREATE TABLE shop.loose (id int, embedding vector)")
    shop.execute("CREATE INDEX ON shop.loose USING winnow ((embedding::vector(8)))")
    shop.execute("CREATE TABLE shop.half (id int, embedding vector(8)) PARTITION BY RANGE (id)")
    shop.execute("CREATE TABLE shop.half_part PARTITION OF shop.half DEFAULT")
    shop.execute("CREATE INDEX half_index ON ONLY shop.half USING winnow (embedding)")
    shop.execute('CREATE TABLE shop."Bare" (embedding vector(8))')
    shop.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {READER}")
    shop.commit()
    for name, message, hint in (
        ("shop.seen", "shop.seen is a view", "name the table"),
        ("shop.parts", "the partition shop.part has one: shop.part_embedding_idx", "--table shop.part;"),
        ("shop.loose", r"one on the expression .*vector\(8\)", "change the column's type"),
        (
            "shop.half",
            "index shop.half_index on column 'embedding' of table shop.half is not valid",
            "ATTACH PARTITION",
        ),
        ('shop."Bare"', "has no index of winnow's", """index create --table 'shop."Bare"' --vector embedding,"""),
    ):
        with pytest.raises(BenchError, match=message) as caught:
            run(measuring, [], name=name)
        assert hint in str(caught.value.hint)
        assert name.endswith('"') or "index create" not in str(caught.value.hint)


def test_an_index_that_orders_is_noticed(shop: Connection) -> None:
    shop.execute("SET enable_seqscan = off; SET enable_sort = off")
    nearest = """SELECT id FROM shop."Items" ORDER BY embedding <-> '[1,1,1,1,1,1,1,1]' LIMIT 3"""
    (row,) = shop.execute(f"EXPLAIN (FORMAT JSON) SELECT * FROM ({nearest}) s JOIN pg_class ON true").fetchall()
    assert ordering_index(json.dumps(row[0])) == "Items_embedding_price_Kind_tags_idx"
    (row,) = shop.execute('EXPLAIN (FORMAT JSON) SELECT id FROM shop."Items" ORDER BY id').fetchall()
    assert ordering_index(json.dumps(row[0])) is None


def test_progress_shows_the_filter_as_it_is(shop: Connection, measuring: Connection) -> None:
    class Shown(Progress):
        """Keeps what it is told to show."""

        def update(self, task_id: Any, **fields: Any) -> None:
            shown.append(fields.get("description") or "")
            super().update(task_id, **fields)

    shown: list[str] = []
    odd = """id > 0 AND "Kind" <> '[/red] [bold]'"""
    run(measuring, [odd], progress=Shown(disable=True))
    named = [text for text in shown if "exact answers" in text]
    assert named == [f"k = 10: {odd}, exact answers"]


def test_command_line_keeps_no_password() -> None:
    words = ["bench", "run", "--dsn", "password=x", "--dsn=password=y", "--workload", "EM *"]
    assert command(words) == "pgwinnow bench run --dsn DSN --dsn=DSN --workload 'EM *'"


def test_from_the_command_line(shop: Connection, dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    words = ["run", "--dsn", dsn, "--table", 'shop."Items"', "--filter", "tags @> $tags", "--queries", "5", "--k", "3"]
    words += ["--k", "3", "--filter", "tags @> $tags"]  # given twice, measured once
    done = testing.CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--rounds", "1", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "tags @> $tags (k 3)" in done.output
    assert [each["k"] for each in json.loads(file.read_text())["answers"]] == [3]
    assert (
        Results.read(file).environment["data"].startswith("table shop.Items, column embedding: 784 x 8, 5 of its rows")
    )
    for wrong in (["--data", str(tmp_path)], ["--rival", "hnsw"], ["--bits", "4"]):
        with pytest.raises(WinnowError, match="--table takes no --"):
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
    for filters in ([], ["id >= 0"]):
        (answer,) = run(measuring, filters, name="shop.parts", recall=1.0).answers
        assert (answer.recall, answer.returned, answer.wrong) == (1.0, 200, 0)
