"""The sides of the comparison in the server: how each makes its table and indexes, is asked, and tries harder.

Each keeps a table of its own with equal contents in one database of one server. winnow has one index over the
vector and the filter columns; pgvector has HNSW or IVFFlat plus a B-tree (GIN for sets) on every filter column, and
the planner chooses.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg.sql import SQL

from pgwinnow._tables import count_winnow_indexes, extension_function
from pgwinnow.bench.datasets import NAME_BYTES, Dataset, is_list, postgres_type
from pgwinnow.bench.filters import Filter, identifier, to_sql
from pgwinnow.bench.prepared import BenchError
from pgwinnow.types import Metric

INDEX = "winnow_index"  # winnow's
CURVE_RECALLS = (0.8, 0.9, 0.95, 0.99)
TAKEN = ("items", "plain", "hnsw", "ivfflat", "filter_")  # what names of tables and other indexes go on with


@dataclass(frozen=True)
class Effort:
    """Settings that trade time for recall."""

    label: str
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Index:
    """One index of a side: its name and the statement that makes it."""

    name: str
    sql: str


class Side(ABC):
    """One contestant."""

    name: ClassVar[str]
    schema: ClassVar[str]  # of the vector type
    load: ClassVar[str]  # a statement that loads the extension's library, so that its settings are checked

    def __init__(self, metric: Metric, recall: float) -> None:
        self.metric = metric
        self.recall = recall

    @property
    def table(self) -> str:
        """The side's table."""
        return f"{self.name}_items"

    @property
    def opclass(self) -> str:
        """The operator class of the metric, qualified."""
        return f"{self.schema}.{self.metric.opclass}"

    @property
    def operator(self) -> str:
        """The operator of the metric, qualified."""
        return f"OPERATOR({self.schema}.{self.metric.operator})"

    @abstractmethod
    def create_extension(self, connection: psycopg.Connection) -> None:
        """Make the vector type and the access method known in the database."""

    @abstractmethod
    def indexes(self, dataset: Dataset) -> list[Index]:
        """The vector index first, then the indexes on filter columns."""

    @abstractmethod
    def efforts(self) -> list[Effort]:
        """From the least to the most effort."""

    def curve_efforts(self) -> list[Effort]:
        """The efforts that a curve of recall against time is made of."""
        return self.efforts()

    def table_sql(self, dataset: Dataset, table: str) -> str:
        """CREATE TABLE for the rows of the data set."""
        columns = [f"{identifier(each.name)} {postgres_type(each.type)}" for each in dataset.attributes.schema]
        vector = f"embedding {self.schema}.vector({dataset.dimensions})"
        return f"CREATE TABLE {table} (id bigint PRIMARY KEY, {', '.join([*columns, vector])})"

    def search_sql(self, wanted: Filter | None, k: int | None) -> tuple[str, list[str]]:
        """The search as SQL with $1 for the vector, and the values of the filter's parameters from $2 on."""
        values: list[str] = []
        where = "" if wanted is None else f" WHERE {to_sql(wanted, values)}"
        limit = "" if k is None else f" LIMIT {k}"
        order = f"ORDER BY embedding {self.operator} $1"
        return f"SELECT id FROM {self.table}{where} {order}{limit}", values  # noqa: S608 (names and filters are ours)

    def apply(self, connection: psycopg.Connection, effort: Effort) -> None:
        """Make the effort the session's."""
        for name, value in effort.settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))

    def counters(self, connection: psycopg.Connection, plan: str) -> dict[str, float]:
        """What the session's last search did, whose plan was of this kind, where the side tells."""
        return {}


class Winnow(Side):
    """winnow: one index, one knob."""

    name = "winnow"
    schema = "public"
    load = "SELECT public.winnow_simd()"

    def __init__(self, metric: Metric, recall: float, bits: int | None = None) -> None:
        super().__init__(metric, recall)
        self.bits = bits

    def create_extension(self, connection: psycopg.Connection) -> None:
        """Create extension winnow in schema public."""
        connection.execute("CREATE EXTENSION IF NOT EXISTS winnow SCHEMA public")

    def indexes(self, dataset: Dataset) -> list[Index]:
        """One index over the vector and every filter column."""
        columns = ", ".join([f"embedding {self.opclass}", *map(identifier, dataset.roles.indexed)])
        parameters = "" if self.bits is None else f" WITH (bits = {self.bits})"
        return [Index(INDEX, f"CREATE INDEX {INDEX} ON {self.table} USING winnow ({columns}){parameters}")]

    def efforts(self) -> list[Effort]:
        """The recall that is asked for, and no other knob."""
        return [recall_effort(self.recall)]

    def curve_efforts(self) -> list[Effort]:
        """Recalls that users ask for."""
        return [recall_effort(recall) for recall in CURVE_RECALLS]

    def counters(self, connection: psycopg.Connection, plan: str) -> dict[str, float]:
        """What ``winnow_last_scan()`` tells; of a plan with no winnow index, or with several, it tells nothing."""
        function = extension_function(connection, "winnow_last_scan")
        if function is None or count_winnow_indexes(connection, plan.split(" + ")) != 1:
            return {}
        cursor = connection.execute(SQL("SELECT * FROM {}()").format(function))
        names = [column.name for column in cursor.description or ()]
        return numbers_of(names, cursor.fetchall())


def recall_effort(recall: float) -> Effort:
    """The knob of winnow at this recall."""
    return Effort(f"recall {recall:g}", {"winnow.recall": f"{recall:g}"})


class Pgvector(Side):
    """pgvector's HNSW with its iterative scan, beside ordinary indexes on the filter columns."""

    name = "pgvector"
    schema = "pgvector"
    load = "SELECT '[1]'::pgvector.vector"

    def create_extension(self, connection: psycopg.Connection) -> None:
        """Create extension vector in schema pgvector, out of the way of winnow's type of the same name."""
        connection.execute("CREATE SCHEMA IF NOT EXISTS pgvector")
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA pgvector")
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
            raise BenchError(
                "this server has no pgvector to compare with", "install it, or measure winnow alone: --rival none"
            ) from error

    def indexes(self, dataset: Dataset) -> list[Index]:
        """The vector index, a B-tree on every filter column, GIN on sets."""
        found = [self.vector_index(len(dataset.base))]
        for place, column in enumerate(dataset.roles.indexed):
            method = "gin" if is_list(dataset.attributes.schema.field(column).type) else "btree"
            name = self.filter_index(column, place)
            statement = f"CREATE INDEX {identifier(name)} ON {self.table} USING {method} ({identifier(column)})"
            found.append(Index(name, statement))
        return found

    def filter_index(self, column: str, place: int) -> str:
        """Name of the index on a filter column: after the column, unless that is too long or could be another's."""
        name = f"{self.name}_{column}"
        if column.startswith(TAKEN) or len(name.encode()) > NAME_BYTES:
            return f"{self.name}_filter_{place}"
        return name

    def vector_index(self, rows: int) -> Index:
        """HNSW with pgvector's defaults."""
        name = "pgvector_hnsw"
        return Index(name, f"CREATE INDEX {name} ON {self.table} USING hnsw (embedding {self.opclass})")

    def efforts(self) -> list[Effort]:
        """Iterative scans as pgvector's documentation advises: a larger ef_search, then more tuples and memory."""
        steps = [
            (40, "relaxed_order", 20_000, 1),
            (100, "relaxed_order", 20_000, 1),
            (200, "relaxed_order", 20_000, 1),
            (200, "strict_order", 20_000, 1),
            (400, "relaxed_order", 20_000, 1),
            (1000, "relaxed_order", 20_000, 1),
            (100, "relaxed_order", 200_000, 4),
            (400, "relaxed_order", 200_000, 4),
            (1000, "relaxed_order", 200_000, 4),
            (1000, "relaxed_order", 1_000_000, 16),
        ]
        return [
            Effort(
                f"ef {ef}, {order.removesuffix('_order')}, {tuples // 1000}k tuples",
                {
                    "hnsw.ef_search": str(ef),
                    "hnsw.iterative_scan": order,
                    "hnsw.max_scan_tuples": str(tuples),
                    "hnsw.scan_mem_multiplier": str(memory),
                },
            )
            for ef, order, tuples, memory in steps
        ]


class Ivfflat(Pgvector):
    """pgvector's IVFFlat with its iterative scan, likewise."""

    name = "pgvector_ivfflat"

    def vector_index(self, rows: int) -> Index:
        """As many lists as pgvector's documentation recommends to begin with."""
        lists = max(1, rows // 1000 if rows <= 1_000_000 else math.isqrt(rows))
        name = "pgvector_ivfflat"
        columns = f"(embedding {self.opclass}) WITH (lists = {lists})"
        return Index(name, f"CREATE INDEX {name} ON {self.table} USING ivfflat {columns}")

    def efforts(self) -> list[Effort]:
        """More probes at first; the iterative scan goes on to further lists where the filter leaves too few rows."""
        return [
            Effort(f"probes {probes}", {"ivfflat.probes": str(probes), "ivfflat.iterative_scan": "relaxed_order"})
            for probes in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
        ]


def numbers_of(names: list[str], rows: list[tuple[Any, ...]]) -> dict[str, float]:
    """Counters from one row of named columns, or from rows of (name, value); what is not a number is left out."""
    pairs: list[tuple[str, Any]]
    if len(names) == 2 and all(isinstance(row[0], str) for row in rows):
        pairs = [(row[0], row[1]) for row in rows]
    else:
        pairs = [(name, value) for row in rows[:1] for name, value in zip(names, row, strict=True)]
    return {
        name: float(value) for name, value in pairs if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def plan_kind(explained: str) -> tuple[str, int]:
    """What answers a query, by index name or scan, and its accesses to 8 kB pages, from EXPLAIN in JSON."""
    plan = json.loads(explained)[0]["Plan"]
    pages = plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
    names: list[str] = []
    stack = [plan]
    while stack:
        node = stack.pop()
        if "Index Name" in node:
            names.append(node["Index Name"])
        elif node["Node Type"] == "Seq Scan":
            names.append("seq scan")
        stack.extend(node.get("Plans", ()))
    return " + ".join(sorted(set(names))) or "no scan", int(pages)
