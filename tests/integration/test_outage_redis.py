"""Redis goes away and comes back empty: who is on the line stays on it, nobody is dialled in vain (docs/outages.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import POD, Books
from tests.integration.gateway_parts import RunningGateway, dialing, row, running_gateway
from tests.integration.media_legs import call_process
from tests.integration.own_redis import OwnRedis, own_redis
from tests.integration.simulator_application import ACCOUNT, TOKEN, until
from tests.integration.test_gateway_media import carrier_socket, echo
from tests.integration.test_worker_attempts import SCRIPT, Desk, at_desk
from twilio.request_validator import RequestValidator

from callfleet_core.dialing import DialOrder
from callfleet_gateway import patience
from callfleet_simulator.calls import new_sid
from callfleet_worker.call import leg
from callfleet_worker.call.leg import LegAddress, LegRegistry
from callfleet_worker.call.runner import CallRunner


@pytest.fixture
def books(gateway_books: Books) -> Books:
    return gateway_books


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path) as server:
        yield server


@pytest.fixture
async def desk(engine: AsyncEngine, database_url: str, redis: OwnRedis, tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(engine, database_url, redis.url, tmp_path) as made:
        yield made


@pytest.fixture
async def gateway(gateway_database: str, redis: OwnRedis, books: Books) -> AsyncIterator[RunningGateway]:
    async with running_gateway(gateway_database, redis.url, books.engine) as gateway:
        yield gateway


async def test_a_call_is_begun_once_redis_is_back(desk: Desk, redis: OwnRedis) -> None:
    attempt = await desk.on.granted(SCRIPT)
    redis.stop()
    runner = desk.runner(attempt)
    running = asyncio.create_task(runner.run())
    await asyncio.sleep(1.5)  # several tries
    assert ((await desk.row(attempt))["state"], desk.reports) == ("granted", [])
    redis.start()
    await until(lambda: "placed" in desk.reports)
    runner.stop()
    assert (await asyncio.wait_for(running, 20)).end == "unanswered"


async def test_a_redis_that_stays_away_costs_nobody_a_try(desk: Desk, redis: OwnRedis) -> None:
    """A dial that is begun and given back brings a session nearer to its end; a grant that expires does not."""
    attempt = await desk.on.granted(SCRIPT)
    redis.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leg, "REDIS_WAIT_S", 1.0)
        end = await desk.run(attempt)
    assert (end.end, end.reason) == ("refused", "RedisAway")
    assert (await desk.row(attempt))["state"] == "granted"
    assert desk.on.carrier.carrier.calls.live() == 0


@dataclass
class Leaving(LegRegistry):
    """Its Redis goes away at the worst moment: once the right to dial is taken, before the leg is there."""

    redis: Redis
    server: OwnRedis

    def __post_init__(self) -> None:
        super().__init__(self.redis)

    async def register(self, order: DialOrder, address: LegAddress) -> None:
        self.server.stop()
        await super().register(order, address)


async def test_a_leg_that_cannot_be_registered_is_not_dialled_and_the_hold_can_return(
    desk: Desk, redis: OwnRedis
) -> None:
    attempt = await desk.on.granted(SCRIPT)
    services = replace(desk.services, legs=Leaving(desk.redis, redis))
    end = await CallRunner(services, attempt, POD, lambda _event, _details: None).run()
    assert (end.end, end.reason) == ("notPlaced", "legUnregistered")
    assert desk.on.carrier.carrier.calls.live() == 0
    assert (await desk.row(attempt))["end_status"] == "notPlaced"


async def test_a_call_that_rings_outlives_a_redis_that_forgot_it(desk: Desk, redis: OwnRedis) -> None:
    attempt = await desk.on.granted(SCRIPT)
    runner = desk.runner(attempt)
    running = asyncio.create_task(runner.run())
    await until(lambda: "placed" in desk.reports)
    redis.stop()
    redis.start()
    await until(lambda: redis.ttl_s(f"leg:{attempt}") > 0)
    runner.stop()
    assert (await asyncio.wait_for(running, 20)).end == "unanswered"
    assert redis.ttl_s(f"leg:{attempt}") == -2


async def test_a_live_leg_needs_no_redis(gateway: RunningGateway, books: Books, redis: OwnRedis) -> None:
    attempt = await dialing(books)
    async with call_process(gateway, attempt, echo), carrier_socket(gateway, attempt) as socket:
        await socket.send("before")
        assert await socket.recv() == "before"
        redis.stop()
        for n in range(200):
            await socket.send(f"after {n}")
            assert await socket.recv() == f"after {n}"


async def test_a_leg_that_is_asked_for_while_redis_starts_again_is_joined(
    gateway: RunningGateway, books: Books, redis: OwnRedis
) -> None:
    attempt = await dialing(books)
    redis.stop()
    joining = asyncio.ensure_future(carrier_socket(gateway, attempt).__aenter__())
    await asyncio.sleep(1)
    assert not joining.done()
    redis.start()
    async with call_process(gateway, attempt, echo):
        socket = await joining
        await socket.send("hello")
        assert await socket.recv() == "hello"
        await socket.close()


async def post(gateway: RunningGateway, path: str, **form: str) -> httpx.Response:
    """A webhook as the carrier sends it."""
    fields = {"AccountSid": ACCOUNT, **form}
    signature = RequestValidator(TOKEN).compute_signature(gateway.url + path, fields)
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=20) as client:
        return await client.post(path, data=fields, headers={"X-Twilio-Signature": signature})


async def get(gateway: RunningGateway, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        return await client.get(path)


async def test_without_redis_callbacks_are_taken_and_an_answered_call_ends_politely(
    gateway: RunningGateway, books: Books, redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, sid = await dialing(books), new_sid("CA")
    assert (await get(gateway, "/readyz")).status_code == 200
    redis.stop()
    began = time.monotonic()
    voice = await post(gateway, f"/twilio/voice/{attempt}", CallSid=sid, CallStatus="in-progress")
    assert time.monotonic() - began < patience.PATIENCE_S + 2  # the carrier waits for 15 s
    assert (voice.status_code, "<Say>" in voice.text, "<Hangup" in voice.text) == (200, True, True)
    status = await post(gateway, f"/twilio/status/{attempt}", CallSid=sid, CallStatus="completed", CallDuration="9")
    found = await row(books, attempt)
    assert (status.status_code, found["state"], found["duration_s"]) == (204, "ended", 9)
    ready = await get(gateway, "/readyz")
    assert (ready.status_code, ready.json()) == (200, {"postgresql": True, "redis": False, "accepting": True})
    metrics = (await get(gateway, "/metrics")).text
    assert 'callfleet_gateway_part_answers{part="redis"} 0.0' in metrics
    assert 'callfleet_gateway_calls_cut_short_total{part="redis"} 1.0' in metrics


async def test_an_answered_call_waits_for_a_redis_that_starts_again(
    gateway: RunningGateway, books: Books, redis: OwnRedis
) -> None:
    attempt, sid = await dialing(books), new_sid("CA")
    redis.stop()
    asked = asyncio.create_task(post(gateway, f"/twilio/voice/{attempt}", CallSid=sid, CallStatus="in-progress"))
    await asyncio.sleep(1)
    redis.start()
    assert "<Stream" in (await asked).text
    assert (await row(books, attempt))["answered_at"] is not None
