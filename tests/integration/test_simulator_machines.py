"""Answering machine detection through the real SDK: who picked up, when it is known, and what it costs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from tests.integration.simulator_application import (
    ACCOUNT,
    TOKEN,
    Application,
    Leg,
    place,
    running_application,
    sdk,
    until,
)

from callfleet_simulator.amd import AnsweredBy
from callfleet_simulator.audio import from_mulaw, level, rms
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.server import Running, running

MACHINE, FAX, SILENT, MISJUDGED, FULL = (f"+1555010010{n}" for n in range(5))
GREETING = "Hello, you have reached the number that you called, and nobody is here to talk to you now."  # ~7 s


@pytest.fixture
async def simulator() -> AsyncIterator[Running]:
    machine: dict[str, Any] = {"behaviour": Behaviour.MACHINE, "ring_s": 0.05, "answer_after_s": 0.2}
    people = {
        MACHINE: Person(name="Machine", greeting=GREETING, patience_s=2, **machine),
        FAX: Person(name="Fax", behaviour=Behaviour.FAX, ring_s=0.05, answer_after_s=0.2),
        SILENT: Person(name="Silent", ring_s=0.05),
        MISJUDGED: Person(name="Misjudged", greeting=GREETING, detected_as=AnsweredBy.HUMAN, **machine),
        FULL: Person(name="Full", patience_s=60, max_s=1, **machine),
    }
    config = CarrierConfig(ACCOUNT, TOKEN, calls_per_second=50, queue_s=0.01, price_delay_s=0.1)
    async with running(Carrier(config, People(people=people))) as simulator:
        yield simulator


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with running_application() as application:
        yield application


async def ended(simulator: Running, sid: str) -> Any:
    await until(lambda: simulator.carrier.find(sid).price_micros is not None, 20)
    return await asyncio.to_thread(sdk(simulator.url).calls(sid).fetch)


def beside(application: Application, **options: Any) -> dict[str, Any]:
    """Detection beside the call."""
    url = application.url + "/amd"
    return {"machine_detection": "Enable", "async_amd": "true", "async_amd_status_callback": url, **options}


async def test_detection_holds_the_call_up_and_the_twiml_request_says_who_answered(
    simulator: Running, application: Application
) -> None:
    call = await place(simulator.url, application, MACHINE, machine_detection="Enable")
    fetched = await ended(simulator, call.sid)
    asked = application.twiml_requests[0]
    assert (fetched.answered_by, asked["AnsweredBy"]) == ("machine_start", "machine_start")
    assert 2400 <= int(asked["MachineDetectionDuration"]) <= 3200
    assert application.callbacks[-1]["AnsweredBy"] == "machine_start"
    assert application.amd_callbacks == []
    usage = await asyncio.to_thread(sdk(simulator.url).usage.records.list, category="answering-machine-detection")
    assert [(record.count, record.price) for record in usage] == [("1", Decimal("0.0075"))]


async def test_detection_beside_the_call_tells_its_own_callback_while_the_stream_runs(
    simulator: Running, application: Application
) -> None:
    frames: list[str] = []

    async def talk(leg: Leg) -> None:
        while not application.amd_callbacks:
            frames.append((await leg.receive())["event"])
        await leg.socket.close()

    application.twiml, application.talk = "", talk
    call = await place(simulator.url, application, MACHINE, **beside(application))
    fetched = await ended(simulator, call.sid)
    (told,) = application.amd_callbacks
    assert set(told) == {"CallSid", "AccountSid", "AnsweredBy", "MachineDetectionDuration"}
    assert (told["CallSid"], told["AnsweredBy"]) == (call.sid, "machine_start")
    assert len(frames) * 20 == pytest.approx(int(told["MachineDetectionDuration"]), abs=400)
    assert "AnsweredBy" not in application.twiml_requests[0]
    assert fetched.answered_by == "machine_start"
    assert application.bad_signatures == 0


async def test_detection_goes_on_where_no_stream_does(simulator: Running, application: Application) -> None:
    application.twiml = '<Response><Pause length="4"/></Response>'
    await place(simulator.url, application, FAX, **beside(application))
    await until(lambda: bool(application.amd_callbacks))
    assert application.amd_callbacks[0]["AnsweredBy"] == "fax"


async def test_the_end_of_the_greeting_is_the_beep(simulator: Running, application: Application) -> None:
    application.twiml = '<Response><Pause length="15"/></Response>'
    options = beside(application, machine_detection="DetectMessageEnd")
    call = await place(simulator.url, application, MACHINE, **options)
    await until(lambda: bool(application.amd_callbacks), 20)
    assert application.amd_callbacks[0]["AnsweredBy"] == "machine_end_beep"
    assert int(application.amd_callbacks[0]["MachineDetectionDuration"]) > 7000
    await asyncio.to_thread(sdk(simulator.url).calls(call.sid).update, status="completed")


async def test_who_hangs_up_early_leaves_it_unknown(simulator: Running, application: Application) -> None:
    application.twiml = "<Response><Hangup/></Response>"
    call = await place(simulator.url, application, SILENT, **beside(application))
    assert (await ended(simulator, call.sid)).answered_by == "unknown"
    await until(lambda: bool(application.amd_callbacks))
    assert application.amd_callbacks[0]["AnsweredBy"] == "unknown"


async def test_silence_is_unknown_after_its_timeout(simulator: Running, application: Application) -> None:
    options = {"machine_detection": "Enable", "machine_detection_silence_timeout": 2000}
    call = await place(simulator.url, application, SILENT, **options)
    assert (await ended(simulator, call.sid)).answered_by == "unknown"
    assert application.twiml_requests[0]["MachineDetectionDuration"] == "2000"


async def test_a_call_can_be_ended_while_detection_holds_it_up(simulator: Running, application: Application) -> None:
    call = await place(simulator.url, application, SILENT, machine_detection="Enable")
    await until(lambda: simulator.carrier.find(call.sid).answered)
    await asyncio.to_thread(sdk(simulator.url).calls(call.sid).update, status="completed")
    assert (await ended(simulator, call.sid)).status == "completed"
    assert application.twiml_requests == []


async def test_detection_can_be_wrong(simulator: Running, application: Application) -> None:
    call = await place(simulator.url, application, MISJUDGED, machine_detection="Enable")
    assert (await ended(simulator, call.sid)).answered_by == "human"


async def test_detection_beside_the_call_without_a_callback_is_warned_of(
    simulator: Running, application: Application
) -> None:
    call = await place(simulator.url, application, SILENT, machine_detection="Enable", async_amd="true")
    await ended(simulator, call.sid)
    assert simulator.carrier.find(call.sid).warnings == [21262]


async def test_without_detection_nobody_is_judged(simulator: Running, application: Application) -> None:
    call = await place(simulator.url, application, SILENT)
    assert (await ended(simulator, call.sid)).answered_by is None
    assert "AnsweredBy" not in application.callbacks[-1]


async def test_a_machine_speaks_beeps_records_and_hangs_up_on_silence(
    simulator: Running, application: Application
) -> None:
    heard: list[float] = []

    async def talk(leg: Leg) -> None:
        while (message := await leg.receive())["event"] == "media":
            heard.append(rms(from_mulaw(base64.b64decode(message["media"]["payload"]))))

    application.twiml, application.talk = "", talk
    call = await place(simulator.url, application, MACHINE)
    assert (await ended(simulator, call.sid)).status == "completed"
    loud = [index for index, loudness in enumerate(heard) if loudness > level(-40)]
    assert 350 <= loud[-1] - loud[0] <= 460  # the greeting, a pause, the beep
    assert 95 <= len(heard) - loud[-1] <= 110  # two seconds without a word from the caller


async def test_a_machines_tape_is_finite(simulator: Running, application: Application) -> None:
    async def talk(leg: Leg) -> None:
        await leg.play(b"\x20" * 8000 * 20)
        while (await leg.receive())["event"] != "stop":
            pass

    application.twiml, application.talk = "", talk
    call = await place(simulator.url, application, FULL)
    await ended(simulator, call.sid)
    assert 2 <= (simulator.carrier.find(call.sid).duration_s or 0) <= 4
