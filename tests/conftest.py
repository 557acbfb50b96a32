"""Fixtures and reports shared by all tests.

``cluster`` is the session's server, ``connection`` a connection to a fresh database with winnow installed, ``dsn`` the
same database's connection string, ``seed`` the session's seed for random tests (``WINNOW_SEED`` sets it).
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Sequence

import hypothesis
import psycopg
import pytest
from pytest_postgresql import factories

from cluster import Cluster, temporary_server
from pgwinnow.server import ServerError

SEED = int(os.environ.get("WINNOW_SEED") or random.SystemRandom().randrange(2**32))

CLUSTER = pytest.StashKey[Cluster]()
RESOURCES = pytest.StashKey[contextlib.ExitStack]()

hypothesis.settings.register_profile("winnow", deadline=None, print_blob=True)
hypothesis.settings.load_profile("winnow")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["WINNOW_SEED"] = str(SEED)
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = str(SEED)
    config.stash[RESOURCES] = contextlib.ExitStack()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[RESOURCES].close()


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: WINNOW_SEED={SEED}"


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> str | None:
    """Show the server when a test asks for it."""
    wanted = any("cluster" in getattr(item, "fixturenames", ()) for item in items)
    if not wanted or config.option.collectonly:
        return None
    try:
        return f"server: {_session_cluster(config).description()}"
    except (ServerError, psycopg.Error) as error:
        pytest.exit(f"no server to test: {error}", returncode=1)


def _session_cluster(config: pytest.Config) -> Cluster:
    if CLUSTER not in config.stash:
        server = config.stash[RESOURCES].enter_context(temporary_server())
        config.stash[CLUSTER] = Cluster.of(server)
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
