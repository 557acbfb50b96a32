"""Fixtures and reports shared by all tests.

``cluster`` is the session's server, ``connection`` a connection to a fresh database with winnow installed, ``dsn`` the
same database's connection string, ``seed`` the session's seed for random tests (``WINNOW_SEED`` sets it).
"""

from __future__ import annotations

import contextlib
import os
import random
from typing import Any

import hypothesis
import psycopg
import pytest
from pytest_postgresql import factories

from cluster import Cluster, temporary_server

SEED = int(os.environ.get("WINNOW_SEED") or random.SystemRandom().randrange(2**32))

CLUSTER = pytest.StashKey[Cluster]()
RESOURCES = pytest.StashKey[contextlib.ExitStack]()
SERVERS = pytest.StashKey[set[str]]()

hypothesis.settings.register_profile("winnow", deadline=None, print_blob=True)
hypothesis.settings.load_profile("winnow")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["WINNOW_SEED"] = str(SEED)
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = str(SEED)
    config.stash[RESOURCES] = contextlib.ExitStack()
    config.stash[SERVERS] = set()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[RESOURCES].close()


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: WINNOW_SEED={SEED}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells of its server."""
    servers = session.config.stash[SERVERS]
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["servers"] = list(servers)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[SERVERS].update(getattr(node, "workeroutput", {}).get("servers", ()))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show which server was tested, if any was."""
    for server in config.stash[SERVERS]:
        terminalreporter.write_line(f"server: {server}")


def _session_cluster(config: pytest.Config) -> Cluster:
    if CLUSTER not in config.stash:
        server = config.stash[RESOURCES].enter_context(temporary_server())
        config.stash[CLUSTER] = Cluster.of(server)
        config.stash[SERVERS].add(config.stash[CLUSTER].description())
    return config.stash[CLUSTER]


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """The session's server."""
    return _session_cluster(pytestconfig)


@pytest.fixture(scope="session")
def seed() -> int:
    """Seed for random tests; printed in the header."""
    return SEED


def _create_extension(host: str, port: int, user: str, dbname: str, password: str | None, **_: object) -> None:
    with psycopg.connect(host=host, port=port, user=user, dbname=dbname, password=password) as connection:
        connection.execute("CREATE EXTENSION winnow")


winnow_databases = factories.postgresql_noproc(depends_on="cluster", dbname="winnow", load=[_create_extension])
connection = factories.postgresql("winnow_databases")


@pytest.fixture
def dsn(connection: psycopg.Connection) -> str:
    """Connection string of the fresh database that ``connection`` is connected to."""
    return connection.info.dsn
