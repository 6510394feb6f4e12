"""The gateway between a signed carrier and the real ledger: TwiML, callbacks, media legs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4
from xml.etree import ElementTree as ET

import httpx
import pytest
from tests.integration.books import Books
from tests.integration.gateway_parts import RunningGateway, dialing, open_large_books, row, running_gateway
from tests.integration.media_legs import call_process
from tests.integration.simulator_application import ACCOUNT, CALLER, TOKEN, sdk, until
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from callfleet.hostservices import PostgresServer, RedisServer, fresh_database
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_core.dialing import EndEvidence
from callfleet_simulator.calls import new_sid
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import People, Person
from callfleet_simulator.server import Running, listener, running

WILLING = "+15550100100"


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres_server.url) as url:
        migrate(url)
        yield url


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
async def books(database: str) -> AsyncIterator[Books]:
    engine = create_engine(database)
    yield await open_large_books(engine)
    await engine.dispose()


@pytest.fixture
async def gateway(database: str, redis_url: str, books: Books) -> AsyncIterator[RunningGateway]:
    async with running_gateway(database, redis_url, books.engine) as gateway:
        yield gateway


Post = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def sid() -> str:
    """The SID of the test's call."""
    return new_sid("CA")


@pytest.fixture
async def post(gateway: RunningGateway, sid: str) -> AsyncIterator[Post]:
    """Posts a webhook as the carrier does."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:

        async def send(path: str, token: str = TOKEN, call: str = sid, **form: str) -> httpx.Response:
            fields = {"AccountSid": ACCOUNT, "CallSid": call, "SpeechResult": "", **form}
            signature = RequestValidator(token).compute_signature(gateway.url + path, fields)
            return await client.post(path, data=fields, headers={"X-Twilio-Signature": signature})

        yield send


def stream_url(twiml: str) -> str | None:
    stream = verb(twiml, "./Connect/Stream")
    return None if stream is None else stream.get("url")


def verb(twiml: str, path: str) -> ET.Element | None:
    return ET.fromstring(twiml).find(path)  # noqa: S314 - our own gateway's answer


async def test_an_answered_call_gets_its_stream_and_counts_as_placed_and_answered(
    gateway: RunningGateway, books: Books, post: Post, sid: str
) -> None:
    attempt = await dialing(books)
    answer = await post(f"/twilio/voice/{attempt}", CallStatus="in-progress")
    assert answer.status_code == 200
    token = gateway.gateway.check.media_token(attempt)
    assert stream_url(answer.text) == gateway.url.replace("http", "ws") + f"/twilio/media/{attempt}/{token}"
    found = await row(books, attempt)
    assert (found["state"], found["call_sid"]) == ("placed", sid)
    assert found["answered_at"] is not None


async def test_twiml_hangs_up_an_attempt_that_may_not_talk(books: Books, post: Post, sid: str) -> None:
    canceled, ended, second = await dialing(books), await dialing(books), await dialing(books)
    await books.ledger.request_cancel(canceled)
    of_ended = new_sid("CA")
    await post(f"/twilio/status/{ended}", call=of_ended, CallStatus="completed", CallDuration="3")
    await post(f"/twilio/status/{second}", CallStatus="ringing")
    for attempt, call in ((canceled, new_sid("CA")), (ended, of_ended), (second, new_sid("CA"))):
        answer = await post(f"/twilio/voice/{attempt}", call=call)
        assert answer.status_code == 200
        assert stream_url(answer.text) is None
        assert verb(answer.text, "./Hangup") is not None
    assert (await row(books, second))["call_sid"] == sid


@pytest.mark.parametrize("room", ["voice", "status"])
async def test_an_unsigned_webhook_changes_nothing_and_is_counted(
    gateway: RunningGateway, books: Books, post: Post, room: str
) -> None:
    attempt = await dialing(books)
    for token in ("another token", ""):
        answer = await post(f"/twilio/{room}/{attempt}", token=token, CallStatus="completed")
        assert answer.status_code == 403
    assert (await row(books, attempt))["state"] == "dialing"
    metrics = gateway.gateway.metrics.text().decode()
    assert f'signature_failures_total{{route="/twilio/{room}/{{attempt_id}}"}} 2.0' in metrics
    assert str(attempt) not in metrics


async def test_unknown_attempts_are_not_found(post: Post) -> None:
    for path in (f"/twilio/voice/{uuid4()}", f"/twilio/status/{uuid4()}"):
        assert (await post(path, CallStatus="ringing")).status_code == 404


async def test_callbacks_in_order_are_the_attempts_story(books: Books, post: Post) -> None:
    attempt = await dialing(books)
    states = []
    for status in ("initiated", "ringing", "in-progress", "completed"):
        timestamp = "Mon, 02 Nov 2026 15:52:01 +0000"
        answer = await post(
            f"/twilio/status/{attempt}",
            CallStatus=status,
            Timestamp=timestamp,
            CallDuration="61",
            SipResponseCode="200",
        )
        assert answer.status_code == 204
        states.append((await row(books, attempt))["state"])
    assert states == ["placed", "placed", "placed", "ended"]
    found = await row(books, attempt)
    assert found["answered_at"].isoformat() == "2026-11-02T15:52:01+00:00"
    evidence = EndEvidence.model_validate(found["evidence"])
    assert (evidence.source, evidence.status, evidence.duration_s, evidence.sip_code) == (
        "callback",
        "completed",
        61,
        200,
    )


async def test_callbacks_may_come_twice_and_in_the_wrong_order(books: Books, post: Post) -> None:
    attempt = await dialing(books)
    for status in ("completed", "in-progress", "completed", "ringing", "busy", "initiated"):
        answer = await post(f"/twilio/status/{attempt}", CallStatus=status, CallDuration="5")
        assert answer.status_code == 204
    found = await row(books, attempt)
    assert (found["state"], found["end_status"], found["duration_s"]) == ("ended", "completed", 5)
    assert found["answered_at"] is not None


async def test_another_calls_callbacks_do_not_touch_the_attempt(
    gateway: RunningGateway, books: Books, post: Post, sid: str
) -> None:
    attempt = await dialing(books)
    await post(f"/twilio/status/{attempt}", CallStatus="ringing")
    await post(f"/twilio/status/{attempt}", call=new_sid("CA"), CallStatus="completed", CallDuration="9")
    found = await row(books, attempt)
    assert (found["state"], found["call_sid"]) == ("placed", sid)
    assert "second_calls_total 1.0" in gateway.gateway.metrics.text().decode()


async def test_a_call_belongs_to_one_attempt_only(books: Books, post: Post) -> None:
    first, second = await dialing(books), await dialing(books)
    assert (await post(f"/twilio/status/{first}", CallStatus="ringing")).status_code == 204
    assert (await post(f"/twilio/status/{second}", CallStatus="ringing")).status_code == 409
    assert (await row(books, second))["state"] == "dialing"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"CallStatus": "dancing"}, 400),
        ({"CallStatus": "notPlaced"}, 400),
        ({"CallStatus": "completed", "CallSid": "short"}, 400),
        ({"CallStatus": "completed", "AccountSid": "AC" + "f" * 32}, 403),
        ({"CallStatus": "completed", "Filler": "x" * 40_000}, 413),
    ],
)
async def test_bad_webhooks_are_refused_without_effect(
    books: Books, post: Post, form: dict[str, str], status: int
) -> None:
    attempt = await dialing(books)
    assert (await post(f"/twilio/status/{attempt}", **form)).status_code == status
    assert (await row(books, attempt))["state"] == "dialing"


# Media legs


def carrier_socket(gateway: RunningGateway, attempt: UUID, token: str | None = None, key: str = TOKEN) -> Any:
    token = token or gateway.gateway.check.media_token(attempt)
    url = gateway.url.replace("http", "ws") + f"/twilio/media/{attempt}/{token}"
    signature = RequestValidator(key).compute_signature(url, {})
    return connect(url, additional_headers={"X-Twilio-Signature": signature}, compression=None, proxy=None)


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def test_messages_pass_unchanged_and_in_order_both_ways(gateway: RunningGateway, books: Books) -> None:
    attempt = await dialing(books)
    sent = [json.dumps({"event": "media", "n": n, "pad": "ü" * (n % 50)}) for n in range(500)]
    async with call_process(gateway, attempt, echo), carrier_socket(gateway, attempt) as socket:
        for message in sent:
            await socket.send(message)
        received = [await socket.recv() for _ in sent]
        assert gateway.gateway.legs == 1
    assert received == sent
    await until(lambda: gateway.gateway.legs == 0)
    metrics = gateway.gateway.metrics.text().decode()
    assert f'media_bytes_total{{direction="inbound"}} {sum(map(len, sent))}.0' in metrics


async def test_the_carriers_close_reaches_the_call_process(gateway: RunningGateway, books: Books) -> None:
    attempt, codes = await dialing(books), []

    async def listen(socket: ServerConnection) -> None:
        await socket.wait_closed()
        codes.append(socket.close_code)

    async with call_process(gateway, attempt, listen):
        async with carrier_socket(gateway, attempt) as socket:
            await socket.send("hello")
        await until(lambda: codes == [1000])


@pytest.mark.parametrize(("abort", "code"), [(False, 1000), (True, 1011)])
async def test_a_call_process_that_goes_frees_the_carrier(
    gateway: RunningGateway, books: Books, abort: bool, code: int
) -> None:
    attempt = await dialing(books)

    async def leave(socket: ServerConnection) -> None:
        await socket.recv()
        if abort:
            socket.transport.abort()
        else:
            await socket.close()

    async with call_process(gateway, attempt, leave), carrier_socket(gateway, attempt) as socket:
        await socket.send("hello")
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 5)
        assert socket.close_code == code


async def test_a_slow_call_process_slows_the_carrier_instead_of_filling_memory(
    gateway: RunningGateway, books: Books
) -> None:
    attempt, go = await dialing(books), asyncio.Event()

    async def slow(socket: ServerConnection) -> None:
        await go.wait()
        await echo(socket)

    # A fixed receive buffer: the kernel's own, which grows to 32 MiB here, would hide the gateway's behaviour.
    async with call_process(gateway, attempt, slow, receive_buffer=65_536), carrier_socket(gateway, attempt) as socket:
        big = "x" * 900_000
        sending = asyncio.create_task(send_all(socket, [big] * 60))
        try:
            await asyncio.sleep(1.0)
            relayed = gateway.gateway.metrics.registry.get_sample_value(
                "callfleet_gateway_media_bytes_total", {"direction": "inbound"}
            )
        finally:
            go.set()
        for _ in range(60):
            assert len(await asyncio.wait_for(socket.recv(), 10)) == len(big)
        await sending
    assert relayed is not None
    assert relayed < 10_000_000  # of 54 MB


async def send_all(socket: Any, messages: list[str]) -> None:
    for message in messages:
        await socket.send(message)


@pytest.mark.parametrize(("token", "key"), [("0" * 32, TOKEN), (None, "another token")])
async def test_a_media_socket_without_signature_and_token_is_refused(
    gateway: RunningGateway, books: Books, token: str | None, key: str
) -> None:
    attempt = await dialing(books)
    async with call_process(gateway, attempt, echo):
        with pytest.raises(InvalidStatus) as refused:
            await carrier_socket(gateway, attempt, token, key)
    assert refused.value.response.status_code == 403
    assert gateway.gateway.legs == 0


async def test_a_leg_that_registers_late_is_waited_for(gateway: RunningGateway, books: Books) -> None:
    attempt = await dialing(books)
    opening = asyncio.ensure_future(carrier_socket(gateway, attempt).__aenter__())
    await asyncio.sleep(0.5)
    async with call_process(gateway, attempt, echo):
        socket = await asyncio.wait_for(opening, 5)
        await socket.send("hello")
        assert await socket.recv() == "hello"
        await socket.close()


async def test_a_leg_that_nobody_serves_is_refused(gateway: RunningGateway, books: Books) -> None:
    attempt = await dialing(books)
    async with call_process(gateway, attempt, echo):
        pass  # registered, and gone
    with pytest.raises(InvalidStatus) as refused:
        await carrier_socket(gateway, attempt)
    assert refused.value.response.status_code == 502
    assert 'legs_refused_total{reason="unreachable"} 1.0' in gateway.gateway.metrics.text().decode()


async def test_legs_are_bounded_and_a_draining_gateway_takes_no_more(
    database: str, redis_url: str, books: Books
) -> None:
    async with running_gateway(database, redis_url, books.engine, callfleet_gateway_max_legs=1) as gateway:
        attempt = await dialing(books)
        async with call_process(gateway, attempt, echo), carrier_socket(gateway, attempt):
            with pytest.raises(InvalidStatus) as full:
                await carrier_socket(gateway, attempt)
        gateway.gateway.draining = True
        with pytest.raises(InvalidStatus) as draining:
            await carrier_socket(gateway, attempt)
        assert (full.value.response.status_code, draining.value.response.status_code) == (503, 503)


# Health


async def test_health_and_readiness(gateway: RunningGateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"postgresql": True, "redis": True, "accepting": True})
        assert "callfleet_gateway_requests_total" in (await client.get("/metrics")).text


async def test_a_gateway_without_redis_is_alive_but_not_ready(database: str, books: Books) -> None:
    nowhere = "redis://:nobody@127.0.0.1:1/0"
    async with (
        running_gateway(database, nowhere, books.engine) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client,
    ):
        assert (await client.get("/health")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["redis"], ready.json()["postgresql"]) == (503, False, True)


# With the simulated carrier


@pytest.fixture
async def simulator() -> AsyncIterator[Running]:
    carrier = Carrier(
        CarrierConfig(ACCOUNT, TOKEN, queue_s=0.05, price_delay_s=0.1),
        People(people={WILLING: Person(name="Willing", ring_s=0.1)}),
    )
    async with running(carrier) as simulator:
        yield simulator


async def dial(simulator: Running, gateway: RunningGateway, attempt: UUID) -> str:
    call = await asyncio.to_thread(
        lambda: sdk(simulator.url).calls.create(
            to=WILLING,
            from_=CALLER,
            url=f"{gateway.url}/twilio/voice/{attempt}",
            status_callback=f"{gateway.url}/twilio/status/{attempt}",
            status_callback_event=["initiated", "ringing", "answered", "completed"],
        )
    )
    return str(call.sid)


async def ended(books: Books, attempt: UUID) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while (found := await row(books, attempt))["state"] != "ended":  # noqa: ASYNC110 - a row has no event
            await asyncio.sleep(0.05)
    return found


async def test_a_whole_call_through_carrier_gateway_and_call_process(
    simulator: Running, gateway: RunningGateway, books: Books
) -> None:
    attempt = await dialing(books)
    heard: list[str] = []

    async def talk(socket: ServerConnection) -> None:
        while len(heard) < 50:
            heard.append(json.loads(await socket.recv())["event"])
        await socket.close()  # the agent hangs up: nothing follows in the TwiML

    async with call_process(gateway, attempt, talk):
        sid = await dial(simulator, gateway, attempt)
        found = await ended(books, attempt)
    assert heard[:2] == ["connected", "start"]
    assert heard.count("media") == 48
    assert (found["call_sid"], found["end_status"]) == (sid, "completed")
    assert found["duration_s"] in {1, 2}
    assert found["answered_at"] is not None
    assert simulator.carrier.find(sid).warnings == [31921]


async def test_without_a_call_process_the_call_ends_by_itself(
    simulator: Running, gateway: RunningGateway, books: Books
) -> None:
    attempt = await dialing(books)
    sid = await dial(simulator, gateway, attempt)
    found = await ended(books, attempt)
    assert found["end_status"] == "completed"
    assert simulator.carrier.find(sid).warnings == [31920]


# As a process


async def test_the_process_serves_drains_and_stops_on_sigterm(database: str, redis_url: str, books: Books) -> None:
    bound = listener("127.0.0.1", 0)
    address = f"127.0.0.1:{bound.getsockname()[1]}"
    bound.close()
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database,
        "REDIS_URL": redis_url,
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "CALLFLEET_PUBLIC_URL": f"http://{address}",
        "CALLFLEET_GATEWAY_LISTEN": address,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "callfleet_gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
        await ready(client)
    process.send_signal(signal.SIGTERM)
    _, log = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in log.decode().splitlines()]
    assert "draining" in events
    assert TOKEN not in log.decode()


async def ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            await asyncio.sleep(0.1)


async def test_the_process_says_which_setting_is_missing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "callfleet_gateway", env={"PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE
    )
    _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert "DATABASE_URL" in log.decode()
