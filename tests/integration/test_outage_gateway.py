"""A gateway that dies, and one whose PostgreSQL is away: what callers hear, and that every call is settled."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from kubernetes_asyncio import client
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, free_port
from tests.integration.books import Books, open_books, register_carrier
from tests.integration.gateway_parts import dialing, open_large_books, row, running_gateway
from tests.integration.media_legs import call_process
from tests.integration.operator_parts import operator, walk_attempts
from tests.integration.own_postgres import OwnPostgres, own_postgres
from tests.integration.simulator_application import ACCOUNT, CALLER, TOKEN, sdk, until
from tests.integration.test_gateway import ready
from tests.integration.test_gateway_media import WILLING, carrier_socket
from tests.integration.test_outage_redis import get, post
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from callfleet.hostservices import RedisServer
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_gateway import patience
from callfleet_gateway.kube import CarriersSecret
from callfleet_simulator.calls import new_sid
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import People, Person
from callfleet_simulator.server import Running, running

A_MINUTE = timedelta(seconds=61)


@dataclass
class GatewayProcess:
    """`python -m callfleet_gateway`, and the Redis that it asks."""

    url: str
    redis: Redis
    process: asyncio.subprocess.Process


@asynccontextmanager
async def gateway_process(database: str, redis_url: str) -> AsyncIterator[GatewayProcess]:
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "PATH": os.environ["PATH"], "DATABASE_URL": database, "REDIS_URL": redis_url, "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN, "CALLFLEET_PUBLIC_URL": f"http://{address}", "CALLFLEET_GATEWAY_LISTEN": address,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "callfleet_gateway", env=environment)
    redis = Redis.from_url(redis_url, decode_responses=True)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as asking:
            await ready(asking)
        yield GatewayProcess(f"http://{address}", redis, process)
    finally:
        await redis.aclose()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_calls_of_a_gateway_that_dies_end_and_are_settled_though_nobody_heard_of_it(
    engine: AsyncEngine, database_url: str, redis_server: RedisServer, simulator: Running, server: ApiServer
) -> None:
    books = await open_books(engine)
    await register_carrier(engine, api_base_url=simulator.url)
    heard: list[str] = []
    ended = asyncio.Event()

    async def listen(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in socket:
                heard.append(str(message)[:40])
        ended.set()

    async with gateway_process(database_url, redis_server.url) as gateway:
        attempt = await dialing(books)
        async with call_process(gateway, attempt, listen):
            voice, status = f"{gateway.url}/twilio/voice/{attempt}", f"{gateway.url}/twilio/status/{attempt}"
            call = await asyncio.to_thread(
                lambda: sdk(simulator.url).calls.create(
                    to=WILLING, from_=CALLER, url=voice, status_callback=status, status_callback_event=["completed"]
                )
            )
            await until(lambda: len(heard) > 20)
            gateway.process.kill()
            await asyncio.wait_for(ended.wait(), 10)  # its worker learns it from the socket, and hangs up
            await until(lambda: simulator.carrier.find(str(call.sid)).ended)
    assert (await row(books, attempt))["state"] == "placed"  # the carrier has told nobody
    await settled_a_minute_later(books, server, simulator)
    found = await row(books, attempt)
    assert (found["state"], found["end_status"], found["call_sid"]) == ("settled", "completed", call.sid)
    assert (await books.budget())[0] == 0


async def settled_a_minute_later(books: Books, server: ApiServer, simulator: Running) -> None:
    """The operator asks the carrier, then settles."""
    async with operator(books.engine, server, simulator.url) as parts:
        await parts.see()
        parts.context.now = lambda: datetime.now(UTC) + A_MINUTE
        for _ in range(2):
            await walk_attempts(parts.context)


async def test_who_picks_up_while_there_is_no_gateway_is_not_kept_on_the_line_and_the_call_is_settled(
    engine: AsyncEngine, database_url: str, redis_server: RedisServer, server: ApiServer
) -> None:
    books = await open_books(engine)
    people = People(people={WILLING: Person(name="Willing", ring_s=3.0)})
    async with (
        running(Carrier(CarrierConfig(ACCOUNT, TOKEN, queue_s=0.05), people)) as simulator,
        gateway_process(database_url, redis_server.url) as gateway,
    ):
        await register_carrier(engine, api_base_url=simulator.url)
        attempt = await dialing(books)
        voice, status = f"{gateway.url}/twilio/voice/{attempt}", f"{gateway.url}/twilio/status/{attempt}"
        call = await asyncio.to_thread(
            lambda: sdk(simulator.url).calls.create(
                to=WILLING, from_=CALLER, url=voice, status_callback=status, status_callback_event=["completed"]
            )
        )
        await books.dialing.record_placed(attempt, str(call.sid))
        gateway.process.kill()
        await until(lambda: simulator.carrier.find(str(call.sid)).ended)
        assert (await row(books, attempt))["state"] == "placed"
        await settled_a_minute_later(books, server, simulator)
    found = await row(books, attempt)
    assert (found["state"], found["call_sid"]) == ("settled", call.sid)
    assert (await books.budget())[0] == 0


@pytest.fixture
async def simulator() -> AsyncIterator[Running]:
    people = People(people={WILLING: Person(name="Willing", ring_s=0.1)})
    async with running(Carrier(CarrierConfig(ACCOUNT, TOKEN, queue_s=0.05), people)) as simulator:
        yield simulator


async def test_an_api_server_that_dies_in_the_middle_of_an_answer_is_one_that_is_away() -> None:
    """What is no OSError would become a 500, and the carrier's error in somebody's ear."""

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(dies, "127.0.0.1", port := free_port()):
        api = client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}"))
        secret = CarriersSecret("callfleet", "callfleet-carriers", api)
        with pytest.raises(OSError, match="does not answer"):
            await secret.read()
        await secret.close()


@pytest.fixture
def postgresql() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        migrate(server.url)
        yield server


async def test_without_postgresql_an_answered_call_ends_politely_and_callbacks_are_asked_for_again(
    postgresql: OwnPostgres, redis_server: RedisServer
) -> None:
    engine = create_engine(postgresql.url)
    books = await open_large_books(engine)
    async with running_gateway(postgresql.url, redis_server.url, engine) as gateway:
        attempt, sid = await dialing(books), new_sid("CA")
        assert (await get(gateway, "/readyz")).status_code == 200
        await asyncio.to_thread(postgresql.stop)
        began = time.monotonic()
        voice = await post(gateway, f"/twilio/voice/{attempt}", CallSid=sid, CallStatus="in-progress")
        assert time.monotonic() - began < patience.PATIENCE_S + 2  # the carrier waits for 15 s
        assert (voice.status_code, "<Say>" in voice.text, "<Hangup" in voice.text) == (200, True, True)
        over = {"CallSid": sid, "CallStatus": "completed", "CallDuration": "9"}
        assert (await post(gateway, f"/twilio/status/{attempt}", **over)).status_code == 503
        with pytest.raises(InvalidStatus) as refused:
            await carrier_socket(gateway, attempt)
        assert refused.value.response.status_code == 503
        ready = await get(gateway, "/readyz")
        assert (ready.status_code, ready.json()["postgresql"]) == (200, False)
        await asyncio.to_thread(postgresql.start)
        assert (await post(gateway, f"/twilio/status/{attempt}", **over)).status_code == 204
        assert (await row(books, attempt))["state"] == "ended"
    await engine.dispose()
