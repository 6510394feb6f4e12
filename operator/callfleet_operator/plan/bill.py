"""What the carrier's word about a call means for the books. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from callfleet_core.money import format_micros
from callfleet_core.reconciliation import BookedCall, CarrierDay, Difference, DifferenceKind
from callfleet_operator.carriercall import FINAL_STATUSES, CarrierCall

# Prices come late: a day is looked at again while something of it is open, but not for ever.
LOOK_AGAIN_AFTER = timedelta(hours=1)
LOOKED_AT_FOR = timedelta(days=3)
FAILED_AGAIN_AFTER = timedelta(minutes=10)
FAILING_FOR = timedelta(days=7)
# What later evidence may still end otherwise (docs/architecture.md).
_UNKNOWN_ENDS = frozenset({"unresolved", "notPlaced"})


@dataclass(frozen=True)
class Finding:
    """What to do about one call: differences to keep, a price in micros to bring the ledger to, or evidence to give.

    `is_open`: it is not over yet, at the carrier or in the ledger, and is to be looked at again.
    """

    differences: tuple[Difference, ...] = ()
    price_micros: int | None = None
    give_evidence: bool = False
    is_open: bool = False


def compare(call: CarrierCall, booked: BookedCall | None, *, final_look: bool) -> Finding:
    """Compares one call with the books. At the final look what has no price yet is told instead of waited for."""
    if call.status not in FINAL_STATUSES:
        return Finding(is_open=True)
    if booked is None:
        lasted = f"{call.status}, {call.duration_s or 0} s"
        return Finding((Difference(DifferenceKind.UNKNOWN_CALL, call.sid, found=lasted),))
    if booked.state in {"dialing", "placed"} or booked.end_status in _UNKNOWN_ENDS:
        return Finding(give_evidence=True, is_open=True)
    if booked.state != "settled" or booked.reason == "LateEvidence":
        return Finding(is_open=True)
    differences = [*_ends(call, booked)]
    price_micros = call.price_micros
    if price_micros is None and (call.status != "completed" or not call.duration_s):
        price_micros = 0  # what was not answered costs nothing, and may never be priced
    if price_micros is None:
        if final_look:
            differences.append(Difference(DifferenceKind.UNPRICED, call.sid, booked.id, _amount(booked.voice_micros)))
        return Finding(tuple(differences), is_open=not final_look)
    if price_micros != 0 and call.currency != booked.currency:
        differences.append(
            Difference(DifferenceKind.CURRENCY, call.sid, booked.id, booked.currency, call.currency or "none")
        )
        return Finding(tuple(differences))
    if price_micros < 0:  # a credit: told, and posted by nobody
        expected, found = _amount(booked.voice_micros), _amount(price_micros)
        return Finding((*differences, Difference(DifferenceKind.PRICE, call.sid, booked.id, expected, found)))
    return Finding(tuple(differences), price_micros=price_micros if price_micros != booked.voice_micros else None)


def _ends(call: CarrierCall, booked: BookedCall) -> list[Difference]:
    if call.status != booked.end_status:
        expected = booked.end_status or "none"
        return [Difference(DifferenceKind.STATUS, call.sid, booked.id, expected, call.status)]
    if call.status == "completed" and call.duration_s != booked.duration_s:
        seconds = (f"{booked.duration_s or 0} s", f"{call.duration_s or 0} s")
        return [Difference(DifferenceKind.DURATION, call.sid, booked.id, *seconds)]
    return []


def missing(booked: BookedCall) -> Difference:
    """A placed attempt whose call the carrier does not know."""
    expected = f"{booked.end_status or booked.state}, {booked.duration_s or 0} s"
    return Difference(DifferenceKind.MISSING_CALL, booked.call_sid, booked.id, expected)


def is_final_look(day: CarrierDay, now: datetime) -> bool:
    """True when there is no next look at the day."""
    return now + LOOK_AGAIN_AFTER >= day.end + LOOKED_AT_FOR


def next_look(day: CarrierDay, now: datetime, open_calls: int) -> datetime | None:
    """When a day that was compared is looked at again; None: it is done."""
    return None if open_calls == 0 or is_final_look(day, now) else now + LOOK_AGAIN_AFTER


def next_try(day: CarrierDay, now: datetime) -> datetime | None:
    """When a day that could not be compared is tried again; None: not by itself."""
    return None if now >= day.end + FAILING_FOR else now + FAILED_AGAIN_AFTER


def summary(day: CarrierDay, found: list[Difference], currency: str) -> str:
    """One sentence about a campaign's differences; for its Event."""
    kinds = sorted({item.kind for item in found})
    counts = ", ".join(f"{sum(item.kind is kind for item in found)} {kind.value}" for kind in kinds)
    posted = sum(item.delta_micros or 0 for item in found)
    money = f"; {_amount(posted)} {currency} posted" if posted else ""
    return f"the carrier's bill of {day.day} differs: {counts}{money}; `callfleet ledger differences --date {day.day}`"


def _amount(micros: int) -> str:
    return format_micros(micros)
