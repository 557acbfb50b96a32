"""The SQLAlchemy type, its distances, reflection, index DDL, and what Alembic writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

import pgwinnow.psycopg

sa = pytest.importorskip("sqlalchemy")

from sqlalchemy import orm  # noqa: E402
from sqlalchemy.schema import CreateIndex  # noqa: E402

from pgwinnow.sqlalchemy import Vector, alembic_render_item, winnow_index  # noqa: E402

DIALECT = sa.create_engine("postgresql+psycopg://").dialect
VECTORS = {1: [1.0, 0.0, 0.0], 2: [0.0, 2.0, 0.0], 3: [1.0, 1.0, 1.0]}


@pytest.fixture
def engine(dsn: str) -> Iterator[Any]:
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    yield engine
    engine.dispose()


@pytest.fixture
def items(engine: Any) -> Any:
    items = sa.Table(
        "items",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("embedding", Vector(3)),
        sa.Column("category", sa.Text),
        sa.Column("price", sa.Numeric),
    )
    winnow_index("items_search", items.c.embedding, items.c.category, items.c.price, metric="l2")
    items.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": key, "embedding": vector, "category": "abc"[key - 1]} for key, vector in VECTORS.items()]
        connection.execute(items.insert(), rows)
        connection.execute(items.insert().values(id=4, embedding=None))
    return items


def test_round_trip(engine: Any, items: Any) -> None:
    with engine.connect() as connection:
        rows = connection.execute(sa.select(items.c.id, items.c.embedding)).all()
    found = {key: None if vector is None else vector.tolist() for key, vector in rows}
    assert found == {**VECTORS, 4: None}
    assert all(vector.dtype == np.float32 for _, vector in rows if vector is not None)


def test_round_trip_where_the_connection_gives_arrays(engine: Any, items: Any) -> None:
    with engine.connect() as connection:
        pgwinnow.psycopg.register(connection.connection.driver_connection)
        assert connection.execute(sa.select(items.c.embedding).where(items.c.id == 3)).scalar().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("l2_distance", [1, 2**0.5, 1]),
        ("cosine_distance", [1 - 0.5**0.5, 1 - 0.5**0.5, 1 - 2 / 6**0.5]),
        ("max_inner_product", [-1, -2, -2]),
        ("l1_distance", [1, 2, 1]),
    ],
)
def test_distances(engine: Any, items: Any, method: str, expected: list[float]) -> None:
    distance = getattr(items.c.embedding, method)(np.array([1, 1, 0]))
    with engine.connect() as connection:
        rows = connection.execute(sa.select(items.c.id, distance).where(items.c.id < 4).order_by(items.c.id)).all()
    assert [value for _, value in rows] == pytest.approx(expected, abs=1e-6)


def test_filtered_search(engine: Any, items: Any) -> None:
    statement = (
        sa.select(items.c.id)
        .where(items.c.category.in_(["a", "b"]))
        .order_by(items.c.embedding.l2_distance([0, 1, 0]))
        .limit(2)
    )
    with engine.connect() as connection:
        assert connection.execute(statement).scalars().all() == [2, 1]


def test_literals_and_comparison_of_columns(engine: Any, items: Any) -> None:
    other = items.alias()
    statement = (
        sa.select(items.c.embedding.l2_distance(other.c.embedding))
        .join(other, other.c.id == items.c.id + 2)
        .where(items.c.id == 1)
    )
    literal = sa.select(items.c.embedding.l2_distance([1, 0, 0])).where(items.c.id == 1)
    with engine.connect() as connection:
        assert connection.execute(statement).scalar() == pytest.approx(2**0.5)
        text = literal.compile(engine, compile_kwargs={"literal_binds": True})
        assert connection.exec_driver_sql(str(text)).scalar() == 0


def test_wrong_dimensions_are_the_servers_to_refuse(engine: Any, items: Any) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="dimensions"):
        connection.execute(items.insert().values(id=9, embedding=[1, 2]))


def test_reflection(engine: Any, items: Any) -> None:
    reflected = sa.Table("items", sa.MetaData(), autoload_with=engine)
    assert repr(reflected.c.embedding.type) == "Vector(dim=3)"
    (index,) = reflected.indexes
    assert [column.name for column in index.columns] == ["embedding", "category", "price"]
    assert index.dialect_options["postgresql"]["using"] == "winnow"


def test_index_ddl() -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("v", Vector(3)), sa.Column("a", sa.Text))
    index = winnow_index(
        "t_v_idx", table.c.v, table.c.a, metric="ip", with_={"fillfactor": 70}, postgresql_where=table.c.a != "x"
    )
    ddl = str(CreateIndex(index).compile(dialect=DIALECT)).strip()
    assert ddl == "CREATE INDEX t_v_idx ON t USING winnow (v vector_ip_ops, a) WITH (fillfactor = 70) WHERE a != 'x'"


def test_index_ddl_of_expressions() -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("v", sa.Text), sa.Column("a", sa.Text))
    index = winnow_index(
        "i",
        sa.cast(table.c.v, Vector(3)),
        sa.func.lower(table.c.a),
        table.c.a,
        postgresql_ops={"a": "text_ops"},
        postgresql_with={"list_size": 64},
    )
    ddl = str(CreateIndex(index).compile(dialect=DIALECT)).strip()
    assert ddl == (
        "CREATE INDEX i ON t USING winnow (CAST(v AS VECTOR(3)) vector_cosine_ops, lower(a), a text_ops)"
        " WITH (list_size = 64)"
    )


DECLARED = "CREATE INDEX {} ON {} USING winnow (embedding vector_ip_ops, price, a text_ops)"


def test_index_of_a_declarative_class() -> None:
    """By the columns or their names, before these are known, and by attributes that are called otherwise."""
    base = orm.declarative_base()

    class ByColumn(base):  # type: ignore[misc, valid-type]
        __tablename__ = "by_column"
        id = orm.mapped_column(sa.BigInteger, primary_key=True)
        embedding = orm.mapped_column(Vector(3))
        price = orm.mapped_column(sa.Numeric)
        a = orm.mapped_column(sa.Text)
        __table_args__ = (winnow_index("i", embedding, price, a, metric="ip", postgresql_ops={"a": "text_ops"}),)

    class ByName(base):  # type: ignore[misc, valid-type]
        __tablename__ = "by_name"
        __table_args__ = (winnow_index("i", "embedding", "price", "a", metric="ip", postgresql_ops={"a": "text_ops"}),)
        id = orm.mapped_column(sa.BigInteger, primary_key=True)
        embedding = orm.mapped_column(Vector(3))
        price = orm.mapped_column(sa.Numeric)
        a = orm.mapped_column(sa.Text)

    class ByAttribute(base):  # type: ignore[misc, valid-type]
        __tablename__ = "by_attribute"
        id = orm.mapped_column(sa.BigInteger, primary_key=True)
        emb = orm.mapped_column("embedding", Vector(3))
        cost = orm.mapped_column("price", sa.Numeric)
        a = orm.mapped_column(sa.Text)

    index = winnow_index(
        "i", ByAttribute.emb, ByAttribute.cost, ByAttribute.a, metric="ip", postgresql_ops={"a": "text_ops"}
    )
    assert index.table is ByAttribute.__table__
    for mapped in (ByColumn, ByName, ByAttribute):
        (found,) = mapped.__table__.indexes
        ddl = str(CreateIndex(found).compile(dialect=DIALECT)).strip()
        assert ddl == DECLARED.format("i", mapped.__tablename__)


def test_arrays_of_vectors(engine: Any) -> None:
    sa.event.listen(engine, "connect", lambda connection, _: pgwinnow.psycopg.register(connection))
    table = sa.Table("arrays", sa.MetaData(), sa.Column("many", sa.ARRAY(Vector(3), dimensions=1)))
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), {"many": [[1, 2, 3], np.ones(3), None]})
        ((many,),) = connection.execute(sa.select(table.c.many)).all()
    assert [None if vector is None else vector.tolist() for vector in many] == [[1, 2, 3], [1, 1, 1], None]


def test_rows_with_vectors_are_told_apart(engine: Any, items: Any) -> None:
    class Item(orm.declarative_base()):  # type: ignore[misc]
        __table__ = items

    with orm.Session(engine) as session:
        rows = session.query(Item.id, Item.embedding).all()
    assert len(rows) == len(VECTORS) + 1


def test_errors_show_the_vector(engine: Any, items: Any) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.StatementError, match=r"vector\(\[1.0,2.0\]\)"):
        connection.execute(items.insert(), {"id": 5, "embedding": [1, 2]})


@pytest.mark.parametrize(("metric", "message"), [("dot", "unknown metric 'dot'"), ("l1", "no index serves l1")])
def test_metric_without_an_index_is_refused(metric: str, message: str) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("v", Vector(3)))
    with pytest.raises(ValueError, match=message):
        winnow_index("i", table.c.v, metric=metric)


def test_type_of_no_dimensions_and_too_many() -> None:
    assert Vector().compile(DIALECT) == "VECTOR"
    with pytest.raises(ValueError, match="1 to 16000 dimensions, not 16001"):
        Vector(16_001)
    with pytest.raises(ValueError, match="dimensions, not '3'"):
        Vector("3")  # type: ignore[arg-type]


def test_alembic_writes_a_migration_that_runs(engine: Any, items: Any) -> None:
    autogenerate = pytest.importorskip("alembic.autogenerate")
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    imports: set[str] = set()

    def render_item(kind: str, item: Any, autogen_context: Any) -> str | bool:
        rendered = alembic_render_item(kind, item, autogen_context)
        imports.update(autogen_context.imports)
        return rendered

    items.metadata.drop_all(engine)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        migration = autogenerate.produce_migrations(context, items.metadata)
        code = autogenerate.render_python_code(
            migration.upgrade_ops, render_item=render_item, migration_context=context
        )
        assert "pgwinnow.sqlalchemy.Vector(dim=3)" in code
        assert "postgresql_using='winnow'" in code
        assert "import pgwinnow.sqlalchemy" in imports
        lines = [*imports, "def upgrade():", *("    " + line for line in code.splitlines())]
        scope: dict[str, Any] = {"op": Operations(context), "sa": sa}
        exec("\n".join(lines), scope)
        scope["upgrade"]()
        assert autogenerate.compare_metadata(context, items.metadata) == []
