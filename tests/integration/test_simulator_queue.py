"""The account's pace and its limits, prices that come late, refused numbers, and what the API does not have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from tests.integration.simulator_application import (
    ACCOUNT,
    TOKEN,
    Application,
    place,
    running_application,
    sdk,
    until,
)
from twilio.base.exceptions import TwilioRestException
from twilio.rest.api.v2010.account.call import CallInstance
from twilio.rest.api.v2010.account.usage.record import RecordInstance

from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.faults import Fault
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.server import Running, running

QUICK, PATIENT, BROKEN, BLOCKED = "+15550100100", "+15550100101", "+15550100102", "+15550100103"


def people(*faults: dict[str, Any]) -> People:
    return People(
        people={
            QUICK: Person(name="Quick", behaviour=Behaviour.BUSY, ring_s=0.05),
            PATIENT: Person(name="Patient", behaviour=Behaviour.NO_ANSWER),
            BROKEN: Person(name="Broken", behaviour=Behaviour.FAILED, sip_code=502),
            BLOCKED: Person(name="Blocked", behaviour=Behaviour.REFUSED, error_code=21215),
        },
        faults=[Fault.model_validate(fault) for fault in faults],
    )


def carrier(*faults: dict[str, Any], **settings: Any) -> Carrier:
    defaults: dict[str, Any] = {"calls_per_second": 50, "queue_s": 0.01, "price_delay_s": 0.1}
    return Carrier(CarrierConfig(ACCOUNT, TOKEN, **{**defaults, **settings}), people(*faults))


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with running_application() as application:
        yield application


async def fetched(simulator: Running, sid: str) -> Any:
    return await asyncio.to_thread(sdk(simulator.url).calls(sid).fetch)


async def test_calls_are_dialled_one_after_the_other_at_the_accounts_pace(application: Application) -> None:
    async with running(carrier(calls_per_second=4)) as simulator:
        began = time.monotonic()
        placed = [await place(simulator.url, application, QUICK) for _ in range(4)]
        assert {call.status for call in placed} == {"queued"}
        waits_ms = [int(call.queue_time) for call in placed]
        assert waits_ms[0] == 0
        assert all(earlier < later for earlier, later in pairwise(waits_ms))
        last = simulator.carrier.find(placed[-1].sid)
        assert last.status == "queued"
        await until(lambda: last.ended)
        assert time.monotonic() - began >= 0.75
        order = [simulator.carrier.find(call.sid).start_time for call in placed]
        assert order == sorted(order, key=lambda moment: moment or last.date_created)
        dialled = [form["CallSid"] for form in application.callbacks if form["CallStatus"] == "initiated"]
        assert dialled == [call.sid for call in placed]


async def test_a_second_apart_is_the_default(application: Application) -> None:
    async with running(Carrier(CarrierConfig(ACCOUNT, TOKEN, price_delay_s=0.1), people())) as simulator:
        for _ in range(2):
            await place(simulator.url, application, QUICK)
        await until(lambda: sum(form["CallStatus"] == "initiated" for form in application.callbacks) == 1)
        began = time.monotonic()
        await until(lambda: sum(form["CallStatus"] == "initiated" for form in application.callbacks) == 2)
        assert 0.8 < time.monotonic() - began < 1.6


async def test_a_queued_call_can_be_canceled_is_never_dialled_and_holds_up_nobody(application: Application) -> None:
    async with running(carrier(calls_per_second=2)) as simulator:
        placed = [await place(simulator.url, application, QUICK) for _ in range(3)]
        canceled = await asyncio.to_thread(sdk(simulator.url).calls(placed[1].sid).update, status="canceled")
        assert (canceled.status, canceled.start_time) == ("canceled", None)
        last = simulator.carrier.find(placed[2].sid)
        began = time.monotonic()
        await until(lambda: last.status != "queued")
        assert time.monotonic() - began < 0.7  # half a second after the first, not a whole one
        await until(lambda: last.ended)
        steps = [form["CallStatus"] for form in application.callbacks if form["CallSid"] == placed[1].sid]
        assert steps == ["canceled"]


async def test_a_full_queue_takes_no_more_calls(application: Application) -> None:
    async with running(carrier(calls_per_second=0.1, max_queued=2)) as simulator:
        await place(simulator.url, application, PATIENT)
        await until(lambda: simulator.carrier.stats()["queued"] == 0)
        for _ in range(2):
            await place(simulator.url, application, PATIENT)
        with pytest.raises(TwilioRestException) as refused:
            await place(simulator.url, application, PATIENT)
        assert (refused.value.status, refused.value.code) == (429, 22005)


async def test_calls_at_once_are_bounded(application: Application) -> None:
    async with running(carrier(max_calls=2, calls_per_second=4)) as simulator:
        first, _, last = [await place(simulator.url, application, PATIENT) for _ in range(3)]
        await until(lambda: simulator.carrier.find(last.sid).ended)  # queued in time, and then no room
        assert (await fetched(simulator, last.sid)).status == "failed"
        assert simulator.carrier.find(last.sid).warnings == [10004]
        with pytest.raises(TwilioRestException) as refused:
            await place(simulator.url, application, PATIENT)
        assert (refused.value.status, refused.value.code) == (429, 20429)
        await asyncio.to_thread(sdk(simulator.url).calls(first.sid).update, status="canceled")
        await place(simulator.url, application, PATIENT)


async def test_prices_come_when_they_come(application: Application) -> None:
    late = {"kind": "latePrice", "next": 1, "after_s": 60}
    async with running(carrier(late, price_delay_s=(0.1, 0.3))) as simulator:
        without, priced = [await place(simulator.url, application, QUICK) for _ in range(2)]
        await until(lambda: simulator.carrier.find(priced.sid).price_micros is not None)
        assert (await fetched(simulator, priced.sid)).price == "0.00000"
        unpriced = await fetched(simulator, without.sid)
        assert (unpriced.status, unpriced.price) == ("busy", None)
    assert simulator.carrier.find(without.sid).price_micros == 0  # a stopped simulator closes its books


async def test_a_number_may_fail_after_it_was_accepted(application: Application) -> None:
    async with running(carrier()) as simulator:
        call = await place(simulator.url, application, BROKEN)
        await until(lambda: simulator.carrier.find(call.sid).ended)
        await until(lambda: len(application.callbacks) == 2)
        assert (await fetched(simulator, call.sid)).status == "failed"
        assert application.callbacks[-1]["SipResponseCode"] == "502"


async def test_a_number_may_be_refused_with_a_documented_code(application: Application) -> None:
    async with running(carrier()) as simulator:
        with pytest.raises(TwilioRestException) as refused:
            await place(simulator.url, application, BLOCKED)
        assert (refused.value.status, refused.value.code) == (400, 21215)
        assert simulator.carrier.stats()["calls"] == {}


async def test_only_an_ended_call_can_be_deleted_and_its_cost_stays(application: Application) -> None:
    async with running(carrier()) as simulator:
        call = await place(simulator.url, application, PATIENT)
        with pytest.raises(TwilioRestException) as refused:
            await asyncio.to_thread(sdk(simulator.url).calls(call.sid).delete)
        assert (refused.value.status, refused.value.code) == (409, 20009)
        await asyncio.to_thread(sdk(simulator.url).calls(call.sid).update, status="canceled")
        assert await asyncio.to_thread(sdk(simulator.url).calls(call.sid).delete)
        with pytest.raises(TwilioRestException) as gone:
            await fetched(simulator, call.sid)
        assert gone.value.code == 20404
        assert await asyncio.to_thread(sdk(simulator.url).calls.list) == []
        assert simulator.carrier.stats()["calls"] == {"canceled": 1}


async def test_what_the_api_does_not_have_is_answered_in_its_own_form() -> None:
    async with (
        running(carrier()) as simulator,
        httpx.AsyncClient(base_url=simulator.url, auth=(ACCOUNT, TOKEN), trust_env=False) as client,
    ):
        missing = await client.get(f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json")
        assert (missing.status_code, missing.json()["code"]) == (404, 20404)
        wrong = await client.put(f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json")
        assert (wrong.status_code, wrong.json()["code"]) == (405, 20004)


class Read(dict[str, Any]):
    """A payload that notes which fields the SDK reads."""

    def __init__(self, payload: dict[str, Any]) -> None:
        super().__init__(payload)
        self.keys_read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_read.add(key)
        return super().get(key, default)


async def test_resources_have_the_fields_that_the_sdk_reads_and_no_others(application: Application) -> None:
    async with (
        running(carrier()) as simulator,
        httpx.AsyncClient(base_url=simulator.url, auth=(ACCOUNT, TOKEN), trust_env=False) as client,
    ):
        await place(simulator.url, application, QUICK)
        base, version = f"/2010-04-01/Accounts/{ACCOUNT}", sdk(simulator.url).api.v2010
        call = Read((await client.get(f"{base}/Calls.json")).json()["calls"][0])
        CallInstance(version, call, ACCOUNT)
        assert call.keys_read == set(call)
        record = Read((await client.get(f"{base}/Usage/Records.json")).json()["usage_records"][0])
        RecordInstance(version, record, ACCOUNT)
        assert record.keys_read == set(record)
