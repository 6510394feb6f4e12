"""Placing a call: the real SDK against the simulator and servers that misbehave. One POST, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.books import RING
from tests.integration.simulator_application import ACCOUNT, CALLER, TOKEN
from tests.unit.agents.scripts import real_estate

from callfleet_core.dialing import DialOrder
from callfleet_simulator.carrier import Carrier as SimulatedCarrier
from callfleet_simulator.carrier import CarrierConfig
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.server import running
from callfleet_worker.call import carrier as carrier_module
from callfleet_worker.call.carrier import Carrier, NotPlaced, Placed, UnknownPlaced

CALLEE = "+15550100100"


def order(api_base_url: str, **changes: Any) -> DialOrder:
    base: dict[str, Any] = {
        "attempt_id": uuid4(), "number": 1, "namespace": "sales", "campaign": "spring", "session": "spring-1-x",
        "contact_id": uuid4(), "to": CALLEE, "from_": CALLER, "contact_name": None, "time_limit_s": 60,
        "ring_timeout_s": 20, "account_sid": ACCOUNT, "api_base_url": api_base_url, "public_url": "http://127.0.0.1:9",
        "generation": 1, "script": real_estate(), "time_zone": "UTC",
    }  # fmt: skip
    key, _ = RING.new_key(base["contact_id"])
    return DialOrder.model_validate({**base, "subject_key": key, **changes})


async def place(api_base_url: str, token: str = TOKEN, **changes: Any) -> Placed | NotPlaced | UnknownPlaced:
    async with Carrier(order(api_base_url, **changes), (ACCOUNT, token)) as carrier:
        return await carrier.place()


@asynccontextmanager
async def answers(head: bytes, *, delay_s: float = 0.0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers every request the same way; yields its URL and the requests' first lines."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readline())
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(delay_s)
        writer.write(head)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


def reply(status: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return head.encode() + b"\r\n" + body


async def test_a_call_is_placed_with_its_limits_and_hung_up() -> None:
    people = People(people={CALLEE: Person(name="Rings", behaviour=Behaviour.NO_ANSWER, ring_s=30.0)})
    async with running(SimulatedCarrier(CarrierConfig(ACCOUNT, TOKEN), people)) as simulator:
        placing = order(simulator.url)
        async with Carrier(placing, (ACCOUNT, TOKEN)) as carrier:
            placed = await carrier.place()
            assert isinstance(placed, Placed)
            call = simulator.carrier.find(placed.call_sid)
            assert (call.request.to, call.request.from_) == (CALLEE, CALLER)
            assert (call.request.ring_timeout_s, call.request.time_limit_s) == (20, 60)
            assert str(placing.attempt_id) in (call.request.url or "")
            assert await carrier.hang_up(placed.call_sid)
            assert call.ended
            assert await carrier.hang_up(placed.call_sid), "ending twice is harmless"


async def test_the_process_environment_and_the_real_carrier_are_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_REGION", "TWILIO_EDGE"):
        monkeypatch.setenv(name, "elsewhere")
    async with answers(reply("201 Created", b'{"sid": "CA1", "status": "queued"}')) as (url, seen):
        assert await place(url) == Placed("CA1")
    assert seen == [f"POST /2010-04-01/Accounts/{ACCOUNT}/Calls.json HTTP/1.1\r\n".encode()]


@pytest.mark.parametrize(
    ("status", "code"),
    [("400 Bad Request", "21211"), ("401 Unauthorized", "20003"), ("429 Too Many Requests", "20429")],
)
async def test_a_refusal_is_certainly_no_call(status: str, code: str) -> None:
    body = f'{{"code": {code}, "message": "no", "status": {status[:3]}}}'.encode()
    async with answers(reply(status, body)) as (url, seen):
        assert await place(url) == NotPlaced(code)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        reply("500 Internal Server Error", b"{}"),
        reply("503 Service Unavailable", b"busy"),
        reply("201 Created", b"not json"),
        reply("201 Created", b"{}"),
        b"",
        b"HTTP/1.1 201 Cre",
    ],
)
async def test_a_broken_answer_leaves_it_open_and_is_never_sent_again(answer: bytes) -> None:
    async with answers(answer) as (url, seen):
        assert isinstance(await place(url), UnknownPlaced)
    assert len(seen) == 1


async def test_a_late_answer_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_module, "PLACE_TIMEOUT_S", 0.2)
    async with answers(reply("201 Created", b'{"sid": "CA1"}'), delay_s=2.0) as (url, seen):
        assert await place(url) == UnknownPlaced("TimeoutError")
    assert len(seen) == 1


async def test_a_carrier_that_cannot_be_reached_took_no_call() -> None:
    async with answers(b"") as (url, _):
        pass
    assert await place(url) == NotPlaced("unreachable")


async def test_wrong_credentials_are_a_refusal() -> None:
    people = People(people={CALLEE: Person(name="Nobody")})
    async with running(SimulatedCarrier(CarrierConfig(ACCOUNT, TOKEN), people)) as simulator:
        assert await place(simulator.url, token="wrong") == NotPlaced("20003")
