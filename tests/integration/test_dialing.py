"""The right to dial: begin_dial, the record_* functions and the gate, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import DBAPIError
from tests.integration.books import (
    ACCOUNT_SID,
    CAMPAIGN,
    HOLD_MICROS,
    NAMESPACE,
    OWNER,
    POD,
    RING,
    Books,
    consenting,
    login,
    number,
    register_carrier,
)

from callfleet_core.contacts import ContactIn, Prospect
from callfleet_core.crypto import DataKey
from callfleet_core.dialing import DialStore, EndEvidence, PlacedResult, Verdict
from callfleet_core.ledger import HoldResult
from callfleet_core.records import CallOutcome, CallRecords, LeadFields, Turn, Usage

SID = "CA" + "1" * 32


async def test_go_carries_everything_needed_to_place_the_call(books: Books) -> None:
    attempt = await books.held()
    decision = await books.dialing.begin_dial(attempt, POD, uuid4())
    assert decision.verdict is Verdict.GO
    assert decision.order is not None
    assert decision.order.to == number(0)
    assert decision.order.api_base_url == "http://127.0.0.1:9"
    assert decision.order.script.questions[0].name == "interested"


async def test_the_same_nonce_gets_the_same_answer_another_is_refused(books: Books) -> None:
    attempt, nonce = await books.held(), uuid4()
    first = await books.dialing.begin_dial(attempt, POD, nonce)
    assert await books.dialing.begin_dial(attempt, POD, nonce) == first
    assert (await books.dialing.begin_dial(attempt, POD, uuid4())).verdict is Verdict.REFUSED


async def test_eight_workers_at_once_get_one_go(books: Books) -> None:
    attempt = await books.held()
    answers = await asyncio.gather(*(books.dialing.begin_dial(attempt, POD, uuid4()) for _ in range(8)))
    assert sorted(answer.verdict for answer in answers) == ["go"] + ["refused"] * 7


async def test_a_revoked_attempt_does_not_dial_however_late_its_bind_comes(books: Books) -> None:
    attempt = await books.held()
    await books.ledger.revoke(attempt, "NewEpoch")
    decision = await books.dialing.begin_dial(attempt, POD, uuid4())
    assert (decision.verdict, decision.reason) == (Verdict.REFUSED, "Revoked")
    assert decision.order is None


async def test_another_pod_is_refused_and_takes_nothing_from_the_right_one(books: Books) -> None:
    attempt = await books.held()
    assert (await books.dialing.begin_dial(attempt, "another", uuid4())).reason == "WrongPod"
    assert (await books.dialing.begin_dial(attempt, POD, uuid4())).verdict is Verdict.GO


async def test_an_expired_grant_is_refused_and_its_money_returns(books: Books) -> None:
    attempt = await books.held(expires_after_s=0)
    assert (await books.dialing.begin_dial(attempt, POD, uuid4())).reason == "Expired"
    assert await books.budget() == (0, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE consents SET revoked_at = now()", "NoConsent"),
        ("UPDATE campaigns SET suspended = true", "Suspended"),
        ("UPDATE campaigns SET closed = true", "Suspended"),
        ("UPDATE installation SET stopped = true", "Stopped"),
        ("UPDATE accounts SET closed = true WHERE kind = 'Budget'", "BudgetNotFound"),
        ("UPDATE accounts SET suspended = true WHERE kind = 'Budget'", "Suspended"),
        ("UPDATE dial_attempts SET cancel_requested_at = now()", "Canceled"),
        ("UPDATE carrier_accounts SET simulated = false", "DoNotCall"),
    ],
)
async def test_what_changed_since_the_hold_is_checked_again(books: Books, change: str, reason: str) -> None:
    attempt = await books.held()
    await books.sql(change)
    decision = await books.dialing.begin_dial(attempt, POD, uuid4())
    assert (decision.verdict, decision.reason) == (Verdict.REFUSED, reason)
    assert await books.budget() == (0, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE consents SET revoked_at = now()", "NoConsent"),
        ("UPDATE installation SET stopped = true", "Stopped"),
        ("UPDATE carrier_accounts SET simulated = false", "DoNotCall"),
    ],
)
async def test_the_gates_word_before_a_hold_is_the_holds(books: Books, change: str, reason: str) -> None:
    call = (books.people[0], ACCOUNT_SID)
    assert await books.contacts.refusals([call]) == [None]
    await books.sql(change)
    assert await books.contacts.refusals([call]) == [reason]
    assert (await books.hold(0)).result.value == reason


async def test_the_carrier_accounts_pace_makes_the_next_dial_wait(books: Books) -> None:
    await books.sql("UPDATE carrier_accounts SET calls_per_second = 0.5")
    first, second = await books.held(0), await books.held(1)
    assert (await books.dialing.begin_dial(first, POD, uuid4())).verdict is Verdict.GO
    decision = await books.dialing.begin_dial(second, POD, uuid4())
    assert decision.verdict is Verdict.WAIT
    assert decision.retry_at is not None
    assert timedelta(0) < decision.retry_at - datetime.now(UTC) <= timedelta(seconds=2)
    assert await books.budget() == (2 * HOLD_MICROS, 0)


async def paced(books: Books, calls_per_second: str, *, generation: int = 2) -> None:
    """Gives the campaign a pace of its own."""
    await books.contacts.mirror_campaign(
        namespace=NAMESPACE, name=CAMPAIGN, uid="campaign-1", generation=generation, suspended=False, closed=False,
        calls_per_second=Decimal(calls_per_second),
    )  # fmt: skip


async def test_a_campaigns_own_pace_makes_its_next_dial_wait_and_nobody_elses(books: Books) -> None:
    await paced(books, "0.5")
    await books.listed("other", "1", consenting(2))
    first, second, other = await books.held(0), await books.held(1), await books.held(2, campaign="other")
    assert (await books.dialing.begin_dial(first, POD, uuid4())).verdict is Verdict.GO
    asked_at = datetime.now(UTC)
    decision = await books.dialing.begin_dial(second, POD, uuid4())
    assert decision.verdict is Verdict.WAIT
    assert decision.retry_at is not None
    assert timedelta(seconds=1) < decision.retry_at - asked_at <= timedelta(seconds=2)
    assert await books.contacts.next_dials() == {(NAMESPACE, CAMPAIGN): decision.retry_at}
    assert (await books.dialing.begin_dial(other, POD, uuid4())).verdict is Verdict.GO
    await asyncio.sleep((decision.retry_at - datetime.now(UTC)).total_seconds())
    assert (await books.dialing.begin_dial(second, POD, uuid4())).verdict is Verdict.GO


async def test_a_campaigns_pace_is_no_leaders_to_forget(books: Books) -> None:
    await paced(books, "0.1")
    first, second = await books.held(0), await books.held(1)
    assert (await books.dialing.begin_dial(first, POD, uuid4())).verdict is Verdict.GO
    await books.ledger.take_epoch()
    await paced(books, "0.1", generation=3)  # the new leader mirrors what it sees
    assert (await books.dialing.begin_dial(second, POD, uuid4())).verdict is Verdict.WAIT


async def test_neither_pace_is_used_up_while_the_other_makes_a_call_wait(books: Books) -> None:
    await paced(books, "100")
    await books.sql("UPDATE carrier_accounts SET calls_per_second = 0.1")
    first, second = await books.held(0), await books.held(1)
    assert (await books.dialing.begin_dial(first, POD, uuid4())).verdict is Verdict.GO
    before = await books.sql("SELECT next_dial_at FROM campaigns WHERE name = :name", name=CAMPAIGN)
    assert (await books.dialing.begin_dial(second, POD, uuid4())).verdict is Verdict.WAIT
    assert await books.sql("SELECT next_dial_at FROM campaigns WHERE name = :name", name=CAMPAIGN) == before


async def test_a_faster_pace_holds_at_once_and_so_does_none(books: Books) -> None:
    await paced(books, "0.001")
    attempts = [await books.held(index) for index in range(3)]
    assert (await books.dialing.begin_dial(attempts[0], POD, uuid4())).verdict is Verdict.GO
    assert (await books.dialing.begin_dial(attempts[1], POD, uuid4())).verdict is Verdict.WAIT
    await paced(books, "10", generation=3)
    assert (await books.dialing.begin_dial(attempts[1], POD, uuid4())).verdict is Verdict.GO
    await books.contacts.mirror_campaign(
        namespace=NAMESPACE, name=CAMPAIGN, uid="campaign-1", generation=4, suspended=False, closed=False
    )
    assert (await books.dialing.begin_dial(attempts[2], POD, uuid4())).verdict is Verdict.GO


async def test_five_workers_that_ask_at_once_begin_one_call_an_interval(books: Books) -> None:
    await paced(books, "0.5")
    attempts = [await books.held(index) for index in range(5)]
    decisions = await asyncio.gather(*(books.dialing.begin_dial(attempt, POD, uuid4()) for attempt in attempts))
    assert [item.verdict for item in decisions].count(Verdict.GO) == 1


async def test_one_open_attempt_a_number_even_between_campaigns(books: Books) -> None:
    await books.held(0)
    await books.listed("other", "1", consenting(0))
    assert (await books.hold(0, campaign="other")).result is HoldResult.NUMBER_BUSY


async def test_who_waits_is_known_by_price_gate_and_open_number(books: Books) -> None:
    await books.held(0)
    await books.sql("UPDATE consents SET revoked_at = now() WHERE contact_id = :id", id=books.people[1])
    calls = [(str(person), ACCOUNT_SID) for person in (*books.people[:3], uuid4())]
    prefix = number(0)[:6]
    assert await books.contacts.prospects(calls) == [
        Prospect(prefix, None, True),
        Prospect(prefix, "NoConsent", False),
        Prospect(prefix, None, False),
        Prospect("", "NoConsent", False),
    ]


async def test_nobody_is_held_for_without_consent(books: Books) -> None:
    (stranger,) = await books.listed("other", "1", ContactIn("+15550109999", None, None))
    assert await books.contacts.refusals([(stranger, ACCOUNT_SID), (books.people[0], ACCOUNT_SID)]) == [
        "NoConsent",
        None,
    ]
    assert (await books.hold(contact_id=stranger, campaign="other")).result is HoldResult.NO_CONSENT


async def test_who_left_the_list_is_not_called(books: Books) -> None:
    await books.listed("other", "1", consenting(0))  # whose consent stands, stated by another campaign
    await books.listed(CAMPAIGN, "1", consenting(1), consenting(2))
    assert (await books.hold(0)).result is HoldResult.CLOSED
    assert (await books.hold(1)).result is HoldResult.HELD


async def test_a_consent_that_is_no_longer_stated_is_revoked(books: Books) -> None:
    await books.listed(CAMPAIGN, "2", ContactIn(number(0), None, None), consenting(1))
    assert (await books.hold(0, run_id="2")).result is HoldResult.NO_CONSENT
    assert (await books.hold(1, run_id="2")).result is HoldResult.HELD
    await books.listed(CAMPAIGN, "3", consenting(0))
    assert (await books.hold(0, run_id="3")).result is HoldResult.HELD


async def test_another_namespaces_contact_is_nobody_here(books: Books) -> None:
    assert (await books.hold(0, namespace="other")).result is HoldResult.NO_CONSENT


async def test_a_closed_campaign_is_not_reopened_by_a_late_word(books: Books) -> None:
    await books.contacts.close_campaign(NAMESPACE, CAMPAIGN)
    for uid, result in (("campaign-1", HoldResult.SUSPENDED), ("campaign-2", HoldResult.HELD)):
        await books.contacts.mirror_campaign(
            namespace=NAMESPACE, name=CAMPAIGN, uid=uid, generation=1, suspended=False, closed=False
        )
        assert (await books.hold(0)).result is result


async def test_evidence_after_not_placed_is_believed(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    await books.ended(attempt, "notPlaced", None)
    assert await books.dialing.record_placed(attempt, SID) is PlacedResult.PLACED
    assert await books.ended(attempt, "completed", 70)
    (row,) = await books.ledger.unsettled_attempts()
    assert (row.end_status, row.duration_s, row.counts) == ("completed", 70, True)


async def test_a_placed_call_is_never_unresolved(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt, SID)
    assert not await books.ended(attempt, "unresolved", None)
    assert await books.ledger.known_sids([SID, "CA" + "9" * 32]) == {SID}


async def test_a_real_carrier_dials_only_allowed_numbers(books: Books) -> None:
    await books.sql("UPDATE carrier_accounts SET simulated = false")
    assert (await books.hold(0)).result is HoldResult.DO_NOT_CALL
    await books.contacts.allow([number(1)])
    assert (await books.hold(1)).result is HoldResult.HELD
    await books.contacts.allow([])
    assert (await books.hold(2)).result is HoldResult.DO_NOT_CALL


@pytest.mark.parametrize(
    "url", ["https://api.twilio.com", "https://x@API.Twilio.com:443/", "http://api.dublin.ie1.twilio.com"]
)
async def test_twilio_can_never_be_called_simulated(books: Books, url: str) -> None:
    with pytest.raises(DBAPIError, match="twilio_is_real"):
        await register_carrier(books.engine, api_base_url=url)


async def test_a_second_sid_is_told_apart(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    assert await books.dialing.record_placed(attempt, SID) is PlacedResult.PLACED
    assert await books.dialing.record_placed(attempt, SID, pod_uid=POD, generation=1) is PlacedResult.SAME
    assert await books.dialing.record_placed(attempt, "CA" + "2" * 32) is PlacedResult.SECOND_SID
    assert await books.dialing.record_placed(uuid4(), SID) is PlacedResult.UNKNOWN_ATTEMPT


async def test_a_callback_for_a_revoked_attempt_finds_it_closed(books: Books) -> None:
    attempt = await books.held()
    await books.ledger.revoke(attempt, "Expired")
    assert await books.dialing.record_placed(attempt, SID) is PlacedResult.CLOSED


async def test_callbacks_in_disorder_end_the_call_once(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    now = datetime.now(UTC)
    completed = EndEvidence(source="callback", status="completed", call_sid=SID, duration_s=70, at=now)
    assert await books.dialing.record_ended(attempt, completed)
    assert not await books.dialing.record_ended(attempt, completed.model_copy(update={"duration_s": 500}))
    assert await books.dialing.record_answered(attempt, now - timedelta(seconds=70), call_sid=SID)
    assert not await books.dialing.record_answered(attempt, now, call_sid=SID)
    (row,) = await books.ledger.unsettled_attempts()
    assert (row.state, row.end_status, row.duration_s, row.call_sid) == ("ended", "completed", 70, SID)


async def test_not_placed_is_not_believed_of_a_placed_call(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt, SID)
    assert not await books.ended(attempt, "notPlaced", None)


async def test_a_worker_that_does_not_own_the_call_records_nothing(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    evidence = EndEvidence(source="worker", status="completed", duration_s=1, at=datetime.now(UTC))
    for pod, generation in (("another", 1), (POD, 2)):
        assert not await books.dialing.record_ended(attempt, evidence, pod_uid=pod, generation=generation)
        placed = await books.dialing.record_placed(attempt, SID, pod_uid=pod, generation=generation)
        assert placed is PlacedResult.CLOSED


async def test_the_view_for_twiml_names_no_person(books: Books) -> None:
    attempt = await books.held()
    view = await books.dialing.attempt_view(attempt)
    assert view is not None
    assert (view.state, view.account_sid) == ("granted", ACCOUNT_SID)
    assert await books.dialing.attempt_view(uuid4()) is None


async def test_the_workers_role_can_dial_and_record_and_nothing_else(books: Books, database_url: str) -> None:
    engine = await login(books, database_url, "callfleet_worker")
    worker = DialStore(engine, RING.of_namespace(NAMESPACE))
    try:
        attempt = await books.held()
        assert (await worker.begin_dial(attempt, POD, uuid4())).verdict is Verdict.GO
        assert await worker.record_placed(attempt, SID, pod_uid=POD, generation=1) is PlacedResult.PLACED
        await _write_records(CallRecords(engine), attempt, await books.key())
        evil = Books(engine, books.ledger.__class__(engine), worker, books.contacts, books.runs, books.people)
        for statement in (
            "SELECT phone FROM contacts",
            "SELECT * FROM dial_attempts",
            "UPDATE accounts SET limit_micros = 1",
            "SELECT ledger_take_epoch()",
            "SELECT record_placed(gen_random_uuid(), 'CA')",
            "UPDATE calls SET cost = 0",
            "DELETE FROM conversations",
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                await evil.sql(statement)
    finally:
        await engine.dispose()


async def test_the_gateways_role_records_but_cannot_dial(books: Books, database_url: str) -> None:
    engine = await login(books, database_url, "callfleet_gateway")
    gateway = DialStore(engine)
    try:
        attempt = await books.held()
        with pytest.raises(DBAPIError, match="permission denied"):
            await gateway.begin_dial(attempt, POD, uuid4())
        await books.dialing.begin_dial(attempt, POD, uuid4())
        assert await gateway.record_placed(attempt, SID) is PlacedResult.PLACED
        assert (await gateway.attempt_view(attempt)) is not None
    finally:
        await engine.dispose()


async def _write_records(records: CallRecords, call: UUID, key: DataKey) -> None:
    turns = [Turn(agent_type="qualifier", message_type="user", content="Yes.", at=datetime.now(UTC))]
    outcome = CallOutcome(disposition="qualified", turns=1, decided_by={"grammar": 1}, latency_ms_p50=900)
    lead = LeadFields.model_validate({"qualification_score": "0.75", "fields": {"interested": "yes"}})
    usage = Usage(meter="stt_seconds", quantity=Decimal("4.2"), provider="whisper-local")
    for _ in range(2):  # writing twice changes nothing
        assert await records.add_turns(call, turns, first_seq=0, key=key, owner=OWNER)
        assert await records.finish(call, outcome, lead, [usage], owner=OWNER)


async def test_what_was_said_and_learned_is_stored_once(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt, SID)
    await _write_records(CallRecords(books.engine), attempt, await books.key())
    assert await books.sql("SELECT count(*) FROM conversations") == 1
    assert await books.sql("SELECT fields->>'interested' FROM lead_scores") == "yes"
    assert await books.sql("SELECT disposition FROM calls") == "qualified"
