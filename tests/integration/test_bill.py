"""The daily reconciliation: the carrier's list against the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import (
    ACCOUNT_SID,
    BUDGET,
    CAMPAIGN,
    NAMESPACE,
    POD,
    billed,
    login_url,
    number,
)
from tests.integration.office import AFTER, FROM, NOON, VOICE, YESTERDAY, Office, open_office
from tests.integration.operator_parts import CARRIER_TOKEN, campaign_body, walk_attempts
from tests.integration.simulator_application import sdk, until

from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import HoldResult, Ledger, account_key
from callfleet_core.privacy import Erasure
from callfleet_core.reconciliation import CarrierDay, ReconciliationDesk, Reconciliations
from callfleet_operator.carrier import Carrier as CarrierClient
from callfleet_operator.carriercall import CarrierCall
from callfleet_operator.engine import Engine
from callfleet_simulator.calls import CallStatus
from callfleet_simulator.faults import Fault, Kind


@pytest.fixture
async def office(engine: AsyncEngine, database_url: str, server: ApiServer) -> AsyncIterator[Office]:
    async with open_office(engine, database_url, server) as office:
        yield office


async def test_a_day_in_which_all_agree_is_done_for_good(office: Office) -> None:
    for index in range(3):
        await office.call(index, 50 + index * 30)
    assert await office.compare() == []
    assert await office.progress() == (3, 0, None, None)
    assert await Reconciliations(office.books.engine, lambda: 0).due(AFTER + timedelta(hours=9)) == []


@pytest.mark.parametrize(("price", "delta"), [(5 * VOICE, 3 * VOICE), (VOICE, -VOICE), (0, -2 * VOICE)])
async def test_another_price_is_posted_as_a_correction_in_every_account(office: Office, price: int, delta: int) -> None:
    attempt, call = await office.call(0, price_micros=price)
    entries = "SELECT jsonb_agg(to_jsonb(e) ORDER BY id) FROM ledger_entries e WHERE kind <> 'correction'"
    before = await office.books.sql(entries)
    assert len(office.operator.context.queue) == 0
    ((kind, sid, _, _, posted),) = await office.compare()
    assert (kind, sid, posted) == ("Price", call.sid, delta)
    await until(lambda: len(office.operator.context.queue) == 2)  # session and campaign show the money anew
    assert await office.books.budget() == (0, 36_000 + delta)
    assert await office.books.unbalanced() == 0
    assert await office.books.sql(entries) == before
    corrections = "SELECT array_agg(spent_micros) FROM ledger_entries WHERE kind = 'correction'"
    assert await office.books.sql(corrections) == [delta, delta]  # the campaign's account, and the budget's
    actual = "SELECT actual_micros - (SELECT sum(amount_micros) FROM cost_lines) FROM dial_attempts WHERE id = :id"
    assert await office.books.sql(actual, id=attempt) == 0
    cost = "SELECT cost * 1000000 FROM calls WHERE id = :id"
    assert int(await office.books.sql(cost, id=attempt)) == 36_000 + delta


async def test_the_same_price_posts_once_and_a_newer_one_again(office: Office) -> None:
    _, call = await office.call(0, price_micros=3 * VOICE)
    desk = ReconciliationDesk(office.books.engine)
    for price, spent, posted in ((3, 50_000, 1), (3, 50_000, 1), (1, 22_000, 2), (3, 50_000, 3)):
        call.price_micros = price * VOICE
        await desk.request(YESTERDAY, "Ada", "again")
        assert len(await office.compare(datetime.now(UTC) + timedelta(days=1))) == posted
        assert await office.books.budget() == (0, spent)
    assert await office.books.unbalanced() == 0
    assert await office.books.ledger.overspent_accounts() == []


async def test_a_correction_above_the_hold_stops_the_budget_until_somebody_looks(office: Office) -> None:
    await office.call(0, price_micros=3 * VOICE)
    await office.compare()
    balance = await office.books.ledger.balance(account_key(NAMESPACE, "Budget", BUDGET))
    assert balance is not None
    assert (balance.spent_micros, balance.overrun) == (36_000 + VOICE, True)
    assert (await office.books.hold(1)).result is HoldResult.SUSPENDED


async def test_every_kind_of_difference_is_kept_once_and_told_to_the_campaign(
    office: Office, server: ApiServer
) -> None:
    office.operator.apply(namespace_campaign(server))
    await office.operator.see()
    foreign = office.listed(9, 33)
    _, gone = await office.call(0)
    office.carrier.delete(gone)
    _, shorter = await office.call(1, duration_s=70)
    shorter.duration_s = 65
    _, busy = await office.call(2)
    busy.status, busy.price_micros, busy.duration_s = CallStatus.BUSY, None, 0
    counted = {kind: metric(kind) for kind in ("UnknownCall", "MissingCall", "Duration", "Status", "Price")}
    found = await office.compare()
    assert sorted(found) == [
        ("Duration", shorter.sid, "70 s", "65 s", None),
        ("MissingCall", gone.sid, "completed, 70 s", "", None),
        ("Price", busy.sid, "0.028", "0", -28_000),
        ("Status", busy.sid, "completed", "busy", None),
        ("UnknownCall", foreign.sid, "", "completed, 33 s", None),
    ]
    assert {kind: metric(kind) - before for kind, before in counted.items()} == dict.fromkeys(counted, 1.0)
    events = server.request("GET", f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    (message,) = [item["message"] for item in events if item["reason"] == "CarrierBillDiffers"]
    assert "1 Duration, 1 MissingCall, 1 Price, 1 Status; -0.028 USD posted" in message
    await ReconciliationDesk(office.books.engine).request(YESTERDAY, "Ada", "again")
    assert await office.compare(datetime.now(UTC) + timedelta(days=1)) == found


def namespace_campaign(server: ApiServer) -> dict[str, Any]:
    server.request("POST", "/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return campaign_body(NAMESPACE, CAMPAIGN, contacts={"inline": [{"phone": number(0), "name": "Nobody"}]})


def metric(kind: str) -> float:
    return REGISTRY.get_sample_value("callfleet_carrier_differences_total", {"kind": kind}) or 0.0


async def test_a_price_that_is_late_is_waited_for_and_then_posted(office: Office) -> None:
    _, call = await office.call(0, price_micros=None)
    assert await office.compare() == []
    assert await office.progress() == (1, 1, AFTER + timedelta(hours=1), None)
    call.price_micros = VOICE
    assert await office.compare(AFTER + timedelta(minutes=59)) == []
    ((_, _, _, _, posted),) = await office.compare(AFTER + timedelta(hours=1))
    assert posted == -VOICE
    assert await office.progress() == (1, 0, None, None)


async def test_a_price_that_never_comes_is_told(office: Office) -> None:
    _, call = await office.call(0, price_micros=None)
    assert await office.compare(AFTER + timedelta(days=3)) == [("Unpriced", call.sid, "0.028", "", None)]
    assert await office.progress() == (1, 0, None, None)
    assert await office.books.budget() == (0, 36_000)


async def test_calls_that_were_never_dialled_are_no_differences(office: Office) -> None:
    never: dict[str, Any] = {"start_time": None, "end_time": None, "answered": False, "price_micros": None}
    attempt = await office.books.held(0)
    call = office.listed(0, status=CallStatus.CANCELED, **never)
    await office.books.dialed(attempt, call.sid)
    await office.books.ended(attempt, "canceled", None)
    await office.books.ledger.settle(attempt, [])
    await office.was_yesterday(attempt)
    waiting = office.listed(1, status=CallStatus.QUEUED, **never)
    assert await office.compare() == []
    assert await office.progress() == (2, 1, AFTER + timedelta(hours=1), None)  # the queued one is not over
    waiting.move(CallStatus.COMPLETED)
    waiting.start_time, waiting.duration_s = NOON + timedelta(minutes=5), 9
    assert await office.compare(AFTER + timedelta(hours=1)) == [
        ("UnknownCall", waiting.sid, "", "completed, 9 s", None)
    ]


async def test_a_dial_that_nobody_knew_of_is_found_a_day_later_and_billed(office: Office) -> None:
    attempt = await office.books.held(0)
    await office.books.dialing.begin_dial(attempt, POD, uuid4())
    await office.books.ended(attempt, "unresolved", None)
    await office.was_yesterday(attempt)
    call = office.listed(0, 70)
    assert await office.compare() == []
    await walk_attempts(office.operator.context)
    assert await office.books.sql("SELECT call_sid FROM dial_attempts") == call.sid
    assert await office.books.budget() == (0, 36_000)
    assert await office.compare(AFTER + timedelta(hours=1)) == []
    assert await office.progress() == (1, 0, None, None)


async def test_a_dial_to_somebody_who_was_erased_keeps_no_day_from_being_compared(office: Office) -> None:
    attempt = await office.books.held(0)
    await office.books.dialing.begin_dial(attempt, POD, uuid4())
    await office.books.ended(attempt, "unresolved", None)
    await office.was_yesterday(attempt)
    assert await office.operator.context.privacy.erase(office.books.people[0]) is Erasure.ERASED
    _, call = await office.call(1, price_micros=VOICE)
    assert [(kind, sid) for kind, sid, *_ in await office.compare()] == [("Price", call.sid)]
    assert await office.progress() == (1, 0, None, None)


async def test_a_placed_call_that_ended_unseen_is_ended_by_the_bill(office: Office) -> None:
    attempt = await office.books.held(0)
    call = office.listed(0, 70)
    await office.books.dialed(attempt, call.sid)
    await office.was_yesterday(attempt)
    await office.compare()
    await office.books.ledger.settle(attempt, billed(70))
    assert await office.compare(AFTER + timedelta(hours=1)) == []
    assert await office.books.budget() == (0, 36_000)


async def test_only_the_pages_of_the_day_are_read_and_each_call_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {office.listed(index % 9, date_created=NOON + timedelta(seconds=index)).sid for index in range(25)}
    for days in (-1, 1):
        moved = NOON + timedelta(days=days)
        office.listed(0, date_created=moved, start_time=moved)
    client: CarrierClient = await office.operator.context.carriers.client(ACCOUNT_SID)
    monkeypatch.setattr("callfleet_operator.carrier.PAGE_SIZE", 10)
    day, seen = CarrierDay(ACCOUNT_SID, YESTERDAY), list[CarrierCall]()
    async for page in client.day(day.start, day.end):
        assert len(page) <= 10
        seen += page
    assert sorted(call.sid for call in seen) == sorted(wanted)


async def test_a_carrier_that_is_away_is_asked_again(office: Office) -> None:
    await office.call(0, price_micros=VOICE)
    office.carrier.faults.add_all([Fault(kind=Kind.SERVER_ERROR, requests=["list"], next=1)])
    assert await office.compare() == []
    _, _, next_at, problem = await office.progress()
    assert next_at == AFTER + timedelta(minutes=10)
    assert problem == "the carrier answers with HTTP 500: asking again"
    assert REGISTRY.get_sample_value("callfleet_carrier_days_failing") == 1
    assert len(await office.compare(AFTER + timedelta(minutes=10))) == 1
    assert await office.progress() == (1, 0, None, None)
    assert REGISTRY.get_sample_value("callfleet_carrier_days_failing") == 0


async def test_an_operator_that_no_longer_leads_posts_nothing(office: Office) -> None:
    await office.call(0, price_micros=VOICE)
    await Ledger(office.books.engine).take_epoch()
    with pytest.raises(StaleEpochError):
        await office.compare()
    with pytest.raises(DBAPIError, match="epoch 1 is over"):
        await office.books.sql("SELECT ledger_correct(1, (SELECT id FROM dial_attempts), current_date, 1)")
    assert await office.books.budget() == (0, 36_000)
    assert await office.differences() == []


async def test_nothing_is_corrected_before_the_ledger_has_the_last_word(office: Office) -> None:
    attempt = await office.books.held(0)
    books = Reconciliations(office.books.engine, lambda: office.books.ledger.epoch)
    day = CarrierDay(ACCOUNT_SID, YESTERDAY)
    assert await books.correct(attempt, day, VOICE) is None
    await office.books.dialed(attempt)
    await office.books.ended(attempt)
    assert await books.correct(attempt, day, VOICE) is None
    await office.books.ledger.settle(attempt, billed(70))
    unknown = await office.books.held(1)
    await office.books.dialing.begin_dial(unknown, POD, uuid4())
    await office.books.ended(unknown, "unresolved", None)
    await office.books.ledger.settle(unknown, [])
    await office.books.dialing.record_placed(unknown, "CA" + "2" * 32)
    assert await books.correct(unknown, day, VOICE) is None  # its whole cost is still to come
    await office.books.ended(unknown)
    assert await books.correct(unknown, day, VOICE) is None
    corrected = await asyncio.gather(*(books.correct(attempt, day, VOICE) for _ in range(8)))
    assert sorted(corrected, key=str) == [-VOICE] + [None] * 7
    assert await office.books.unbalanced() == 0


async def test_missed_days_are_made_up_for_and_unused_accounts_are_left_alone(office: Office) -> None:
    _, call = await office.call(0, price_micros=VOICE)
    await office.books.sql("UPDATE dial_attempts SET begun_at = begun_at - interval '4 days'")
    call.date_created = call.start_time = NOON - timedelta(days=4)
    books = Reconciliations(office.books.engine, lambda: 0)
    days = [item.day for item in await books.due(AFTER)]
    assert days == [YESTERDAY - timedelta(days=back) for back in (4, 3, 2, 1, 0)]
    assert await books.due(AFTER + timedelta(days=20)) == []
    assert len(await office.compare()) == 1
    assert await books.due(AFTER) == []


async def test_a_day_is_compared_by_hand_and_audited(office: Office) -> None:
    _, call = await office.call(0, price_micros=VOICE)
    url = await login_url(office.books, office.database_url, "callfleet_auditor")
    given = {"DATABASE_URL": url, "CALLFLEET_ACTOR": "Ada"}
    waiting = asyncio.create_task(callfleet("reconcile", "--date", str(YESTERDAY), "--json", **given))
    while not waiting.done():
        await office.compare(datetime.now(UTC) + timedelta(seconds=5))
        await asyncio.sleep(0.2)
    code, out, err = await waiting
    assert code == 0, err
    (difference,) = json.loads(out)["differences"]
    assert (difference["kind"], difference["call_sid"], difference["delta_micros"]) == ("Price", call.sid, -VOICE)
    code, out, _ = await callfleet("differences", "--date", str(YESTERDAY), **given)
    assert out.splitlines()[1].split()[-4:] == ["0.028", "0.014", "-0.014", "USD"]
    assert number(0) not in out
    entry = await office.books.sql("SELECT actor || ' ' || action || ' ' || subject FROM audit_log")
    assert entry == f"Ada ledger.reconcile {YESTERDAY}"
    code, _, err = await callfleet("reconcile", "--date", str(YESTERDAY), "--wait", "0", **given)
    assert (code, "has not compared" in err) == (1, True)
    code, _, err = await callfleet("reconcile", "--date", "2020-01-01", **given)
    assert (code, "no call was placed in the week until 2020-01-01" in err) == (1, True)


async def callfleet(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """The command, as somebody runs it: its exit code, output and errors."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "callfleet", "ledger", *arguments,
        env={**kept, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_call_that_was_placed_is_billed_by_the_carriers_own_late_price(office: Office) -> None:
    office.carrier.faults.add_all([Fault(kind=Kind.LATE_PRICE, after_s=(0.5, 0.5))])
    url, person = office.operator.context.settings.callfleet_carrier_api_base_url, number(0)
    attempt = await office.books.held(0)
    twiml = "<Response><Pause length='1'/><Hangup/></Response>"
    placed = await asyncio.to_thread(sdk(url, token=CARRIER_TOKEN).calls.create, to=person, from_=FROM, twiml=twiml)
    await office.books.dialed(attempt, placed.sid)
    call = office.carrier.find(placed.sid)
    await until(lambda: call.ended)
    await office.books.ended(attempt, "completed", call.duration_s)
    await office.books.ledger.settle(attempt, billed(call.duration_s or 0))
    await until(lambda: call.price_micros is not None)
    await ReconciliationDesk(office.books.engine).request(call.date_created.date(), "Ada", "today already")
    ((_, sid, expected, found, posted),) = await office.compare(datetime.now(UTC) + timedelta(seconds=5))
    assert (sid, expected, found, posted) == (call.sid, "0.014", "0.02", 6_000)


async def test_an_operator_that_starts_makes_up_for_yesterday_by_itself(
    office: Office, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.call(0, price_micros=VOICE)
    await office.books.sql("UPDATE dial_attempts SET begun_at = begun_at - interval '1 day'")
    for call in office.carrier.calls.newest_first():
        call.date_created = call.start_time = NOON - timedelta(days=1)  # over for more than an hour, at any time of day
    # The client reads KUBECONFIG once, when it is imported.
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(server.kubeconfig))
    engine = Engine(office.operator.context.settings, on_deposed=lambda: None)
    await engine.start()
    try:
        async with asyncio.timeout(30):
            while not await office.differences():
                assert engine.is_healthy
                await asyncio.sleep(0.1)
    finally:
        await engine.stop()
    (found,) = await office.differences()
    assert (found.kind.value, found.delta_micros, found.session_name) == ("Price", -VOICE, f"{CAMPAIGN}-1-0")
    assert await office.books.budget() == (0, 36_000 - VOICE)
