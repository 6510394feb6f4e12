"""Fixtures that every suite shares: a real PostgreSQL and Redis for the run, a database of its own for each test."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from functools import cache
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
    """The cluster's tests are one process's, from the start, those that talk another's; else whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        module = str(nodeid.partition("::")[0])
        if module.startswith("tests/cluster/"):
            return "cluster"
        return "talking" if may_talk(module) else module


@cache
def may_talk(module: str) -> bool:
    """Whether a module, by its path from the root, has tests that hear or speak in real time."""
    return "pytest.mark.speech" in (CLUSTER.parent.parent / module).read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    """How tests are shared out where there is more than one process (`-n`)."""
    return SideBySide(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, the cluster's come first, for they take longest; its calls last, when others' calls are over."""
    if side_by_side():
        items.sort(key=lambda item: (0, talks(item)) if of_the_cluster(item) else (1, not talks(item)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Side by side, no two tests talk at once, and what only computes makes way; root alone could take that back.

    The wait is outside of the test's own timeout. The lock is on this file: it goes with the process.
    """
    if not side_by_side():
        return (yield)
    if not talks(item):
        if not of_the_cluster(item) and os.nice(0) < ASIDE:
            os.nice(ASIDE)
        return (yield)
    with Path(__file__).open("rb") as line:
        fcntl.flock(line, fcntl.LOCK_EX)
        return (yield)


def side_by_side() -> bool:
    """Whether this is one of several processes that share the tests out."""
    return os.environ.get("PYTEST_XDIST_WORKER") is not None


def of_the_cluster(item: pytest.Item) -> bool:
    """Whether the test uses the run's cluster."""
    return CLUSTER in item.path.parents


def talks(item: pytest.Item) -> bool:
    """Whether the test hears or speaks in real time."""
    return item.get_closest_marker("speech") is not None


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


@pytest.fixture(scope="session")
def migrated(postgres_server: PostgresServer) -> Iterator[str]:
    """A database at the newest revision that nobody writes to: others are copied from it."""
    with fresh_database(postgres_server.url) as url:
        migrate(url)
        yield url


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated: str) -> Iterator[str]:
    """A new database at the newest revision."""
    with fresh_database(postgres_server.url, template=migrated) as url:
        yield url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a new, migrated database."""
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()
