"""README.md says the truth: its tables against the server, its examples by running them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer

from cluster import VERSION
from pgwinnow.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PRODUCTION = (ROOT / "docs" / "production.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    """The code blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


SQL_EXAMPLE, SQL_BESIDE_PGVECTOR = blocks("sql")
PSYCOPG_EXAMPLE, SQLALCHEMY_EXAMPLE = blocks("python")


def table(*header: str, text: str = README) -> list[list[str]]:
    """The cells of the one table with these headings."""
    lines = iter(text.splitlines())
    assert f"| {' | '.join(header)} |" in lines, f"there is no table of {header}"
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
        assert len(rows[-1]) == len(header)
    return rows


def code(cell: str) -> str:
    """What the cell has in its first backquotes."""
    found = re.search(r"`([^`]*)`", cell)
    assert found is not None, f"no code in {cell!r}"
    return found[1]


SETTINGS = {code(name): (default, limits) for name, default, limits, _ in table("name", "default", "range", "meaning")}
CONDITIONS = [
    pytest.param(code(condition), inside != "", outside != "", "pre-tested" in outside, id=code(condition))
    for condition, inside, outside in table("condition", "in the index", "by the executor")
]


def without_create_extension(example: str) -> str:
    """The example for a database that has winnow already."""
    first = "CREATE EXTENSION winnow;\n"
    assert example.startswith(first)
    return example.removeprefix(first)


@pytest.fixture
def items(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """The database after the SQL example, with index scans wherever they are possible."""
    connection.execute(without_create_extension(SQL_EXAMPLE))
    connection.execute("SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off")
    connection.commit()
    return connection


def results(cursor: psycopg.Cursor[Any]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of each statement of several that returned some."""
    while True:
        if cursor.description:
            yield cursor.fetchall()
        if not cursor.nextset():
            return


def test_sql_example(connection: psycopg.Connection[Any]) -> None:
    cursor = connection.execute(without_create_extension(SQL_EXAMPLE))
    assert [[row[0] for row in rows] for rows in results(cursor)] == [[1, 3]]


def test_psycopg_example(items: psycopg.Connection[Any], dsn: str) -> None:
    names: dict[str, Any] = {"dsn": dsn}
    exec(PSYCOPG_EXAMPLE, names)
    assert [row[0] for row in names["result"].rows] == [1, 3]
    assert [key for key, _ in names["rows"]] == [4, 1, 3]
    assert names["rows"][0][1].dtype == "float32"


def test_sqlalchemy_example(connection: psycopg.Connection[Any], dsn: str) -> None:
    pytest.importorskip("sqlalchemy")
    names: dict[str, Any] = {"dsn": dsn}
    exec(SQLALCHEMY_EXAMPLE, names)
    names["engine"].dispose()
    assert names["found"] == [1]


def test_commands_and_options_exist() -> None:
    root: Any = typer.main.get_command(app)
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("pgwinnow ")]
    assert lines
    for line in lines:
        # Words in quotes are values.
        words = re.sub(r'"[^"]*"', "", line.partition("#")[0]).split()[1:]
        command = root
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        if command.context_settings.get("ignore_unknown_options"):
            continue
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, line


def test_beside_pgvector(connection: psycopg.Connection[Any]) -> None:
    if not connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
        pytest.skip("this server has no pgvector")
    connection.execute("DROP EXTENSION winnow; CREATE EXTENSION vector")
    with pytest.raises(psycopg.errors.DuplicateObject), connection.transaction():
        connection.execute("CREATE EXTENSION winnow")
    connection.execute("DROP EXTENSION vector")
    connection.execute(SQL_BESIDE_PGVECTOR)
    connection.execute("INSERT INTO docs VALUES (1, '[1,2,3]')")
    types = "SELECT 'vector'::regtype = 'public.vector'::regtype, pg_typeof(embedding)::text FROM docs"
    assert connection.execute(types).fetchall() == [(True, "winnow.vector")]
    both = "SELECT '[1,2]'::vector <-> '[1,3]', embedding <-> '[1,2,4]' FROM docs"
    assert connection.execute(both).fetchall() == [(1, 1)]


def test_production_examples(items: psycopg.Connection[Any]) -> None:
    items.autocommit = True
    items.execute("CREATE INDEX items_search ON items USING winnow (embedding vector_cosine_ops, price)")
    examples = blocks("sql", PRODUCTION)
    assert len(examples) == 4
    answers = [rows for example in examples for rows in results(items.execute(example))]
    size, recall, check = answers
    assert size[0][:2] == (4, 1)
    assert recall == [(1,)]
    assert len(check) == 1


def test_columns_of_index_info_exist(connection: psycopg.Connection[Any]) -> None:
    arguments = connection.execute("SELECT proargnames FROM pg_proc WHERE proname = 'winnow_index_info'").fetchone()
    assert arguments is not None
    said = {
        name
        for what, *_ in table("what", "means", "what to do", text=PRODUCTION)
        for name in re.findall("`(.*?)`", what)
    }
    assert said <= set(arguments[0])


def test_promises_have_tests() -> None:
    promises = table("promise", "test", text=PRODUCTION)
    assert promises
    for promise, tests in promises:
        for test in re.findall("`(.*?)`", tests) or [promise]:
            assert "def test_" in (ROOT / test).read_text(), promise


def test_settings(connection: psycopg.Connection[Any]) -> None:
    connection.execute("LOAD 'winnow'")
    found = connection.execute(
        "SELECT name, boot_val, min_val, max_val, enumvals FROM pg_settings WHERE starts_with(name, 'winnow.')"
    ).fetchall()
    truth = {
        name: (default, ", ".join(values) if values else f"{least} to {most}")
        for name, default, least, most, values in found
    }
    assert truth == {name: row for name, row in SETTINGS.items() if name.startswith("winnow.")}


def test_storage_parameters(connection: psycopg.Connection[Any]) -> None:
    source = (ROOT / "extension" / "src" / "options.c").read_text()
    parameters = re.findall(r'add_\w+_reloption\(\s*\w+,\s*"(\w+)"', source)
    assert parameters == [name for name in SETTINGS if not name.startswith("winnow.")] == ["list_size", "bits"]

    connection.execute("CREATE TABLE items (embedding vector(3)); CREATE TABLE wide (embedding vector(501))")
    for parameter in parameters:
        least, most = (int(limit) for limit in SETTINGS[parameter][1].split(" to "))
        for value in (least, most):
            connection.execute(f"CREATE INDEX ON items USING winnow (embedding) WITH ({parameter} = {value})")
        for value in (least - 1, most + 1):
            with pytest.raises(psycopg.errors.InvalidParameterValue), connection.transaction():
                connection.execute(f"CREATE INDEX ON items USING winnow (embedding) WITH ({parameter} = {value})")
    connection.execute("CREATE INDEX plain ON items USING winnow (embedding)")
    connection.execute("CREATE INDEX wide_index ON wide USING winnow (embedding)")
    short, wide = (
        connection.execute("SELECT list_size, bits FROM winnow_index_info(%s)", [name]).fetchone()
        for name in ("plain", "wide_index")
    )
    assert short is not None
    assert wide is not None
    for parameter, up_to_500, beyond in zip(parameters, short, wide, strict=True):
        assert SETTINGS[parameter][0] == f"{up_to_500} up to 500 dimensions, {beyond} beyond"


def test_distances(connection: psycopg.Connection[Any]) -> None:
    truth = connection.execute(
        "SELECT opcname, oprname, opcdefault FROM pg_opclass JOIN pg_am ON pg_am.oid = opcmethod"
        " JOIN pg_amop ON amopfamily = opcfamily JOIN pg_operator o ON o.oid = amopopr"
        " WHERE amname = 'winnow' AND amoppurpose = 'o'"
    ).fetchall()
    said = [
        (code(opclass), code(operator), "default" in opclass)
        for _, operator, opclass in table("distance", "operator", "operator class")
    ]
    assert sorted(said) == sorted(truth)


def test_functions(connection: psycopg.Connection[Any]) -> None:
    truth = connection.execute(
        "SELECT proname, proargnames[1:pronargs] FROM pg_proc JOIN pg_depend ON objid = pg_proc.oid"
        " JOIN pg_extension e ON e.oid = refobjid AND extname = 'winnow'"
        " WHERE starts_with(proname, 'winnow_') AND 'internal'::regtype <> ALL (proargtypes)"
    ).fetchall()
    said = [code(function) for function, _ in table("function", "tells")]
    assert sorted(said) == sorted(f"{name}({', '.join(arguments or [])})" for name, arguments in truth)


@pytest.mark.parametrize(("condition", "inside", "outside", "pretested"), CONDITIONS)
def test_conditions(
    items: psycopg.Connection[Any], condition: str, inside: bool, outside: bool, pretested: bool
) -> None:
    lines = items.execute(
        f"EXPLAIN (ANALYZE, COSTS OFF) SELECT id FROM items WHERE {condition} ORDER BY embedding <=> '[1,2,3]' LIMIT 10"
    ).fetchall()
    plan = "\n".join(line for (line,) in lines)
    assert "Index Scan using items_embedding_category" in plan
    assert ("Index Cond:" in plan, " Filter:" in plan.replace("Index Filter:", "")) == (inside, outside), plan
    if VERSION >= 18:
        assert ("Index Filter:" in plan) == pretested, plan
