"""What EXPLAIN ANALYZE and winnow_last_scan() say of a scan."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from cluster import VERSION

ROWS = 3000


@pytest.fixture
def items(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("CREATE EXTENSION IF NOT EXISTS winnow")
    connection.execute("SELECT setseed(0.5)")
    connection.execute("CREATE TABLE items (id int, kind int, embedding vector(3))")
    connection.execute(
        "INSERT INTO items SELECT i, i %% 7, ARRAY[random(), random(), random()]::vector FROM generate_series(1, %s) i",
        (ROWS,),
    )
    connection.execute("CREATE INDEX ON items USING winnow (embedding vector_l2_ops, kind) WITH (list_size = 64)")
    connection.execute("SET enable_seqscan = off")
    return connection


def scan_nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    found = [plan] if plan["Node Type"] == "Index Scan" else []
    return found + [node for below in plan.get("Plans", []) for node in scan_nodes(below)]


def explain(connection: psycopg.Connection, query: str) -> list[dict[str, Any]]:
    row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {query}").fetchone()
    assert row is not None
    plans = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return scan_nodes(plans[0]["Plan"])


@pytest.mark.skipif(VERSION < 18, reason="extensions cannot add to EXPLAIN before PostgreSQL 18")
def test_explain_shows_the_work(items: psycopg.Connection) -> None:
    query = "SELECT id FROM items WHERE kind = 3 ORDER BY embedding <-> '[0.5,0.5,0.5]' LIMIT 5"
    (node,) = explain(items, query)
    items.execute(query)
    counters: dict[str, int] = dict(items.execute("SELECT counter, value FROM winnow_last_scan()").fetchall())
    shown = {
        "Lists Probed": "lists_probed",
        "Lists Pruned": "lists_pruned",
        "Rows Tested": "rows_tested",
        "Rows Passed": "rows_passed",
        "Rows Reranked": "reranked",
    }
    assert {name: node[name] for name in shown} == {name: counters[counter] for name, counter in shown.items()}
    assert 0 < node["Rows Passed"] < node["Rows Tested"] <= ROWS

    text = "\n".join(row[0] for row in items.execute(f"EXPLAIN (ANALYZE, COSTS off) {query}").fetchall())
    assert f"Lists: {counters['lists_probed']} probed" in text
    assert f"{counters['reranked']} reranked" in text


@pytest.mark.skipif(VERSION < 18, reason="extensions cannot add to EXPLAIN before PostgreSQL 18")
def test_each_scan_of_a_plan_has_its_own_counters(items: psycopg.Connection) -> None:
    nodes = explain(
        items,
        "SELECT (SELECT min(id) FROM (SELECT id FROM items ORDER BY embedding <-> '[0,0,0]' LIMIT 1) a),"
        " (SELECT min(id) FROM (SELECT id FROM items ORDER BY embedding <-> '[1,1,1]' LIMIT 900) b)",
    )
    few, many = sorted(node["Rows Reranked"] for node in nodes)
    assert few < 300 <= 900 <= many


def test_last_scan_is_the_one_that_ran_last(items: psycopg.Connection) -> None:
    for limit in (7, 3):
        items.execute(f"SELECT id FROM items ORDER BY embedding <-> '[0.1,0.9,0.5]' LIMIT {limit}").fetchall()
        counters: dict[str, int] = dict(items.execute("SELECT counter, value FROM winnow_last_scan()").fetchall())
        assert counters["returned"] == limit
        assert counters["searches"] == 1
