"""A gateway over a ledger that a module's tests share: each test grants itself attempts of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.integration.books import Books
from tests.integration.gateway_parts import RunningGateway, open_large_books, running_gateway

from callfleet.hostservices import PostgresServer, RedisServer, fresh_database
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate


@pytest.fixture(scope="module")
def gateway_database(postgres_server: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres_server.url) as url:
        migrate(url)
        yield url


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
async def books(gateway_database: str) -> AsyncIterator[Books]:
    engine = create_engine(gateway_database)
    yield await open_large_books(engine)
    await engine.dispose()


@pytest.fixture
async def gateway(gateway_database: str, redis_url: str, books: Books) -> AsyncIterator[RunningGateway]:
    async with running_gateway(gateway_database, redis_url, books.engine) as gateway:
        yield gateway
