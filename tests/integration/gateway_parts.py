"""Real PostgreSQL and Redis, attempts granted by the ledger itself, and a gateway over them. Loopback only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import uvicorn
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.simulator_application import ACCOUNT, CALLER, TOKEN

from callfleet.hostservices import fresh_database, postgres, redis
from callfleet_core.contacts import ConsentIn, ContactBook, ContactIn, contact_id, register_carrier, session_name
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_core.dialing import DialStore, Verdict
from callfleet_core.ledger import HoldRequest, HoldResult, Ledger, account_key
from callfleet_core.script import CallScript
from callfleet_gateway.__main__ import uvicorn_config
from callfleet_gateway.app import create_app
from callfleet_gateway.context import Gateway
from callfleet_gateway.settings import GatewaySettings
from callfleet_simulator.server import listener

KEY = b"a made-up key of thirty-two bytes"
POD = str(uuid4())
NAMESPACE, CAMPAIGN = "sales", "spring"
_NUMBERS = count(100)


@contextmanager
def migrated_database() -> Iterator[str]:
    """A new database at the newest revision, on TEST_DATABASE_URL's server or one of our own."""
    with postgres(url=os.environ.get("TEST_DATABASE_URL")) as server, fresh_database(server.url) as url:
        migrate(url)
        yield url


@contextmanager
def redis_url() -> Iterator[str]:
    """TEST_REDIS_URL or a server of our own; keys hold attempt ids, so runs do not meet."""
    with redis(url=os.environ.get("TEST_REDIS_URL")) as server:
        yield server.url


@dataclass
class Books:
    """A ledger with one campaign and one budget, from which attempts are granted and begun."""

    engine: AsyncEngine
    ledger: Ledger
    contacts: ContactBook

    @classmethod
    async def open(cls, url: str) -> Books:
        engine = create_engine(url)
        books = cls(engine, Ledger(engine), ContactBook(engine, KEY))
        await books.ledger.take_epoch()
        await books.ledger.set_limit(
            namespace=NAMESPACE, kind="Budget", name="all", window="total", currency="USD",
            limit_micros=1_000_000_000, suspended=False, uid="b", generation=1,
        )  # fmt: skip
        await register_carrier(
            engine, account_sid=ACCOUNT, api_base_url="http://127.0.0.1:9", public_url="http://127.0.0.1:9",
            simulated=True, calls_per_second=100,
        )  # fmt: skip
        await books.contacts.mirror_campaign(
            namespace=NAMESPACE, name=CAMPAIGN, uid="c", generation=1, suspended=False, closed=False
        )
        return books

    async def dialing(self) -> UUID:
        """An attempt, to a number that nobody else has, for which begin_dial said go."""
        number = f"+15550100{next(_NUMBERS)}"
        consent = ConsentIn("written", "a test", datetime.now(UTC) - timedelta(days=1))
        await self.contacts.load(NAMESPACE, CAMPAIGN, "1", [ContactIn(number, None, consent)])
        attempt = uuid4()
        answers = await self.ledger.hold([self._request(attempt, contact_id(NAMESPACE, number, KEY))])
        assert answers[0].result is HoldResult.HELD, answers[0]
        store = DialStore(self.engine)
        async with asyncio.timeout(5):
            while (decision := await store.begin_dial(attempt, POD, uuid4())).verdict is not Verdict.GO:
                assert decision.verdict is Verdict.WAIT, decision
                await asyncio.sleep(0.02)
        return attempt

    def _request(self, attempt: UUID, contact: UUID) -> HoldRequest:
        script = CallScript.model_validate(
            {
                "persona": "A tester.", "llmModel": "none", "opening": "Hello.", "closing": "Goodbye.",
                "questions": [{"name": "interested", "type": "YesNo", "ask": ["Are you?"]}],
            }
        )  # fmt: skip
        return HoldRequest(
            attempt_id=attempt, number=1, namespace=NAMESPACE, campaign=CAMPAIGN, run_id="1", contact_id=contact,
            session_name=session_name(CAMPAIGN, "1", contact), session_uid=str(uuid4()), pod_uid=POD,
            amount_micros=36_000, currency="USD", accounts=(account_key(NAMESPACE, "Budget", "all"),),
            time_limit_s=60, ring_timeout_s=20, max_queue_s=30, account_sid=ACCOUNT, from_number=CALLER,
            time_zone="UTC", script=script.model_dump(mode="json", by_alias=True),
        )  # fmt: skip

    async def row(self, attempt: UUID) -> dict[str, Any]:
        async with self.engine.connect() as connection:
            found = await connection.execute(text("SELECT * FROM dial_attempts WHERE id = :id"), {"id": attempt})
            return dict(found.mappings().one())


@dataclass
class RunningGateway:
    url: str
    gateway: Gateway
    redis: Redis


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def running_gateway(
    database: str, redis_at: str, engine: AsyncEngine, **env: Any
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

    app = create_app(settings, DialStore(engine), client, check_database)
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
