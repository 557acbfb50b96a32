"""The questions of the demo, and how an answer is had, timed and judged.

Each question is one SQL query as a person would type it. winnow answers it from its one index; pgvector answers the
same query over an equal table with HNSW and a B-tree or GIN index on every filter column; and the exact answer is the
same query again with index scans switched off.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from pgwinnow.bench.prepared import Call, Statement, vector_call
from pgwinnow.bench.truth import TIE

LIMIT = 10
TIMES = 15  # executions of which the median is shown
COLUMNS = ("name", "module", "kind", "n_lines", "n_params", "tags")


@dataclass(frozen=True)
class Search:
    """A question in words, and the WHERE clause it comes with."""

    question: str
    about: str  # what the filter shows, for the reader
    where: str | None

    def sql(self, table: str, operator: str, columns: Sequence[str] = COLUMNS) -> str:
        """The query; $1 is the question's vector."""
        where = "" if self.where is None else f"\nWHERE {self.where}"
        return f"SELECT {', '.join(columns)}\nFROM {table}{where}\nORDER BY embedding {operator} $1\nLIMIT {LIMIT}"


SEARCHES = (
    Search("wait until every task has finished", "no filter", None),
    Search(
        "read a csv file without loading it into memory",
        "equality and a range: functions that are easy to call",
        "kind = 'function' AND n_params < 3",
    ),
    Search(
        "open a connection and run a query",
        "a list of packages",
        "package IN ('sqlite3', 'psycopg', 'asyncio') AND kind IN ('method', 'function')",
    ),
    Search(
        "round a number to a given precision",
        "a flag and a set: with examples, and a section on what is returned",
        "has_examples AND tags @> '{returns}'",
    ),
    Search(
        "release a lock or another resource when leaving a block",
        "sets that overlap: coroutines and context managers",
        "tags && '{async,asynccontextmanager,contextmanager}'",
    ),
    Search(
        "represents a date and a time with a time zone",
        "NULL test: classes that say nothing of how they are made",
        "kind = 'class' AND n_params IS NULL",
    ),
    Search(
        "convert text to lower case",
        "two ranges and a set: short functions with a section on what they return",
        "n_lines BETWEEN 2 AND 30 AND n_params BETWEEN 1 AND 2 AND tags && '{returns,yields}'",
    ),
    Search(
        "draw random samples from a normal distribution",
        "a filter against the vector: the question is about numpy, the packages are not",
        "package IN ('email', 'xml', 'logging', 'pip')",
    ),
)


@dataclass(frozen=True)
class Contender:
    """A way to answer: a table, its operator and the settings to search with."""

    name: str
    table: str
    operator: str
    settings: dict[str, str]


WINNOW = Contender("winnow", "docs", "<=>", {})
RIVALS = (
    Contender("pgvector, as it comes", "docs_pgvector", "OPERATOR(pgvector.<=>)", {"hnsw.iterative_scan": "off"}),
    Contender(
        "pgvector, iterative", "docs_pgvector", "OPERATOR(pgvector.<=>)", {"hnsw.iterative_scan": "relaxed_order"}
    ),
)
EXACT = {"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off"}


@dataclass(frozen=True)
class Outcome:
    """What one contender made of a search."""

    contender: str
    rows: int
    expected: int
    recall: float
    milliseconds: float


@dataclass(frozen=True)
class Found:
    """A search with winnow's hits, every contender's outcome, and the time of the exact answer."""

    search: Search
    matching: int
    hits: list[tuple[Any, ...]]
    outcomes: list[Outcome]
    exact_milliseconds: float


def ask(
    connection: psycopg.Connection[Any],
    search: Search,
    vector: npt.NDArray[np.float32],
    contenders: Sequence[Contender],
) -> Found:
    """Run one search every way and compare each with the exact answer, by distance, so that ties count."""
    call = vector_call(vector)
    where = "" if search.where is None else f" WHERE {search.where}"
    counted = connection.execute(f"SELECT count(*) FROM docs{where}").fetchone()  # noqa: S608 (ours)
    matching = int(counted[0]) if counted else 0
    with applied(connection, EXACT):
        exact_ids, exact_time = timed(connection, search, WINNOW, call)
    expected = len(exact_ids)
    nearest = distances(connection, exact_ids, vector)
    limit = max(nearest, default=0.0) + TIE
    outcomes = []
    for contender in contenders:
        with applied(connection, contender.settings):
            ids, milliseconds = timed(connection, search, contender, call)
        hits = sum(distance <= limit for distance in distances(connection, ids, vector))
        recall = min(hits, expected) / expected if expected else 1.0
        outcomes.append(Outcome(contender.name, len(ids), expected, recall, milliseconds))
    return Found(search, matching, shown_hits(connection, search, vector), outcomes, exact_time)


@contextmanager
def applied(connection: psycopg.Connection[Any], settings: Mapping[str, str]) -> Iterator[None]:
    """Make settings the session's for a while."""
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    try:
        yield
    finally:
        for name in settings:
            connection.execute(sql.SQL("RESET {}").format(sql.SQL(name)))


def timed(
    connection: psycopg.Connection[Any], search: Search, contender: Contender, call: Call
) -> tuple[list[int], float]:
    """The ids a contender finds, and the median time in milliseconds of repeating the query."""
    statement = Statement(connection, search.sql(contender.table, contender.operator, ("id",)))
    ids, _ = statement.run(call)
    return ids.tolist(), statistics.median(statement.run(call)[1] for _ in range(TIMES)) * 1000


def distances(connection: psycopg.Connection[Any], ids: Sequence[int], vector: npt.NDArray[np.float32]) -> list[float]:
    """Exact distances of rows from the question, whose order does not matter."""
    rows = connection.execute("SELECT embedding <=> %b FROM docs WHERE id = ANY (%s)", (vector, list(ids))).fetchall()
    return [float(distance) for (distance,) in rows]


def shown_hits(
    connection: psycopg.Connection[Any], search: Search, vector: npt.NDArray[np.float32]
) -> list[tuple[Any, ...]]:
    """Winnow's answer with the columns to look at."""
    query = search.sql(WINNOW.table, WINNOW.operator).replace("$1", "%b")
    return connection.execute(query, (vector,)).fetchall()
