"""The simulator held by the real twilio SDK: REST, a call's life, callbacks, streams, money."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.integration.simulator_application import (
    ACCOUNT,
    CALLER,
    TOKEN,
    Application,
    Leg,
    running_application,
    sdk,
    until,
)
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient

from callfleet_simulator.audio import from_mulaw, level, rms
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.server import Running, running

WILLING, BUSY, ABSENT, UNKNOWN = "+15550100100", "+15550100108", "+15550100110", "+15550100199"
EVENTS = ["initiated", "ringing", "answered", "completed"]


def people() -> People:
    return People(
        people={
            WILLING: Person(name="Willing", ring_s=0.1),
            BUSY: Person(name="Busy", behaviour=Behaviour.BUSY, ring_s=0.1),
            ABSENT: Person(name="Absent", behaviour=Behaviour.NO_ANSWER),
        }
    )


@pytest.fixture
async def simulator() -> AsyncIterator[Running]:
    config = CarrierConfig(
        ACCOUNT,
        TOKEN,
        api_keys={"SK1": "key-secret"},
        numbers=frozenset({CALLER}),
        calls_per_second=50,
        queue_s=0.05,
        price_delay_s=0.2,
    )
    async with running(Carrier(config, people())) as simulator:
        yield simulator


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with running_application() as application:
        yield application


async def place(simulator: Running, application: Application, to: str = WILLING, **options: Any) -> Any:
    settings = {
        "url": application.url + "/voice",
        "status_callback": application.url + "/status",
        "status_callback_event": EVENTS,
        **options,
    }
    return await asyncio.to_thread(sdk(simulator.url).calls.create, to=to, from_=CALLER, **settings)


async def ended(simulator: Running, sid: str, timeout_s: float = 15.0) -> None:
    await until(lambda: simulator.carrier.find(sid).price_micros is not None, timeout_s)


def statuses(application: Application) -> list[str]:
    return [form["CallStatus"] for form in application.callbacks]


async def test_an_answered_call_reports_each_step_in_order_and_is_billed(
    simulator: Running, application: Application
) -> None:
    application.twiml = '<Response><Pause length="1"/><Hangup/></Response>'
    created = await place(simulator, application)
    assert created.status == "queued"
    assert created.start_time is None
    assert created.price is None
    assert created.date_created.tzinfo is not None
    await ended(simulator, created.sid)
    call = await asyncio.to_thread(sdk(simulator.url).calls(created.sid).fetch)
    assert (call.status, call.duration, call.price, call.price_unit) == ("completed", "2", "-0.01400", "USD")
    assert call.direction == "outbound-api"
    assert statuses(application) == ["initiated", "ringing", "in-progress", "completed"]
    assert [int(form["SequenceNumber"]) for form in application.callbacks] == [0, 1, 2, 3]
    assert application.callbacks[-1]["CallDuration"] == "2"
    assert {form["CallSid"] for form in application.callbacks} == {created.sid}
    assert application.twiml_requests[0]["CallStatus"] == "in-progress"
    assert application.bad_signatures == 0


@pytest.mark.parametrize(
    ("to", "status", "sip"), [(BUSY, "busy", "486"), (ABSENT, "no-answer", "480"), (UNKNOWN, "failed", "404")]
)
async def test_a_call_that_nobody_takes_costs_nothing(
    simulator: Running, application: Application, to: str, status: str, sip: str
) -> None:
    created = await place(simulator, application, to, timeout=1)
    await ended(simulator, created.sid)
    call = await asyncio.to_thread(sdk(simulator.url).calls(created.sid).fetch)
    assert (call.status, call.duration, Decimal(call.price)) == (status, None, Decimal(0))
    assert statuses(application)[-1] == status
    assert application.callbacks[-1]["SipResponseCode"] == sip
    assert application.twiml_requests == []
    usage = await asyncio.to_thread(sdk(simulator.url).usage.records.list, category="calls-outbound")
    assert [(record.count, record.usage) for record in usage] == [("0", "0")]


async def test_a_ringing_call_can_be_canceled_and_then_stays_canceled(
    simulator: Running, application: Application
) -> None:
    created = await place(simulator, application, ABSENT)
    await until(lambda: "ringing" in statuses(application))
    canceled = await asyncio.to_thread(sdk(simulator.url).calls(created.sid).update, status="canceled")
    assert canceled.status == "canceled"
    again = await asyncio.to_thread(sdk(simulator.url).calls(created.sid).update, status="completed")
    assert again.status == "canceled"
    await until(lambda: "canceled" in statuses(application))


async def test_a_live_call_is_not_canceled_but_can_be_completed(simulator: Running, application: Application) -> None:
    application.twiml = '<Response><Pause length="30"/></Response>'
    created = await place(simulator, application)
    await until(lambda: "in-progress" in statuses(application))
    unchanged = await asyncio.to_thread(sdk(simulator.url).calls(created.sid).update, status="canceled")
    assert unchanged.status == "in-progress"
    completed = await asyncio.to_thread(sdk(simulator.url).calls(created.sid).update, status="completed")
    assert completed.status == "completed"
    await ended(simulator, created.sid)
    assert simulator.carrier.find(created.sid).billed_minutes == 1


async def test_the_time_limit_ends_a_call_and_is_never_exceeded_on_the_bill(
    simulator: Running, application: Application
) -> None:
    application.twiml = '<Response><Pause length="30"/></Response>'
    created = await place(simulator, application, time_limit=1)
    await ended(simulator, created.sid)
    assert simulator.carrier.find(created.sid).duration_s == 1


async def test_a_live_call_follows_new_twiml(simulator: Running, application: Application) -> None:
    application.twiml = '<Response><Pause length="30"/></Response>'
    created = await place(simulator, application)
    await until(lambda: "in-progress" in statuses(application))
    update = sdk(simulator.url).calls(created.sid).update
    await asyncio.to_thread(update, twiml="<Response><Hangup/></Response>")
    await ended(simulator, created.sid)
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(update, twiml="<Response/>")
    assert refused.value.code == 21220


async def test_a_stream_carries_noise_in_real_time_and_returns_marks_when_heard(
    simulator: Running, application: Application
) -> None:
    frames: list[dict[str, Any]] = []
    marks: list[tuple[str, int]] = []

    async def talk(leg: Leg) -> None:
        await leg.send("mark", mark={"name": "at once"})
        await leg.play(b"\x20" * 160 * 25)  # half a second
        await leg.send("mark", mark={"name": "after it"})
        await leg.play(b"\x20" * 8000 * 60)
        await leg.send("mark", mark={"name": "cleared"})
        while len(marks) < 3:
            message = await leg.receive()
            if message["event"] == "media":
                frames.append(message)
            elif message["event"] == "mark":
                marks.append((message["mark"]["name"], len(frames)))
                if message["mark"]["name"] == "after it":
                    await leg.send("clear")
        await leg.socket.close()

    application.twiml, application.talk = "", talk
    created = await place(simulator, application)
    await ended(simulator, created.sid)
    assert [name for name, _ in marks] == ["at once", "after it", "cleared"]
    assert marks[0][1] <= 2
    assert 24 <= marks[1][1] <= 28  # 25 frames of audio were played before it
    payloads = [base64.b64decode(frame["media"]["payload"]) for frame in frames]
    assert {len(payload) for payload in payloads} == {160}
    heard = rms(from_mulaw(b"".join(payloads)))
    assert level(-58) < heard < level(-52)
    stamps = [int(frame["media"]["timestamp"]) for frame in frames]
    assert stamps == [20 * index for index in range(len(frames))]
    call = simulator.carrier.find(created.sid)
    assert call.status == "completed"
    assert call.warnings == [31921]
    assert call.stream_micros == 4000
    usage = await asyncio.to_thread(sdk(simulator.url).usage.records.list, category="calls-media-stream-minutes")
    assert [(record.usage, record.price) for record in usage] == [("1", Decimal("0.004"))]


async def test_after_the_server_closed_the_stream_the_twiml_goes_on(
    simulator: Running, application: Application
) -> None:
    async def talk(leg: Leg) -> None:
        assert leg.start["customParameters"] == {"leg": "7"}
        assert leg.start["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        await leg.socket.close()

    application.talk = talk
    application.twiml = application.stream_twiml(then='<Pause length="2"/>')
    created = await place(simulator, application)
    await ended(simulator, created.sid)
    assert (simulator.carrier.find(created.sid).duration_s or 0) >= 2


async def test_the_end_of_the_call_sends_stop(simulator: Running, application: Application) -> None:
    events: list[str] = []

    async def talk(leg: Leg) -> None:
        while events[-1:] != ["stop"]:
            events.append((await leg.receive())["event"])

    application.twiml, application.talk = "", talk
    created = await place(simulator, application, time_limit=1)
    await ended(simulator, created.sid)
    assert events[-1] == "stop"
    assert 40 <= events.count("media") <= 52
    assert simulator.carrier.find(created.sid).warnings == []


async def test_a_failed_callback_is_tried_again_without_losing_the_order(
    simulator: Running, application: Application
) -> None:
    application.fail_callbacks = 1
    created = await place(simulator, application)
    await ended(simulator, created.sid)
    await until(lambda: len(application.callbacks) == 4)
    assert statuses(application) == ["initiated", "ringing", "in-progress", "completed"]


async def test_twiml_that_cannot_be_fetched_ends_the_call_with_a_warning(simulator: Running) -> None:
    async with running_application() as application:
        created = await place(simulator, application, url=application.url + "/nothing-here")
        await ended(simulator, created.sid)
    assert simulator.carrier.find(created.sid).warnings == [11200]
    assert simulator.carrier.find(created.sid).status == "completed"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"to": ""}, 21201),
        ({"to": "15550100100"}, 21211),
        ({"from_": "nobody"}, 21212),
        ({"from_": "+15550100002"}, 21210),
        ({"url": ""}, 21205),
        ({"url": "ftp://example.invalid/"}, 21205),
        ({"status_callback": "nowhere"}, 21609),
        ({"timeout": 0}, 20001),
        ({"record": True}, 20001),
        ({"machine_detection": "Maybe"}, 20001),
        ({"machine_detection": "Enable", "machine_detection_timeout": 2}, 20001),
        ({"machine_detection": "Enable", "async_amd_status_callback": "nowhere"}, 11100),
    ],
)
async def test_bad_requests_are_refused_with_the_carriers_codes(
    simulator: Running, options: dict[str, Any], code: int
) -> None:
    request = {"to": WILLING, "from_": CALLER, "url": "http://127.0.0.1:9/", **options}
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(lambda: sdk(simulator.url).calls.create(**request))
    assert refused.value.code == code
    assert refused.value.status == 400
    assert simulator.carrier.stats()["calls"] == {}


@pytest.mark.parametrize(("user", "token"), [(ACCOUNT, "wrong"), ("SK1", TOKEN), ("SK2", "key-secret")])
async def test_wrong_credentials_are_refused(simulator: Running, user: str, token: str) -> None:
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(sdk(simulator.url, token, user).calls("CA" + "f" * 32).fetch)
    assert (refused.value.status, refused.value.code) == (401, 20003)


async def test_an_unknown_call_is_not_found(simulator: Running) -> None:
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(sdk(simulator.url).calls("CA" + "f" * 32).fetch)
    assert (refused.value.status, refused.value.code) == (404, 20404)


async def test_lists_are_filtered_and_paged_through_the_async_client(
    simulator: Running, application: Application
) -> None:
    placed = [await place(simulator, application, to) for to in (BUSY, BUSY, WILLING, BUSY)]
    async with AsyncTwilioHttpClient() as http:
        client = sdk(simulator.url, "key-secret", "SK1", http)
        found = await client.calls.list_async(to=BUSY, page_size=1)
        assert [call.sid for call in found] == [placed[i].sid for i in (3, 1, 0)]
        for call in placed:
            await ended(simulator, call.sid)
        assert len(await client.calls.list_async(status="busy")) == 3
        now = datetime.now(UTC)
        assert len(await client.calls.list_async(start_time_after=now - timedelta(hours=1))) == 4
        assert await client.calls.list_async(start_time_after=now + timedelta(hours=1)) == []
        created = await client.calls.create_async(to=BUSY, from_=CALLER, url=application.url + "/voice")
        assert created.status == "queued"


async def test_a_stopped_simulator_ends_live_calls_and_says_so(application: Application) -> None:
    application.twiml = '<Response><Pause length="60"/></Response>'
    config = CarrierConfig(ACCOUNT, TOKEN, queue_s=0.0, price_delay_s=0.1)
    async with running(Carrier(config, people())) as simulator:
        await place(simulator, application)
        await until(lambda: "in-progress" in statuses(application))
    assert statuses(application)[-1] == "completed"
