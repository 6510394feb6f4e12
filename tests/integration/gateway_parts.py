"""A gateway over a real PostgreSQL and Redis, and attempts granted by the ledger itself. Loopback only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import uvicorn
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import POD, Books, open_books
from tests.integration.simulator_application import ACCOUNT, TOKEN

from callfleet_core.dialing import DialStore, Verdict
from callfleet_gateway.__main__ import uvicorn_config
from callfleet_gateway.app import create_app
from callfleet_gateway.carriers import ReadAccounts, no_accounts
from callfleet_gateway.context import Gateway
from callfleet_gateway.security import CarrierCheck
from callfleet_gateway.settings import GatewaySettings
from callfleet_simulator.server import listener

CONTACTS = 200


async def open_large_books(engine: AsyncEngine) -> Books:
    """An installation with money and people for every attempt of a module's tests."""
    return await open_books(engine, people=CONTACTS, limit_micros=1_000_000_000)


async def dialing(books: Books, **changes: Any) -> UUID:
    """An attempt, to a number that nobody else has, for which begin_dial said go."""
    taken = await books.sql("SELECT array_agg(contact_id) FROM dial_attempts") or []
    free = next(index for index, contact_id in enumerate(books.people) if contact_id not in taken)
    attempt = await books.held(free, **changes)
    async with asyncio.timeout(5):
        while (decision := await books.dialing.begin_dial(attempt, POD, uuid4())).verdict is not Verdict.GO:
            assert decision.verdict is Verdict.WAIT, decision
            await asyncio.sleep(0.02)
    return attempt


async def row(books: Books, attempt: UUID) -> dict[str, Any]:
    """The attempt's row."""
    async with books.engine.connect() as connection:
        found = await connection.execute(text("SELECT * FROM dial_attempts WHERE id = :id"), {"id": attempt})
        return dict(found.mappings().one())


@dataclass
class RunningGateway:
    url: str
    gateway: Gateway
    redis: Redis

    def media_token(self, attempt: UUID) -> str:
        """The token of an attempt of the gateway's own account."""
        return CarrierCheck(TOKEN, self.url).media_token(attempt)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def running_gateway(
    database: str, redis_at: str, engine: AsyncEngine, read_accounts: ReadAccounts = no_accounts, **env: Any
) -> AsyncIterator[RunningGateway]:
    """The app on a free port, served as `python -m callfleet_gateway` serves it."""
    bound = listener("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    settings = GatewaySettings.model_validate(
        {
            "database_url": database, "redis_url": redis_at, "twilio_account_sid": ACCOUNT,
            "twilio_auth_token": TOKEN, "callfleet_public_url": url, **env,
        }
    )  # fmt: skip
    client = Redis.from_url(redis_at, decode_responses=True, socket_timeout=2)

    async def check_database() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    app = create_app(settings, DialStore(engine), client, check_database, read_accounts)
    server = _Server(uvicorn_config(app, "127.0.0.1", 0))
    task = asyncio.create_task(server.serve([bound]))
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn offers a flag only
            await asyncio.sleep(0.01)
    try:
        yield RunningGateway(url, app.state.gateway, client)
    finally:
        server.should_exit = True
        await task
        await client.aclose()
