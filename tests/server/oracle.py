"""What the index answers against what a sequential scan answers.

The sequential scan says which rows match and how far each is; whatever way the index was asked, its answer is then
known but for the order of rows at the same distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import scalar_row

Connection = psycopg.Connection[tuple[object, ...]]

INDEX_ONLY = "SET enable_seqscan = off; SET enable_sort = off; SET enable_indexscan = on; SET enable_bitmapscan = off"
NO_INDEX = "SET enable_seqscan = on; SET enable_sort = on; SET enable_indexscan = off; SET enable_bitmapscan = off"


@dataclass(frozen=True)
class Row:
    """A row of an answer: its id and its distances to the queries of the ORDER BY clause."""

    id: int
    distances: tuple[float, ...]


def sort_key(row: Row) -> tuple[tuple[bool, float], ...]:
    """Order of an answer; NaN comes last, as in PostgreSQL."""
    return tuple((math.isnan(value), 0.0 if math.isnan(value) else value) for value in row.distances)


def rows_of(records: Sequence[tuple[object, ...]]) -> list[Row]:
    """Rows of (id, distance, ...) records."""
    return [Row(int(str(record[0])), tuple(float(str(value)) for value in record[1:])) for record in records]


def matching_rows(connection: Connection, sql: str) -> dict[int, Row]:
    """By sequential scan: all rows that match, by id."""
    connection.execute(NO_INDEX)
    rows = rows_of(connection.execute(sql).fetchall())
    matching = {row.id: row for row in rows}
    assert len(matching) == len(rows), "ids are not unique: the test is wrong"
    return matching


def column(connection: Connection, query: str) -> list[Any]:
    """The first column of an answer."""
    return [row[0] for row in connection.execute(query).fetchall()]


def counters(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """What the session's last scan did."""
    return {str(name): int(str(value)) for name, value in connection.execute("SELECT * FROM winnow_last_scan()")}


def same_distance(a: float, b: float, size: float) -> bool:
    """Equal but for the rounding of float sums whose terms have the given size."""
    return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7 * size)


def complaint(
    found: Sequence[Row],
    matching: Mapping[int, Row],
    *,
    limit: int | None = None,
    offset: int = 0,
    exact: bool,
    ordered: bool,
) -> str | None:
    """What is wrong with an answer of the index, or None.

    :param found: the rows in the order in which they came
    :param matching: all rows that match, from :func:`matching_rows`
    :param limit: of the query; None for none
    :param offset: of the query
    :param exact: it must be the exact answer (``winnow.recall = 1``)
    :param ordered: rows must come nearest first
    """
    ids = [row.id for row in found]
    if len(set(ids)) != len(ids):
        return f"rows came twice: {sorted({twice for twice in ids if ids.count(twice) > 1})[:10]}"
    if wrong := sorted(set(ids) - matching.keys()):
        return f"rows that do not match: {wrong[:10]}"
    wanted = max(0, len(matching) - offset)
    if limit is not None:
        wanted = min(wanted, limit)
    if len(found) != wanted:
        missing = sorted(matching.keys() - set(ids))
        return f"{len(found)} rows instead of {wanted}; {len(matching)} match; not returned: {missing[:10]}"
    for row in found:
        if not all(map(_identical, row.distances, matching[row.id].distances)):
            return f"row {row.id} has distances {row.distances}, not {matching[row.id].distances}"
    if ordered and (swap := _first_swap(found)) is not None:
        return f"row {swap} of the answer is nearer than the row before: {found[swap - 1]}, {found[swap]}"
    return _wrong_distances(found, matching, offset) if exact else None


def _identical(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _first_swap(found: Sequence[Row]) -> int | None:
    for i in range(1, len(found)):
        if sort_key(found[i]) < sort_key(found[i - 1]):
            return i
    return None


def _wrong_distances(found: Sequence[Row], matching: Mapping[int, Row], offset: int) -> str | None:
    expected = sorted(matching.values(), key=sort_key)
    size = max((abs(row.distances[0]) for row in expected if math.isfinite(row.distances[0])), default=0.0)
    answer = sorted(found, key=sort_key)
    for place, (row, right) in enumerate(zip(answer, expected[offset:], strict=False)):
        if not same_distance(row.distances[0], right.distances[0], size):
            return f"place {place} has {row}, but {right} is the right one"
    return None


def index_scans(plan: object) -> set[str]:
    """Names of the indexes that a plan (the value of EXPLAIN (FORMAT JSON)) scans."""
    return {node["Index Name"] for node in _nodes(plan) if node.get("Node Type") == "Index Scan"}


def table_scans(plan: object) -> set[str]:
    """Names of the tables that a plan scans in any way."""
    return {node["Relation Name"] for node in _nodes(plan) if "Relation Name" in node}


def _nodes(plan: object) -> Iterator[dict[str, Any]]:
    if isinstance(plan, list):
        for part in plan:
            yield from _nodes(part)
    elif isinstance(plan, dict):
        yield plan
        yield from _nodes(list(plan.values()))


def winnow_indexes(connection: Connection) -> dict[str, str]:
    """Names of all winnow indexes with storage, each with its table."""
    records = connection.execute(
        "SELECT i.relname, t.relname FROM pg_class i JOIN pg_am a ON a.oid = i.relam"
        " JOIN pg_index x ON x.indexrelid = i.oid JOIN pg_class t ON t.oid = x.indrelid"
        " WHERE a.amname = 'winnow' AND i.relkind = 'i' AND x.indisvalid"
    ).fetchall()
    return {str(index): str(table) for index, table in records}


def check_indexes(connection: Connection, *names: str) -> None:
    """Let ``winnow_check`` compare every index, or those named, with its table."""
    for name in names or winnow_indexes(connection):
        connection.execute("SELECT winnow_check(%s::regclass, true)", [name])


def check_exact(connection: Connection, sql_distance: str, table: str, *, ids: set[int] | None = None) -> None:
    """Assert that at ``winnow.recall = 1`` the index and a sequential scan agree on all rows and on the nearest ten.

    :param sql_distance: the ORDER BY expression, such as ``embedding <-> '[1,2]'``
    :param ids: the rows the table must hold
    """
    # Rows without a vector are not in the index.
    column = sql_distance.split()[0]
    matching = matching_rows(connection, f"SELECT id, {sql_distance} FROM {table} WHERE {column} IS NOT NULL")
    if ids is not None:
        cursor = psycopg.Cursor(connection, row_factory=scalar_row)
        present = set(cursor.execute(f"SELECT id FROM {table}").fetchall())
        assert present == ids, f"missing {sorted(ids - present)[:10]}, unexpected {sorted(present - ids)[:10]}"
    connection.execute(INDEX_ONLY)
    connection.execute("SET winnow.recall = 1")
    for limit in (10, None):
        sql = f"SELECT id, {sql_distance} AS d FROM {table} ORDER BY {sql_distance}" + (
            f" LIMIT {limit}" if limit else ""
        )
        plan = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()
        assert plan is not None
        assert index_scans(plan[0]), f"no index scan: {plan[0]}"
        found = rows_of(connection.execute(sql).fetchall())
        wrong = complaint(found, matching, limit=limit, exact=True, ordered=True)
        assert wrong is None, f"{sql}\n{wrong}"
