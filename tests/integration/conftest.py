"""What modules share in kind, each with its own: an API server, workers on it, and a gateway over a ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.books import Books, open_books
from tests.integration.fleet_parts import Fleet, prepare
from tests.integration.gateway_parts import RunningGateway, open_large_books, running_gateway
from tests.integration.operator_parts import Operator, operator

from callfleet.hostservices import PostgresServer, RedisServer, fresh_database
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_operator.reconcile import installation, witness


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One without nodes or controllers; its objects are the module's."""
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="module")
def prepared(server: ApiServer) -> ApiServer:
    """The module's server, which takes workers."""
    prepare(server)
    return server


@pytest.fixture
async def fleet(engine: AsyncEngine, prepared: ApiServer) -> AsyncIterator[Fleet]:
    """A namespace with workers."""
    async with operator(engine, prepared) as parts:
        yield await Fleet.start(parts, prepared)


@pytest.fixture(scope="module")
def gateway_database(postgres_server: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres_server.url) as url:
        migrate(url)
        yield url


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
async def books(engine: AsyncEngine) -> Books:
    """A ledger with a campaign, its people and a budget."""
    return await open_books(engine)


@pytest.fixture
async def gateway_books(gateway_database: str) -> AsyncIterator[Books]:
    """The gateway's, with many people and much money; the module's tests share its database."""
    engine = create_engine(gateway_database)
    yield await open_large_books(engine)
    await engine.dispose()


@pytest.fixture
async def gateway(gateway_database: str, redis_url: str, gateway_books: Books) -> AsyncIterator[RunningGateway]:
    async with running_gateway(gateway_database, redis_url, gateway_books.engine) as gateway:
        yield gateway


@pytest.fixture
async def running(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[Operator]:
    """An operator's parts that lead, and look when they are told to."""
    async with operator(engine, server) as running:
        yield running


@pytest.fixture
async def admitting(running: Operator) -> Operator:
    """One whose database is trusted, so that it may admit."""
    await witness.begin(running.context)
    await installation.reconcile(running.context)
    return running


@pytest.fixture
def namespace(server: ApiServer) -> str:
    """A namespace of the test's own."""
    name = f"sales-{uuid4().hex[:8]}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name
