"""Damaged index files: every statement must end in an answer or an error, never in a crash or without end.

Each case damages the index's file in a database of its own, copied file by file from a sound one: no page of it is in
the server's memory until a statement reads it.  Checksums are off, so that the damage reaches the extension.

Environment: ``WINNOW_CORRUPTION_ROUNDS`` (default 20) is the number of cases of random damage,
``WINNOW_CORRUPTION_FLIPS`` (default 30) that of single bytes that are changed, of POSITIONS; 0 stands for all of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from cluster import temporary_server
from pgwinnow.server import Server
from server.index_file import (
    BORN,
    CHILD,
    CODE,
    CONTENTS,
    DATA,
    DATA_PAGE,
    DIMS,
    FIRST,
    FLAGS,
    FREE_PAGE,
    HEAD_PAGE,
    INNER_IDS,
    KIND,
    LEAF_COLUMNS,
    LEAF_IDS,
    LEVEL,
    LIST_SIZE,
    LOWER,
    MAGIC,
    META_BITS,
    META_DIMS,
    META_SHIFT,
    METRIC,
    NDATA,
    NEXT,
    NOWHERE,
    NRECORD_PAGES,
    NROWS,
    NUMBER,
    PAGE,
    PAGE_ID,
    RECORD,
    RECORDS,
    REMOVED,
    RETIRED,
    ROOT,
    TID,
    TOLERANCE,
    UPPER,
    VERSION,
    IndexFile,
)

ROUNDS = int(os.environ.get("WINNOW_CORRUPTION_ROUNDS", "20"))
FLIPS = int(os.environ.get("WINNOW_CORRUPTION_FLIPS", "30"))
TEMPLATE = "sound"
PATIENCE = 120.0
"""Seconds for all statements of a case; what takes longer has hung where no timeout of the server's reaches it."""

SCHEMA = """
CREATE EXTENSION winnow;
CREATE TABLE items (id int, embedding vector(16), number int, price numeric, name text, city text, street text,
    colour text, tags text[], marks int[], changed timestamptz, key uuid, yes boolean);
CREATE FUNCTION random_vector(seed int) RETURNS vector LANGUAGE sql VOLATILE AS
    'SELECT array_agg(random() + seed * 0)::vector FROM generate_series(1, 16)';
CREATE FUNCTION add_items(first int, last int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO items SELECT i, random_vector(i), i % 7, i / 3.0, 'name ' || i % 11, 'city ' || i % 3, 'street ' || i,
        CASE WHEN i % 5 > 0 THEN 'colour ' || i % 4 END, ARRAY['tag ' || i % 5, 'tag ' || i % 8], ARRAY[i % 10],
        '2024-01-01'::timestamptz + i * interval '1 hour', md5(i::text)::uuid, i % 2 = 0
    FROM generate_series(first, last) AS i
$$;
SELECT setseed(0.5);
SELECT add_items(1, 1500);
CREATE INDEX items_index ON items USING winnow
    (embedding, number, price, name, city, street, colour, lower(name), lower(city), lower(street), lower(colour),
    tags, marks, changed, key, yes) WITH (list_size = 64, bits = 2);
SELECT add_items(1501, 3000);
"""

ORDER = "ORDER BY embedding <-> (SELECT random_vector(1)) LIMIT 10"
# Does not need the index, and must not fail because of it.
WITHOUT_INDEX = f"SELECT id FROM items WHERE number = 3 {ORDER} OFFSET 1"
STATEMENTS = (
    "SELECT setseed(0.25)",
    "SET enable_seqscan = on; SET enable_indexscan = off",
    WITHOUT_INDEX,
    "SET enable_seqscan = off; RESET enable_indexscan",
    "SELECT winnow_check('items_index')",
    "SELECT winnow_check('items_index', true)",
    "SELECT winnow_index_info('items_index')",
    f"SELECT id FROM items {ORDER}",
    f"SELECT id FROM items WHERE number = 3 AND tags && '{{tag 1}}' {ORDER}",
    f"SELECT id FROM items WHERE price BETWEEN 10 AND 100 AND name = 'name 4' AND yes {ORDER}",
    f"SELECT id FROM items WHERE colour IS NULL AND changed < '2024-02-01' {ORDER}",
    f"SET winnow.recall = 1; SELECT id FROM items WHERE marks @> '{{3}}' {ORDER}",
    "SELECT count(*) FROM (SELECT id FROM items ORDER BY embedding <-> (SELECT random_vector(2))) AS everything",
    "SELECT add_items(4001, 4300)",
    "UPDATE items SET number = 100000 WHERE id % 40 = 0",
    "DELETE FROM items WHERE id % 20 = 0",
    "VACUUM items",
    "SELECT add_items(5001, 5200)",
    f"SELECT id FROM items WHERE number IN (2, 4, 100000) {ORDER}",
    "SELECT winnow_check('items_index', true)",
    # Lists are merged and dropped, the root is lowered, pages are freed.
    "DELETE FROM items WHERE id % 10 > 0 OR number < 3",
    "VACUUM (INDEX_CLEANUP ON) items",
    "SELECT add_items(6001, 6100)",
    "SELECT count(*) FROM (SELECT id FROM items ORDER BY embedding <-> (SELECT random_vector(3))) AS everything",
    "SELECT winnow_check('items_index', true)",
)

# Faults found in the index (XX), in what it says of values (22, 54), or in a version that it claims to have (0A).
ERRORS = re.compile("XX|22|54|0A")


@dataclass
class Sound:
    """A server, and where the sound index's file is."""

    server: Server
    index_path: Path

    def connect(self, dbname: str) -> psycopg.Connection:
        return psycopg.connect(self.server.dsn(dbname), autocommit=True)


@pytest.fixture(scope="module")
def sound() -> Iterator[Sound]:
    with sound_index(checksums=False) as result:
        yield result


@pytest.fixture(scope="module")
def guarded() -> Iterator[Sound]:
    with sound_index(checksums=True) as result:
        yield result


@contextlib.contextmanager
def sound_index(*, checksums: bool) -> Iterator[Sound]:
    settings = {"statement_timeout": "30s", "enable_seqscan": "off"}
    with temporary_server(**settings) as server:
        if not checksums:
            server.stop()
            server.run("pg_checksums", "--disable", "--pgdata", server.data_dir)
            server.start()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        with psycopg.connect(server.dsn(TEMPLATE), autocommit=True) as connection:
            connection.execute(SCHEMA)
            # Lists that were split leave pages: some become free ones, later ones stay as they are.
            connection.execute("DELETE FROM items WHERE id % 100 = 0")
            connection.execute("VACUUM (INDEX_CLEANUP ON) items")
            connection.execute("SELECT add_items(3001, 3030)")
            row = connection.execute("SELECT pg_relation_filepath('items_index')").fetchone()
            assert row is not None
            index_path = Path(row[0])
        yield Sound(server, index_path)


Fault = Callable[[IndexFile], None]
FAULTS: dict[str, tuple[Fault, str]] = {}


def fault(found: str) -> Callable[[Fault], Fault]:
    """A kind of damage; ``found`` is what winnow_check says of it."""

    def register(damage: Fault) -> Fault:
        FAULTS[damage.__name__] = (damage, found)
        return damage

    return register


@fault("wrong magic number")
def meta_magic(index: IndexFile) -> None:
    index.flip(0, MAGIC)


@fault("format version 257")
def meta_version(index: IndexFile) -> None:
    index.put(0, VERSION, 257)


@fault("other dimensions than")
def meta_dimensions(index: IndexFile) -> None:
    index.put(0, META_DIMS, 15, "H")


@fault("other dimensions than")
def meta_most_dimensions(index: IndexFile) -> None:
    index.put(0, META_DIMS, 16000, "H")


@fault("another metric than")
def meta_metric(index: IndexFile) -> None:
    index.put(0, METRIC, 2, "H")


@fault("values out of range")
def meta_list_size(index: IndexFile) -> None:
    index.put(0, LIST_SIZE, 0, "H")


@fault("is corrupted")
def meta_small_list_size(index: IndexFile) -> None:
    index.put(0, LIST_SIZE, 8, "H")


@fault("values out of range")
def meta_tolerance(index: IndexFile) -> None:
    index.put(0, TOLERANCE, float("nan"), "f")


@fault("names a block that does not exist")
def root_beyond_end(index: IndexFile) -> None:
    index.put(0, ROOT, index.blocks + 1000)


@fault("kind is not the one expected")
def root_is_meta(index: IndexFile) -> None:
    index.put(0, ROOT, 0)


@fault("kind is not the one expected")
def root_is_data(index: IndexFile) -> None:
    index.put(0, ROOT, index.get(index.root(), DATA))


@fault("lacks row")
def root_is_leaf(index: IndexFile) -> None:
    index.put(0, ROOT, index.nodes(0)[0])


@fault("has no end|in two places of a node")
def chain_to_itself(index: IndexFile) -> None:
    leaf = index.chained()
    index.put(leaf, NEXT, leaf)


@fault("a next group, but is not full|in two places of a node|newer than the pointer")
def chain_back(index: IndexFile) -> None:
    leaf = index.chained()
    index.put(index.get(leaf, NEXT), NEXT, leaf)


@fault("does not belong to the node|newer than the pointer")
def chain_astray(index: IndexFile) -> None:
    index.put(index.chained(), NEXT, index.nodes(0)[-1])


@fault("names a block that does not exist")
def chain_beyond_end(index: IndexFile) -> None:
    index.put(index.chained(), NEXT, index.blocks)


@fault("kind is not the one expected")
def chain_to_data(index: IndexFile) -> None:
    leaf = index.chained()
    index.put(leaf, NEXT, index.get(leaf, DATA))


@fault("lacks row")
def chain_cut(index: IndexFile) -> None:
    index.put(index.chained(), NEXT, NOWHERE)


@fault("a next group, but is not full|in two places of a node|newer than the pointer")
def inner_chain_back(index: IndexFile) -> None:
    inner = index.chained(level=1)
    index.put(index.get(inner, NEXT), NEXT, inner)


@fault("names a block that does not exist")
def child_beyond_end(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], INNER_IDS, 0x7FFFFFFF)


@fault("names a block that does not exist")
def child_nowhere(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], INNER_IDS, NOWHERE)


@fault("level is not the one expected")
def child_is_itself(index: IndexFile) -> None:
    inner = index.nodes(1)[0]
    index.put(inner, INNER_IDS, inner)


@fault("in two places of the tree")
def child_twice(index: IndexFile) -> None:
    index.copy(index.nodes(1)[0], INNER_IDS + CHILD, INNER_IDS, CHILD)


@fault("does not belong to the node")
def child_is_second_group(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], INNER_IDS, index.get(index.chained(), NEXT))


@fault("lacks row")
def child_not_live(index: IndexFile) -> None:
    index.flip(index.nodes(1)[0], REMOVED)


@fault("is retired, but the tree")
def leaf_retired(index: IndexFile) -> None:
    for leaf in index.nodes(0):
        index.put(leaf, FLAGS, RETIRED, "H")


@fault("is retired, but the tree")
def inner_retired(index: IndexFile) -> None:
    for inner in index.nodes(1):
        index.put(inner, FLAGS, RETIRED, "H")


@fault("kind is not the one")
def leaf_is_free(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], KIND, FREE_PAGE, "H")


@fault("newer than the pointer")
def leaf_too_young(index: IndexFile) -> None:
    for leaf in index.nodes(0):
        index.put(leaf, BORN, 1 << 60, "Q")


@fault("newer than the pointer")
def root_too_young(index: IndexFile) -> None:
    index.put(index.root(), BORN, 1 << 60, "Q")


@fault("newer than the pointer")
def codes_too_young(index: IndexFile) -> None:
    index.put(index.get(index.nodes(0)[0], DATA), BORN, 1 << 60, "Q")


@fault("unknown flags")
def unknown_flag(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], FLAGS, 0x80, "H")


@fault("level is not the one expected")
def leaf_is_inner(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], LEVEL, 1, "H")


@fault("level is not the one expected")
def level_too_high(index: IndexFile) -> None:
    index.put(index.root(), LEVEL, 0xFFFF, "H")


@fault("claims more rows than fit")
def too_many_rows(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], NROWS, 0xFFFF, "H")


@fault("claims more rows than fit")
def too_many_data_pages(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], NDATA, 0xFFFF, "H")


@fault("has 0 data pages")
def no_data_pages(index: IndexFile) -> None:
    for level in (0, 1):
        index.put(index.nodes(level)[0], NDATA, 0, "H")


@fault("no children")
def inner_without_rows(index: IndexFile) -> None:
    inner = index.nodes(1)[-1]
    index.put(inner, NROWS, 0, "H")
    index.put(inner, NRECORD_PAGES, 0, "H")
    index.put(inner, NEXT, NOWHERE)


@fault("does not belong to the node")
def first_is_another(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], FIRST, index.nodes(0)[1])


@fault("but never had one")
def removed_beyond_rows(index: IndexFile) -> None:
    leaf = index.nodes(0)[0]
    slot = index.get(leaf, NROWS, "H")
    index.put(leaf, REMOVED, index.get(leaf, REMOVED, "Q") | 1 << slot, "Q")


@fault("of a group that there is not")
def removed_beyond_groups(index: IndexFile) -> None:
    leaf = next(node for node in index.nodes(0) if index.get(node, NEXT) == NOWHERE)
    index.put(leaf, REMOVED + 8, 1, "Q")


@fault("has a hole")
def head_with_hole(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], LOWER, 24, "H")


@fault("header is damaged")
def data_upper_end(index: IndexFile) -> None:
    """Generic WAL would clear the bytes from the lower to the upper end: a negative number of them."""
    for leaf in index.nodes(0):
        index.put(index.get(leaf, DATA), UPPER, index.get(index.get(leaf, DATA), LOWER, "H"), "H")


@fault("header is damaged")
def meta_lower_end(index: IndexFile) -> None:
    index.put(0, LOWER, 0, "H")


@fault("kind is not the one expected")
def data_is_own_head(index: IndexFile) -> None:
    leaf = index.nodes(0)[0]
    index.put(leaf, DATA, leaf)


@fault("in two places of the tree")
def data_is_another_leafs(index: IndexFile) -> None:
    *others, leaf = index.nodes(0)
    index.put(leaf, DATA, index.get(max(others, key=lambda other: index.get(other, NROWS, "H")), DATA))


@fault("do not go on where those of the group before it end")
def data_not_shared(index: IndexFile) -> None:
    """The second group of a node begins on another page than the first one ends on."""
    first = next(node for node in index.nodes(0) if index.get(node, NEXT) != NOWHERE)
    other = next(node for node in index.nodes(0) if node != first)
    index.put(index.get(first, NEXT), DATA, index.get(other, DATA))


@fault("not in its place among the groups")
def group_out_of_place(index: IndexFile) -> None:
    first = next(node for node in index.nodes(0) if index.get(node, NEXT) != NOWHERE)
    index.put(index.get(first, NEXT), NUMBER, 2, "H")


@fault("not in its place among the groups")
def first_group_out_of_place(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], NUMBER, 0xFFFF, "H")


@fault("names a block that does not exist")
def data_beyond_end(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], DATA, index.blocks)


@fault("ends before the codes")
def data_too_short(index: IndexFile) -> None:
    index.put(index.get(index.nodes(0)[0], DATA), LOWER, CONTENTS + 4 * DIMS + CODE, "H")


@fault("has a code that is not of")
def code_bit(index: IndexFile) -> None:
    index.flip(index.get(index.nodes(0)[0], DATA), CONTENTS + 4 * DIMS + 8)


@fault("has a code that is not of")
def refinement_bit(index: IndexFile) -> None:
    index.flip(index.get(index.nodes(0)[0], RECORDS), CONTENTS + 12 + 1)


@fault("has a code that is not of")
def refinement_not_a_number(index: IndexFile) -> None:
    for node in index.nodes(0):
        index.put(index.get(node, RECORDS), CONTENTS + 4, float("nan"), "f")


@fault("0 pages with records, and its")
def no_refinement(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], NRECORD_PAGES, 0, "H")


@fault("more rows than fit")
def too_much_refinement(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], NRECORD_PAGES, 2, "H")


@fault("names a block that does not exist")
def refinement_beyond_end(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], RECORDS, index.blocks)


@fault("kind is not the one expected")
def refinement_is_head(index: IndexFile) -> None:
    leaf = index.nodes(0)[0]
    index.put(leaf, RECORDS, index.nodes(0)[1])


@fault("in two places of the tree")
def refinement_twice(index: IndexFile) -> None:
    leaf, *_, other = sorted(index.nodes(0), key=lambda node: index.get(node, BORN, "Q"))
    index.put(other, RECORDS, index.get(leaf, RECORDS))


@fault("ends before the records that are on it do")
def refinement_cut(index: IndexFile) -> None:
    index.put(index.get(index.nodes(0)[0], RECORDS), LOWER, CONTENTS + RECORD, "H")


@fault("has an imprint that does not hold for its child")
def imprint_empty(index: IndexFile) -> None:
    page = index.get(index.nodes(1)[0], RECORDS)
    for word in range(CONTENTS, index.get(page, LOWER, "H"), 8):
        index.put(page, word, 0, "Q")


@fault("0 pages with records, and its")
def no_imprints(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], NRECORD_PAGES, 0, "H")


@fault("ends before the records that are on it do")
def imprints_cut(index: IndexFile) -> None:
    index.put(index.get(index.nodes(1)[0], RECORDS), LOWER, CONTENTS + 16, "H")


@fault("kind is not the one expected")
def imprints_are_head(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], RECORDS, index.nodes(0)[1])


@fault("values out of range")
def meta_shift(index: IndexFile) -> None:
    index.put(0, META_SHIFT, 64, "B")


@fault("values out of range")
def meta_bits(index: IndexFile) -> None:
    index.put(0, META_BITS, 9)


@fault("more rows than fit|is corrupted")
def meta_other_bits(index: IndexFile) -> None:
    index.put(0, META_BITS, 1)


@fault("has a code that is not of")
def code_not_a_number(index: IndexFile) -> None:
    for level in (0, 1):
        for node in index.nodes(level):
            index.put(index.get(node, DATA), CONTENTS + 4 * DIMS, float("nan"), "f")


@fault("has a code that is not of")
def centroid_not_a_number(index: IndexFile) -> None:
    for level in (0, 1):
        for node in index.nodes(level):
            index.put(index.get(node, DATA), CONTENTS, float("nan"), "f")


@fault("row .* twice")
def tid_twice(index: IndexFile) -> None:
    """The whole row twice in a group: TID, attributes and code."""
    leaf = index.nodes(0)[0]
    index.copy(leaf, LEAF_IDS, LEAF_IDS + TID, TID)
    for number, width in enumerate(LEAF_COLUMNS):
        start = index.column(number, leaf=True)
        index.copy(leaf, start, start + width, width)
    start = CONTENTS + 4 * DIMS
    index.copy(index.get(leaf, DATA), start, start + CODE, CODE)
    index.copy(index.get(leaf, RECORDS), CONTENTS, CONTENTS + RECORD, RECORD)


@fault("which is not in the table")
def tid_invalid(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], LEAF_IDS + 4, 0, "H")


@fault("which is not in the table")
def tid_nowhere(index: IndexFile) -> None:
    for leaf in index.nodes(0):
        index.put(leaf, LEAF_IDS, NOWHERE)


@fault("which is not in the table")
def tid_beyond_table(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], LEAF_IDS, 77, "H")


@fault("where the table has nothing")
def tid_of_no_row(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], LEAF_IDS + 4, 2000, "H")


@fault("has other attributes than")
def tid_of_another_row(index: IndexFile) -> None:
    index.copy(index.nodes(0)[0], LEAF_IDS, LEAF_IDS + TID, TID)


@fault("has other attributes than")
def attribute(index: IndexFile) -> None:
    index.flip(index.nodes(0)[0], index.column(2, leaf=True))


@fault("has other attributes than")
def null_bit(index: IndexFile) -> None:
    index.flip(index.nodes(0)[0], index.column(0, leaf=True))


@fault("lacks row")
def row_not_live(index: IndexFile) -> None:
    index.flip(index.nodes(0)[0], REMOVED)


@fault("impossible number of rows")
def child_without_rows(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], index.column(0, leaf=False), 0)


@fault("negative radius")
def child_radius(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], index.column(1, leaf=False), -1, "f")


@fault("has a negative radius")
def farthest_row_nearer_than_any(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], index.column(2, leaf=False), -1, "f")


@fault("has a summary that does not hold")
def summary_without_values(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], index.column(3, leaf=False), 0, "B")


@fault("has a summary that does not hold")
def summary_too_narrow(index: IndexFile) -> None:
    index.put(index.nodes(1)[0], index.column(4, leaf=False), 3)


@fault("kind is not the one expected")
def head_is_data(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], KIND, 3, "H")


@fault("not a page of a winnow index")
def page_of_another_kind_of_index(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], PAGE_ID, 0xFF80, "H")


@fault("not a page of a winnow index")
def page_zeroed(index: IndexFile) -> None:
    leaf = index.nodes(0)[0]
    index.content[leaf * PAGE : (leaf + 1) * PAGE] = bytes(PAGE)


@fault("invalid page in block")
def page_header(index: IndexFile) -> None:
    index.put(index.nodes(0)[0], UPPER + 2, 9000, "H")


@fault("names a block that does not exist")
def file_cut_off(index: IndexFile) -> None:
    del index.content[PAGE * (index.blocks // 2) :]


@fault("names a block that does not exist")
def file_empty(index: IndexFile) -> None:
    index.content.clear()


@pytest.mark.parametrize("name", FAULTS)
def test_fault(sound: Sound, name: str) -> None:
    damage, found = FAULTS[name]
    errors = run_damaged(sound, name, damage)
    checks = [error for statement, error in errors if "winnow_check" in statement]
    assert WITHOUT_INDEX not in dict(errors)
    assert checks, "winnow_check finds nothing"
    assert re.search(found, checks[0]), checks[0]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_random_damage(sound: Sound, seed: int, number: int) -> None:
    """Bytes changed at random: everywhere, or in the headers of pages, where they do most harm."""
    rng = random.Random(f"{seed} {number}")

    def damage(index: IndexFile) -> None:
        root = index.root()
        for _ in range(rng.choice((1, 2, 5, 20, 100))):
            block = rng.choice((0, root, *(rng.randrange(index.blocks) for _ in range(8))))
            offset = rng.choice((rng.randrange(PAGE), rng.randrange(CONTENTS, 128), rng.randrange(LEAF_IDS, 1024)))
            index.content[block * PAGE + offset] = rng.choice((rng.randrange(256), 0, 255, 1))

    run_damaged(sound, f"random_{number}", damage)


# What pages a byte is changed on, one of them at a time.
TARGETS: dict[str, Callable[[IndexFile], list[int]]] = {
    "meta": lambda index: [0],
    "root": lambda index: [index.root()],
    "inner": lambda index: index.of_kind(HEAD_PAGE, level=1),
    "inner_later": lambda index: index.of_kind(HEAD_PAGE, level=1, later=True),
    "leaf": lambda index: index.of_kind(HEAD_PAGE),
    "leaf_later": lambda index: index.of_kind(HEAD_PAGE, later=True),
    "retired": lambda index: index.of_kind(HEAD_PAGE, retired=True),
    "data": lambda index: index.of_kind(DATA_PAGE),
    "free": lambda index: index.of_kind(FREE_PAGE),
}
# Every byte of the headers and the special space, and some of what lies between.
OFFSETS = (*range(64), *range(64, BORN, 61), *range(BORN, PAGE))
POSITIONS = [(target, offset) for target in TARGETS for offset in OFFSETS]


def flip(index: IndexFile, target: str, offset: int, rng: random.Random) -> None:
    pages = TARGETS[target](index)
    assert pages, f"the index has no {target} page"
    index.flip(rng.choice(pages), offset, 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randint(1, 255))


@pytest.mark.parametrize("number", range(FLIPS or len(POSITIONS)))
def test_changed_byte(sound: Sound, seed: int, number: int) -> None:
    rng = random.Random(f"{seed} flip {number}")
    target, offset = random.Random(f"{seed} flips").sample(POSITIONS, FLIPS)[number] if FLIPS else POSITIONS[number]
    run_damaged(sound, f"{target}_{offset}", lambda index: flip(index, target, offset, rng))


@pytest.mark.parametrize("target", TARGETS)
def test_changed_byte_with_checksums(guarded: Sound, seed: int, target: str) -> None:
    """The server finds the damage first: nothing but what reads the page fails."""
    rng = random.Random(f"{seed} {target}")
    errors = run_damaged(guarded, target, lambda index: flip(index, target, rng.randrange(LOWER, PAGE), rng))
    assert all("(XX001)" in error or "(XX002)" in error for _, error in errors)
    assert errors or target in ("retired", "free", "data")


def test_sound_index(sound: Sound) -> None:
    """Without damage the statements succeed: what the other tests see comes from the damage."""
    assert run_damaged(sound, "nothing", lambda index: None) == []


def run_damaged(sound: Sound, name: str, damage: Fault) -> list[tuple[str, str]]:
    """Damage a copy of the index and run all statements on it.

    :returns: statements that failed, each with its error
    """
    database = f"damaged_{name}"
    with sound.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [database]).fetchone()
        assert row is not None
    path = sound.server.data_dir / "base" / str(row[0]) / sound.index_path.name
    index = IndexFile(path.read_bytes())
    damage(index)
    path.write_bytes(index.content)

    hung = threading.Event()

    def kill() -> None:
        hung.set()
        sound.server.kill()

    watch = threading.Timer(PATIENCE, kill)
    watch.start()
    statement = "(connecting)"
    errors: list[tuple[str, str]] = []
    try:
        with sound.connect(database) as connection:
            for statement in STATEMENTS:
                try:
                    connection.execute(statement)
                except psycopg.Error as error:
                    if error.sqlstate is None or not ERRORS.match(error.sqlstate):
                        raise
                    errors.append((statement, f"{error} ({error.sqlstate})"))
    except psycopg.Error as error:
        watch.cancel()
        watch.join()
        log = "\n".join(sound.server.log_path.read_text(errors="replace").splitlines()[-20:])
        sound.server.start()
        pytest.fail(f"{statement}: {'hangs' if hung.is_set() else error} ({error.sqlstate})\n{log}", pytrace=False)
    finally:
        watch.cancel()
    with sound.connect("postgres") as connection:
        connection.execute(f"DROP DATABASE {database}")
    return errors
