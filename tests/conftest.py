"""Fixtures that every suite shares: a real PostgreSQL and Redis for the run, a database of its own for each test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet.hostservices import PostgresServer, RedisServer, fresh_database, postgres, redis
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate


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
