"""Faults on demand, as an application meets them: through the real SDK, real callbacks, a real WebSocket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import requests
from tests.integration.simulator_application import (
    ACCOUNT,
    EVENTS,
    TOKEN,
    Application,
    Leg,
    place,
    running_application,
    sdk,
    until,
)
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient

from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.server import Running, running

BUSY, WILLING, OTHER = "+15550100100", "+15550100101", "+15550100102"


@pytest.fixture
async def simulator() -> AsyncIterator[Running]:
    people = People(
        people={
            BUSY: Person(name="Busy", behaviour=Behaviour.BUSY, ring_s=0.05),
            WILLING: Person(name="Willing", ring_s=0.05),
            OTHER: Person(name="Other", behaviour=Behaviour.BUSY, ring_s=0.05),
        }
    )
    config = CarrierConfig(ACCOUNT, TOKEN, calls_per_second=50, queue_s=0.01, price_delay_s=0.1, seed=4)
    async with running(Carrier(config, people)) as simulator:
        yield simulator


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with running_application() as application:
        yield application


def admin(simulator: Running) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=simulator.url, auth=(ACCOUNT, TOKEN), trust_env=False)


async def switch_on(simulator: Running, kind: str, **rule: Any) -> None:
    async with admin(simulator) as client:
        answer = await client.post("/simulator/faults", json={"kind": kind, **rule})
    assert answer.status_code == 201, answer.text


async def listed(simulator: Running) -> list[Any]:
    return await asyncio.to_thread(sdk(simulator.url).calls.list)


async def test_a_lost_reply_leaves_a_call_that_exists(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "lostReply")
    with pytest.raises(requests.exceptions.ConnectionError):
        await place(simulator.url, application, BUSY)
    assert [call.to for call in await listed(simulator)] == [BUSY]
    await place(simulator.url, application, BUSY)  # it struck once, as asked
    assert len(await listed(simulator)) == 2


async def test_a_lost_reply_of_an_update_took_effect_too(simulator: Running, application: Application) -> None:
    application.twiml = '<Response><Pause length="30"/></Response>'
    call = await place(simulator.url, application, WILLING)
    await until(lambda: simulator.carrier.find(call.sid).answered)
    await switch_on(simulator, "lostReply", requests=["update"])
    with pytest.raises(requests.exceptions.ConnectionError):
        await asyncio.to_thread(sdk(simulator.url).calls(call.sid).update, status="completed")
    assert simulator.carrier.find(call.sid).status == "completed"


async def test_too_many_requests_places_nothing(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "tooManyRequests", next=2)
    for _ in range(2):
        with pytest.raises(TwilioRestException) as refused:
            await place(simulator.url, application, BUSY)
        assert (refused.value.status, refused.value.code) == (429, 20429)
    assert await listed(simulator) == []
    await place(simulator.url, application, BUSY)


@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize(("status", "code"), [(500, 20500), (503, 20503)])
async def test_a_server_error_comes_before_or_after_the_call_was_placed(
    simulator: Running, application: Application, status: int, code: int, placed: bool
) -> None:
    await switch_on(simulator, "serverError", status=status, placed=placed)
    with pytest.raises(TwilioRestException) as failed:
        await place(simulator.url, application, BUSY)
    assert (failed.value.status, failed.value.code) == (status, code)
    assert len(await listed(simulator)) == placed


async def test_an_error_in_front_of_the_api_is_a_page(simulator: Running) -> None:
    await switch_on(simulator, "serverError", status=502, requests=["list"])
    async with admin(simulator) as client:
        answer = await client.get(f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json")
    assert answer.status_code == 502
    assert answer.headers["content-type"].startswith("text/html")


async def test_a_slow_reply_outlasts_the_clients_patience(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "slowReply", after_s=2)
    async with AsyncTwilioHttpClient() as http:
        create = sdk(simulator.url, http_client=http).calls.create_async
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(create(to=BUSY, from_="+15550100001", url=application.url + "/voice"), 0.5)
    assert len(await listed(simulator)) == 1


async def statuses(simulator: Running, application: Application, count: int) -> list[str]:
    """One busy call's callbacks, once `count` came and nothing more does."""
    call = await place(simulator.url, application, BUSY)
    await until(lambda: simulator.carrier.find(call.sid).price_micros is not None)
    await until(lambda: len(application.callbacks) >= count)
    await asyncio.sleep(0.1)
    return [form["CallStatus"] for form in application.callbacks]


async def test_a_dropped_callback_never_comes(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "droppedCallback", events=["ringing"])
    assert await statuses(simulator, application, 2) == ["initiated", "busy"]
    assert [form["SequenceNumber"] for form in application.callbacks] == ["0", "2"]


async def test_a_duplicated_callback_comes_twice_the_same(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "duplicatedCallback", events=["completed"])
    assert await statuses(simulator, application, 4) == ["initiated", "ringing", "busy", "busy"]
    assert application.callbacks[2] == application.callbacks[3]
    assert application.bad_signatures == 0


async def test_a_reordered_callback_comes_after_the_next_one(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "reorderedCallback", events=["ringing"])
    assert await statuses(simulator, application, 3) == ["initiated", "busy", "ringing"]
    assert [form["SequenceNumber"] for form in application.callbacks] == ["0", "2", "1"]


async def test_the_last_callback_cannot_be_held_back_for_ever(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "reorderedCallback", events=["completed"])
    assert await statuses(simulator, application, 3) == ["initiated", "ringing", "busy"]


async def test_a_delayed_callback_comes_late_and_holds_up_none(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "delayedCallback", events=["initiated"], after_s=[0.5, 0.6])
    assert await statuses(simulator, application, 3) == ["ringing", "busy", "initiated"]


async def test_a_dying_stream_breaks_without_a_farewell(simulator: Running, application: Application) -> None:
    received: list[str] = []

    async def talk(leg: Leg) -> None:
        while True:
            received.append((await leg.receive())["event"])

    application.twiml, application.talk = "", talk
    await switch_on(simulator, "dyingStream", after_s=0.4, to=WILLING)
    call = await place(simulator.url, application, WILLING)
    await until(lambda: simulator.carrier.find(call.sid).ended)
    assert set(received) == {"media"}
    assert 15 <= len(received) <= 20
    assert simulator.carrier.find(call.sid).warnings == [31903]


async def test_a_frozen_stream_stays_open_and_says_nothing(simulator: Running, application: Application) -> None:
    heard: list[float] = []
    silent_s: list[float] = []

    async def talk(leg: Leg) -> None:
        try:
            while True:
                await asyncio.wait_for(leg.receive(), 1.0)
                heard.append(time.monotonic())
        except TimeoutError:
            silent_s.append(time.monotonic() - heard[-1])
            await leg.socket.close()

    application.twiml, application.talk = "", talk
    await switch_on(simulator, "frozenStream", after_s=0.3)
    call = await place(simulator.url, application, WILLING)
    await until(lambda: simulator.carrier.find(call.sid).ended)
    assert 10 <= len(heard) <= 16
    assert silent_s[0] >= 1.0


async def test_a_fault_of_one_number_spares_the_others(simulator: Running, application: Application) -> None:
    await switch_on(simulator, "tooManyRequests", to=BUSY)
    await place(simulator.url, application, OTHER)
    with pytest.raises(TwilioRestException):
        await place(simulator.url, application, BUSY)


async def test_faults_are_seen_counted_and_switched_off(simulator: Running, application: Application) -> None:
    async with admin(simulator) as client:
        rules = [{"kind": "droppedCallback", "probability": 0.5}, {"kind": "tooManyRequests", "next": 3}]
        added = (await client.post("/simulator/faults", json=rules)).json()["faults"]
        assert [rule["left"] for rule in added] == [None, 3]
        with pytest.raises(TwilioRestException):
            await place(simulator.url, application, BUSY)
        shown = (await client.get("/simulator/faults")).json()["faults"]
        assert shown[1] == {"id": added[1]["id"], "kind": "tooManyRequests", "next": 3, "left": 2, "struck": 1}
        assert (await client.delete(f"/simulator/faults/{added[1]['id']}")).status_code == 204
        assert (await client.delete(f"/simulator/faults/{added[1]['id']}")).status_code == 404
        await place(simulator.url, application, BUSY)
        assert (await client.delete("/simulator/faults")).status_code == 204
        assert (await client.get("/simulator/faults")).json() == {"faults": []}
        assert (await client.get("/simulator/stats")).json()["faults"]["tooManyRequests"] == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"kind": "earthquake"}', "kind"),
        ('{"kind": "lostReply", "status": 500}', "lostReply has no status"),
        ('{"kind": "serverError", "status": 404}', "status"),
        ('{"kind": "lostReply", "to": "5550100"}', "to"),
        ('{"kind": "dyingStream", "after_s": [2, 1]}', "after_s"),
        ('{"kind": "droppedCallback", "probability": 0}', "probability"),
        ("[" + ",".join(['{"kind": "lostReply"}'] * 101) + "]", "100"),
        ("kind=lostReply", "JSON"),
    ],
)
async def test_a_wrong_fault_is_refused_and_says_why(simulator: Running, body: str, told: str) -> None:
    async with admin(simulator) as client:
        answer = await client.post("/simulator/faults", content=body)
        assert answer.status_code == 400
        assert told in answer.json()["message"]
        assert (await client.get("/simulator/faults")).json() == {"faults": []}


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_faults_need_the_account(simulator: Running, method: str) -> None:
    async with httpx.AsyncClient(base_url=simulator.url, trust_env=False) as client:
        assert (await client.request(method, "/simulator/faults")).status_code == 401


async def test_without_faults_every_event_arrives_once(simulator: Running, application: Application) -> None:
    call = await place(simulator.url, application, WILLING)
    await until(lambda: simulator.carrier.find(call.sid).price_micros is not None)
    assert len(application.callbacks) == len(EVENTS)
