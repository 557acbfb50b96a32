"""Where things are in the file of the index that test_corruption.py damages."""

from __future__ import annotations

import struct
from collections.abc import Iterator

DIMS = 16

# extension/src/winnow.h: page header, then WinnowMeta or WinnowGroup; WinnowPageOpaque at the end.
PAGE = 8192
LOWER, UPPER = 12, 14
MAGIC, VERSION, META_DIMS, METRIC, LIST_SIZE, NATTRS, TOLERANCE, ROOT = 24, 28, 32, 34, 36, 38, 52, 148
LEVEL, FLAGS, NROWS, NDATA, FIRST, NEXT, RETIRED_AT, NUMBER, DATA = 24, 26, 28, 30, 32, 36, 40, 48, 52
BORN, KIND, PAGE_ID = 8176, 8188, 8190
HEAD_PAGE, DATA_PAGE, FREE_PAGE = 2, 3, 4
RETIRED = 1
# Groups of at most 64 rows whose codes are on two pages at most, and whose records on one: three block numbers,
# a word of removed bits for each of the first groups of a node (on its first page), ids, columns.
REMOVED = 64
CHILD, TID = 4, 6
CONTENTS = 24
# Bytes of the columns of the index of SCHEMA.  Leaves: null bits, texts as hash and prefix.  Inner nodes: rows, mean
# and largest squared distance of these, flags and bounds or Bloom filters.
LEAF_COLUMNS = (1, 1, 4, 8, *(8, 8) * 8, 16, 16, 8, 8, 1)
INNER_COLUMNS = (4, 4, 4, 1, 4, 4, 1, 8, 8, *(1, 16, 8, 8) * 8, 1, 16, 1, 16, 1, 8, 8, 1, 8, 8, 1, 1, 1)
LEAF_ROWS, INNER_ROWS = 41, 21
# There is room for as many groups as hold 64 rows, and one.
LEAF_IDS, INNER_IDS = (REMOVED + 8 * (1 + -(-64 // rows)) for rows in (LEAF_ROWS, INNER_ROWS))
CODE = 8 + 8 * ((DIMS + 63) // 64)
# Refinement codes of two bits, on pages that are named behind the data pages.
RECORD = 12 + 2 * 8 * ((DIMS + 63) // 64)
RECORDS, NRECORD_PAGES, META_BITS = DATA + 4 * 2, 50, 200
META_SHIFT = META_BITS + 4 + 3
NOWHERE = 0xFFFFFFFF


class IndexFile:
    """The content of an index's file, to be read and changed by block and offset."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)

    @property
    def blocks(self) -> int:
        return len(self.content) // PAGE

    def get(self, block: int, offset: int, kind: str = "I") -> int:
        value: int = struct.unpack_from("<" + kind, self.content, block * PAGE + offset)[0]
        return value

    def put(self, block: int, offset: int, value: float, kind: str = "I") -> None:
        struct.pack_into("<" + kind, self.content, block * PAGE + offset, value)

    def flip(self, block: int, offset: int, mask: int = 1) -> None:
        self.content[block * PAGE + offset] ^= mask

    def copy(self, block: int, to: int, source: int, length: int) -> None:
        start = block * PAGE
        self.content[start + to : start + to + length] = self.content[start + source : start + source + length]

    def root(self) -> int:
        return self.get(0, ROOT)

    def nodes(self, level: int) -> list[int]:
        """First head pages of the level's nodes, from left to right."""
        found = [self.root()]
        for above in range(self.get(self.root(), LEVEL, "H"), level, -1):
            found = [self.get(group, INNER_IDS + CHILD * slot) for group, slot in self.rows(found)]
            assert all(
                self.get(block, KIND, "H") == HEAD_PAGE and self.get(block, LEVEL, "H") == above - 1 for block in found
            ), "the layout has changed"
        return found

    def groups(self, node: int) -> Iterator[int]:
        while node != NOWHERE:
            yield node
            node = self.get(node, NEXT)

    def rows(self, nodes: list[int]) -> Iterator[tuple[int, int]]:
        """Head page and slot of the live rows of nodes."""
        for node in nodes:
            for number, group in enumerate(self.groups(node)):
                for slot in range(self.get(group, NROWS, "H")):
                    if not self.get(node, REMOVED + 8 * number, "Q") >> slot & 1:
                        yield group, slot

    def of_kind(self, kind: int, level: int = 0, retired: bool = False, later: bool = False) -> list[int]:
        """All pages of a kind; of head pages those of a level, first or later ones, in use or retired."""
        pages = [block for block in range(self.blocks) if self.get(block, KIND, "H") == kind]
        if kind != HEAD_PAGE:
            return pages
        return [
            block
            for block in pages
            if min(self.get(block, LEVEL, "H"), 1) == level
            and (self.get(block, FLAGS, "H") == RETIRED) == retired
            and (self.get(block, FIRST) != block) == later
        ]

    def chained(self, level: int = 0) -> int:
        """A node of more than one group, on that level or above."""
        for above in range(level, self.get(self.root(), LEVEL, "H") + 1):
            for node in self.nodes(above):
                if self.get(node, NEXT) != NOWHERE:
                    assert self.get(node, NROWS, "H") == (INNER_ROWS if above else LEAF_ROWS), "the layout has changed"
                    return node
        raise AssertionError("no node has a second group")

    def column(self, number: int, leaf: bool) -> int:
        """Where a column of the head page begins."""
        if leaf:
            return LEAF_IDS + LEAF_ROWS * (TID + sum(LEAF_COLUMNS[:number]))
        return INNER_IDS + INNER_ROWS * (CHILD + sum(INNER_COLUMNS[:number]))
