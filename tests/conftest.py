"""Fixtures that every suite shares: a real PostgreSQL and Redis for the run, a database of its own for each test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from xdist.scheduler.loadscope import LoadScopeScheduling

from callfleet.hostservices import PostgresServer, RedisServer, fresh_database, postgres, redis
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate

CLUSTER = Path(__file__).parent / "cluster"
# The niceness of tests that run beside others.
ASIDE = 10


class SideBySide(LoadScopeScheduling):  # type: ignore[misc]  # the library is not typed
    """The cluster's tests are one process's, from the start; each other module is whoever's is free."""

    def _split_scope(self, nodeid: str) -> str:
        module = str(nodeid.partition("::")[0])
        return "cluster" if module.startswith("tests/cluster/") else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    """How tests are shared out where there is more than one process (`-n`)."""
    return SideBySide(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The cluster's take longest: they come first where others run beside them."""
    if os.environ.get("PYTEST_XDIST_WORKER") is not None:
        items.sort(key=lambda item: CLUSTER not in item.path.parents)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What computes beside the cluster's live calls makes way for them; root alone could take that back."""
    aside = os.environ.get("PYTEST_XDIST_WORKER") is not None and CLUSTER not in item.path.parents
    if aside and os.nice(0) < ASIDE:
        os.nice(ASIDE)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """TEST_DATABASE_URL's server, or one of our own; never the ambient DATABASE_URL."""
    with postgres(url=os.environ.get("TEST_DATABASE_URL")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """TEST_REDIS_URL's server, or one of our own."""
    with redis(url=os.environ.get("TEST_REDIS_URL")) as server:
        yield server


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A new database without a schema."""
    with fresh_database(postgres_server.url) as url:
        yield url


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """A new database at the newest revision."""
    migrate(empty_database_url)
    return empty_database_url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a new, migrated database."""
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()
