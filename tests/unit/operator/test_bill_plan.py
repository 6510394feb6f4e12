"""What the carrier's word about a call means for the books, decided without either."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from callfleet_core.reconciliation import BookedCall, CarrierDay, Difference, DifferenceKind
from callfleet_operator.carriercall import CarrierCall
from callfleet_operator.plan.bill import Finding, compare, is_final_look, next_look, next_try, summary

SID, ID = "CA" + "1" * 32, UUID(int=1)
DAY = CarrierDay("AC" + "0" * 32, date(2026, 11, 21))
NEXT_MORNING = datetime(2026, 11, 22, 2, tzinfo=UTC)
CALL = CarrierCall(SID, "completed", 70, NEXT_MORNING, price_micros=28_000, currency="USD")
BOOKED = BookedCall(ID, "sales", "spring", "spring-1-x", "settled", None, "completed", 70, SID, "USD", 28_000)


def test_a_call_that_agrees_asks_for_nothing() -> None:
    assert compare(CALL, BOOKED, final_look=False) == Finding()


@pytest.mark.parametrize("status", ["queued", "ringing", "in-progress"])
def test_a_call_that_is_not_over_is_looked_at_again(status: str) -> None:
    for booked in (None, BOOKED):
        assert compare(replace(CALL, status=status), booked, final_look=True) == Finding(is_open=True)


@pytest.mark.parametrize(
    ("state", "end_status", "reason", "evidence"),
    [
        ("placed", None, None, True),
        ("ended", "unresolved", None, True),
        ("settled", "unresolved", None, True),
        ("settled", "notPlaced", None, True),
        ("ended", "completed", None, False),
        ("settled", "completed", "LateEvidence", False),
    ],
)
def test_money_is_corrected_only_where_the_ledger_has_its_last_word(
    state: str, end_status: str | None, reason: str | None, evidence: bool
) -> None:
    booked = replace(BOOKED, state=state, end_status=end_status, reason=reason, voice_micros=0)
    assert compare(CALL, booked, final_look=True) == Finding(give_evidence=evidence, is_open=True)


def test_another_price_is_brought_to_the_ledger_whatever_else_differs() -> None:
    found = compare(replace(CALL, duration_s=130, price_micros=42_000), BOOKED, final_look=False)
    assert [item.kind for item in found.differences] == [DifferenceKind.DURATION]
    assert (found.price_micros, found.is_open) == (42_000, False)


@pytest.mark.parametrize(("status", "duration_s"), [("busy", 0), ("no-answer", None), ("completed", 0)])
def test_what_was_not_answered_costs_nothing_priced_or_not(status: str, duration_s: int | None) -> None:
    call = replace(CALL, status=status, duration_s=duration_s, price_micros=None, currency=None)
    assert compare(call, BOOKED, final_look=False).price_micros == 0
    booked = replace(BOOKED, end_status=status, duration_s=duration_s, voice_micros=0)
    assert compare(call, booked, final_look=False) == Finding()


def test_a_missing_price_is_waited_for_until_the_final_look() -> None:
    unpriced = replace(CALL, price_micros=None)
    assert compare(unpriced, BOOKED, final_look=False) == Finding(is_open=True)
    last = compare(unpriced, BOOKED, final_look=True)
    assert ([item.kind for item in last.differences], last.is_open) == ([DifferenceKind.UNPRICED], False)


def test_another_currency_and_a_credit_are_told_and_never_posted() -> None:
    euros = compare(replace(CALL, currency="EUR"), BOOKED, final_look=False)
    assert euros == Finding((Difference(DifferenceKind.CURRENCY, SID, ID, "USD", "EUR"),))
    credit = compare(replace(CALL, price_micros=-5_000), BOOKED, final_look=False)
    assert credit == Finding((Difference(DifferenceKind.PRICE, SID, ID, "0.028", "-0.005"),))


def test_a_day_is_looked_at_hourly_while_it_is_open_but_not_for_ever() -> None:
    assert next_look(DAY, NEXT_MORNING, 0) is None
    assert next_look(DAY, NEXT_MORNING, 1) == NEXT_MORNING + timedelta(hours=1)
    last = DAY.end + timedelta(days=3) - timedelta(hours=1)
    assert (is_final_look(DAY, last), next_look(DAY, last, 1)) == (True, None)
    assert not is_final_look(DAY, last - timedelta(seconds=1))


def test_a_day_that_cannot_be_compared_is_tried_for_a_week() -> None:
    assert next_try(DAY, NEXT_MORNING) == NEXT_MORNING + timedelta(minutes=10)
    assert next_try(DAY, DAY.end + timedelta(days=7)) is None


def test_the_sentence_counts_kinds_and_money() -> None:
    found = [
        Difference(DifferenceKind.PRICE, SID, ID, delta_micros=-14_000),
        Difference(DifferenceKind.STATUS, SID, ID),
    ]
    assert summary(DAY, found, "USD") == (
        "the carrier's bill of 2026-11-21 differs: 1 Price, 1 Status; -0.014 USD posted;"
        " `callfleet ledger differences --date 2026-11-21`"
    )
