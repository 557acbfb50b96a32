"""The extension as an object: dropped, moved, updated, used from any search_path; indexes of another format."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import psycopg
import pytest

from cluster import temporary_server
from pgwinnow.server import Server
from server.index_file import MAGIC, PAGE, VERSION
from server.load import DIMS, NEAREST, create_table, fill
from server.oracle import INDEX_ONLY, Connection, check_exact, check_indexes

HERE = "[" + ",".join(["0.25"] * DIMS) + "]"


@pytest.fixture
def database(connection: Connection) -> Connection:
    """A database with the table and its index, filled."""
    connection.autocommit = True
    create_table(connection)
    fill(connection, 100)
    return connection


def test_drop_takes_what_depends_on_it_only_when_told(database: Connection) -> None:
    database.execute("CREATE VIEW near AS SELECT id, e <-> e AS d FROM items")
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as refusal:
        database.execute("DROP EXTENSION winnow")
    detail = refusal.value.diag.message_detail or ""
    assert "column e of table items" in detail
    assert "view near depends on operator <->(vector,vector)" in detail
    check_exact(database, NEAREST, "items", ids=set(range(100)))

    database.execute("SET client_min_messages = error; DROP EXTENSION winnow CASCADE")
    columns = database.execute(
        "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute"
        " WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped"
    ).fetchone()
    assert columns == ("id bucket label",)
    assert database.execute("SELECT count(*) FROM items").fetchone() == (100,)
    for catalogue, name in (("pg_am", "amname"), ("pg_type", "typname"), ("pg_proc", "proname")):
        left = database.execute(f"SELECT {name} FROM {catalogue} WHERE {name} ~ '^(winnow|_?vector)'").fetchall()
        assert [str(row[0]) for row in left] in ([], ["pg_vector"]), catalogue

    # The library is still loaded, and serves again.
    database.execute("CREATE EXTENSION winnow; DROP TABLE items CASCADE")
    create_table(database)
    fill(database, 100)
    check_exact(database, NEAREST, "items", ids=set(range(100)))


def test_moved_to_another_schema(database: Connection) -> None:
    database.execute("CREATE SCHEMA library; ALTER EXTENSION winnow SET SCHEMA library")
    # Statements that do not name the extension's objects need no search_path.
    for statement in ("VACUUM (INDEX_CLEANUP ON) items", "REINDEX TABLE items", "ANALYZE items"):
        database.execute(statement)
    database.execute("INSERT INTO items SELECT id + 100, bucket, label, e FROM items; DELETE FROM items WHERE id = 7")
    database.execute("SELECT library.winnow_check('items_index', true)")
    database.execute(f"{INDEX_ONLY}; SET winnow.recall = 1")
    distance = f"e OPERATOR(library.<->) '{HERE}'"
    plan = database.execute(f"EXPLAIN SELECT id FROM items ORDER BY {distance} LIMIT 5").fetchall()
    assert "Index Scan using items_index" in str(plan)
    database.execute("SET search_path = public, library")
    check_exact(database, NEAREST, "items", ids=set(range(200)) - {7})


IMPOSTORS = """
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.lie(public.vector, public.vector) RETURNS double precision
        LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE EXCEPTION 'the wrong operator'; END$$;
    CREATE FUNCTION evil.lie(integer, integer) RETURNS boolean
        LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE EXCEPTION 'the wrong operator'; END$$;
    CREATE FUNCTION evil.lie(text, text) RETURNS boolean
        LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE EXCEPTION 'the wrong operator'; END$$;
    CREATE OPERATOR evil.<-> (LEFTARG = public.vector, RIGHTARG = public.vector, FUNCTION = evil.lie);
    CREATE OPERATOR evil.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.lie);
    CREATE OPERATOR evil.< (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.lie);
    CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.lie);
    CREATE DOMAIN evil.vector AS text;
    CREATE FUNCTION evil.vector_dims(public.vector) RETURNS integer
        LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE EXCEPTION 'the wrong function'; END$$;
    CREATE FUNCTION evil.lower(text) RETURNS text
        LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE EXCEPTION 'the wrong function'; END$$;
"""


@pytest.mark.parametrize("path", ["evil, pg_catalog, public", "pg_catalog", ""])
def test_index_does_not_look_names_up(database: Connection, path: str) -> None:
    """What builds, fills, vacuums and searches the index takes its operators from the operator classes."""
    database.execute("CREATE INDEX items_more ON items USING winnow (e vector_cosine_ops, lower(label), bucket)")
    # Names in a view were looked up when it was made.
    database.execute(
        f"CREATE VIEW near AS SELECT id FROM items WHERE bucket < 40 AND lower(label) = 'label 3'"
        f" ORDER BY e <=> '{HERE}' LIMIT 9"
    )
    expected = database.execute("SELECT id FROM near").fetchall()
    assert expected
    database.execute(f"{IMPOSTORS}; {INDEX_ONLY}; SET search_path = {path or repr(path)}")
    for _ in range(2):
        database.execute("INSERT INTO public.items SELECT id + 1000, bucket, label, e FROM public.items")
        database.execute("DELETE FROM public.items WHERE id OPERATOR(pg_catalog.>=) 1000")
        database.execute("VACUUM (INDEX_CLEANUP ON, ANALYZE) public.items")
        database.execute("REINDEX TABLE public.items")
    database.execute("SELECT public.winnow_check('public.items_index', true)")
    database.execute("SELECT public.winnow_check('public.items_more', true)")
    database.execute("SELECT public.winnow_index_info('public.items_more')")
    plan = database.execute("EXPLAIN SELECT id FROM public.near").fetchall()
    assert "Index Scan using items_more" in str(plan)
    assert database.execute("SELECT id FROM public.near").fetchall() == expected


def test_update_to_the_installed_version(database: Connection) -> None:
    notices: list[str] = []
    database.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    version = database.execute("SELECT extversion FROM pg_extension WHERE extname = 'winnow'").fetchone()
    database.execute("ALTER EXTENSION winnow UPDATE")
    assert version is not None
    assert notices == [f'version "{version[0]}" of extension "winnow" is already installed']
    # Every version that can be installed can be brought to the default one.
    stuck = database.execute(
        "SELECT v.version FROM pg_available_extensions e JOIN pg_available_extension_versions v USING (name)"
        " WHERE name = 'winnow' AND v.version <> e.default_version AND NOT EXISTS ("
        "  SELECT FROM pg_extension_update_paths('winnow')"
        "  WHERE source = v.version AND target = e.default_version AND path IS NOT NULL)"
    ).fetchall()
    assert stuck == []


@pytest.fixture(scope="module")
def unchecked_server() -> Iterator[Server]:
    """A server that does not mind wrong page checksums, so that pages can be changed under it."""
    with temporary_server(ignore_checksum_failure="on") as server:
        yield server


@pytest.mark.parametrize("difference", [-1, 1])
def test_index_of_another_format(unchecked_server: Server, difference: int) -> None:
    """It is refused with a reason, does not keep the table from being read, and can be rebuilt or dropped."""
    server = unchecked_server
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            "DROP EXTENSION IF EXISTS winnow CASCADE; DROP TABLE IF EXISTS items; CREATE EXTENSION winnow"
        )
        create_table(connection)
        fill(connection, 200)
        record = connection.execute("SELECT pg_relation_filepath('items_index')").fetchone()
        info = connection.execute("SELECT format_version FROM winnow_index_info('items_index')").fetchone()
    assert record is not None
    assert info is not None
    version = int(str(info[0]))
    server.stop()
    with (server.data_dir / str(record[0])).open("r+b") as file:
        page = bytearray(file.read(PAGE))
        assert struct.unpack_from("<II", page, MAGIC) == (0x57494E4E, version), "the layout has changed"
        struct.pack_into("<I", page, VERSION, version + difference)
        file.seek(0)
        file.write(page)
    server.start()

    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for statement in (
            f"{INDEX_ONLY}; SELECT id FROM items ORDER BY {NEAREST} LIMIT 5",
            f"INSERT INTO items VALUES (1000, 1, 'label', '{HERE}')",
            "VACUUM (INDEX_CLEANUP ON) items",
            "SELECT winnow_check('items_index')",
            "SELECT winnow_index_info('items_index')",
        ):
            with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
                connection.execute(statement)
            said = refusal.value.diag
            assert said.message_primary == (
                f'index "items_index" has format version {version + difference}, this library reads version {version}'
            )
            assert "REINDEX" in (said.message_hint or "")
        connection.execute("RESET ALL")
        for statement in ("SELECT * FROM items", "SELECT e <-> e FROM items WHERE bucket < 3", "COPY items TO STDOUT"):
            read_all(connection, statement)
        connection.execute("BEGIN; DROP INDEX items_index; ROLLBACK")
        connection.execute("REINDEX INDEX items_index" if difference < 0 else "REINDEX INDEX CONCURRENTLY items_index")
        check_indexes(connection, "items_index")
        check_exact(connection, NEAREST, "items", ids=set(range(200)))
        fill(connection, 100, first=200)
        check_indexes(connection, "items_index")


def read_all(connection: Connection, statement: str) -> None:
    """A dump or an ordinary query of the table."""
    if not statement.startswith("COPY"):
        assert len(connection.execute(statement).fetchall()) > 0
        return
    with connection.cursor().copy(statement) as copy:
        assert len(list(copy)) == 200
