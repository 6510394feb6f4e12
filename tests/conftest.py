"""Fixtures that every suite shares: a real PostgreSQL and Redis for the run, a database of its own for each test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from xdist.scheduler.loadscope import LoadScopeScheduling

from callfleet.hostservices import PostgresServer, RedisServer, fresh_database, postgres, redis
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate

TESTS = Path(__file__).parent
# What lives in real time (hears, speaks, or looks at a clock that others' work would upset): these modules' tests are
# one process's, one after another.
REAL_TIME = (
    "chaos/faults/",
    "cluster/",
    "integration/test_gateway",
    "integration/test_leadership",
    "integration/test_outage",
    "integration/test_simulator",
    "integration/test_speech",
    "integration/test_worker",
    "unit/cli/",
)
# The niceness of tests that run beside others.
ASIDE = 10

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


class SideBySide(LoadScopeScheduling):  # type: ignore[misc]  # the library is not typed
    """With more than one process (`-n`): one has all that lives in real time, the others whatever is left."""

    def _split_scope(self, nodeid: str) -> str:
        module = str(nodeid.partition("::")[0])
        return "real time" if lives_in_real_time(TESTS.parent / module) else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    """How tests are shared out where there is more than one process."""
    return SideBySide(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, what lives in real time takes longest and comes first."""
    if side_by_side():
        items.sort(key=lambda item: not lives_in_real_time(item.path))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Side by side, the others make way; root alone could take that back."""
    if side_by_side() and not lives_in_real_time(item.path) and os.nice(0) < ASIDE:
        os.nice(ASIDE)


class AtOnce:
    """Says what failed when it fails: the end of a run is half an hour away."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Names the test and the line that was not expected."""
        if report.failed:
            self._terminal.ensure_newline()
            crash = getattr(report.longrepr, "reprcrash", None)
            self._terminal.write_line(f"{report.nodeid} failed: {crash.message if crash else report.when}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Failures are told at once where there is a terminal to tell them to."""
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal is not None and not side_by_side():
        config.pluginmanager.register(AtOnce(terminal))


def side_by_side() -> bool:
    """Whether this is one of several processes that share the tests out."""
    return os.environ.get("PYTEST_XDIST_WORKER") is not None


def lives_in_real_time(module: Path) -> bool:
    """Whether a module, by its path, is one of REAL_TIME."""
    return str(module.relative_to(TESTS)).startswith(REAL_TIME)


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
