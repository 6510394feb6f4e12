"""Media legs through the gateway: unchanged, in order, bounded, and ended on both sides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from tests.integration.books import Books
from tests.integration.gateway_parts import RunningGateway, dialing, row, running_gateway
from tests.integration.media_legs import call_process
from tests.integration.simulator_application import ACCOUNT, CALLER, TOKEN, sdk, until
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import People, Person
from callfleet_simulator.server import Running, running

WILLING = "+15550100100"


def carrier_socket(gateway: RunningGateway, attempt: UUID, token: str | None = None, key: str = TOKEN) -> Any:
    token = token or gateway.media_token(attempt)
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
        await until(lambda: bool(codes))
    assert codes == [1000]


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
    gateway_database: str, redis_url: str, books: Books
) -> None:
    async with running_gateway(gateway_database, redis_url, books.engine, callfleet_gateway_max_legs=1) as gateway:
        attempt = await dialing(books)
        async with call_process(gateway, attempt, echo), carrier_socket(gateway, attempt):
            with pytest.raises(InvalidStatus) as full:
                await carrier_socket(gateway, attempt)
        gateway.gateway.draining = True
        with pytest.raises(InvalidStatus) as draining:
            await carrier_socket(gateway, attempt)
        assert (full.value.response.status_code, draining.value.response.status_code) == (503, 503)


@pytest.fixture
def books(gateway_books: Books) -> Books:
    return gateway_books


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
