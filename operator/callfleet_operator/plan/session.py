"""A session's status as its attempt's row says it should be. Pure: where they differ, the row wins."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from callfleet_core.api.callsession import TERMINAL_STATES, Reason, SessionState
from callfleet_core.api.campaign import Attempts
from callfleet_core.ledger import Attempt
from callfleet_core.money import format_micros
from callfleet_core.runs import RunContact
from callfleet_operator.objects import Campaign, Session, format_time

# How a carrier's final word reads as a disposition.
DISPOSITIONS = {
    "completed": "answered",
    "busy": "busy",
    "no-answer": "noAnswer",
    "failed": "failed",
    "canceled": "canceled",
    "notPlaced": "failed",
    "unresolved": "unknown",
}
_RETRYABLE = {"busy", "no-answer", "notPlaced"}
FIRST_LOOK_S = 5.0
STORED_WITHIN = timedelta(minutes=20)
NOT_PLACED_MAX = 20
NOT_PLACED_FIRST_PAUSE = timedelta(seconds=15)
NOT_PLACED_LONGEST_PAUSE = timedelta(minutes=30)

Status = dict[str, Any]


def condition(
    existing: list[dict[str, Any]], kind: str, holds: bool, reason: str, message: str, now: datetime, generation: int
) -> dict[str, Any]:
    """A condition whose transition time moves only when its status does."""
    status = "True" if holds else "False"
    old = next((item for item in existing if item["type"] == kind), None)
    since = old["lastTransitionTime"] if old and old["status"] == status else format_time(now)
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message[:1024],
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def admission_told(status: Mapping[str, Any]) -> str:
    """What a session's condition Admitted says."""
    return next((item["message"] for item in status.get("conditions") or [] if item["type"] == "Admitted"), "")


def plan_session(
    status: Status,
    attempt: Attempt | None,
    attempts: Attempts,
    now: datetime,
    generation: int = 1,
    *,
    cancel: bool = False,
    late: bool = False,
) -> Status | None:
    """The status that the session's latest attempt asks for, or None when it is right already.

    `attempt` is the newest one that was not revoked. While a worker has the call it writes the states itself.
    With `cancel`, or when it is too `late` to begin, the session is Canceled, but only once nothing of it is open.
    """
    state = SessionState(status.get("state") or SessionState.PENDING)
    if state in TERMINAL_STATES and attempt is None:
        return None
    goes_on = state not in TERMINAL_STATES and (attempt is None or retry_time(attempt, attempts) is not None)
    if (cancel or late) and goes_on:
        return _canceled_status(status, now, generation, "canceled" if cancel else "its notAfter has passed")
    if attempt is None:
        if state is SessionState.PENDING:
            return None
        return pending_status(status, None, now)
    if attempt.state == "granted":
        return None
    if attempt.state in {"dialing", "placed"}:
        return None if state in TERMINAL_STATES else _live_status(status, state, attempt, now)
    wanted = _ended_status(status, attempt, attempts, now, generation)
    if state in TERMINAL_STATES and wanted.get("state") != state.value:
        return None  # what was told as the end stays the end; later news are the ledger's
    return None if _same(wanted, status) else wanted


def pending_status(
    status: Status, reason: Reason | None, now: datetime, *, shortfall_micros: int | None = None,
    retry_at: datetime | None = None, message: str | None = None,
) -> Status:  # fmt: skip
    """A pending session's status; only its conditions are kept."""
    conditions = status.get("conditions") or []
    admitted = condition(conditions, "Admitted", False, reason.value if reason else "Pending", message or "", now, 1)
    return {
        "state": SessionState.PENDING.value,
        "reason": reason.value if reason else None,
        "shortfall": None if shortfall_micros is None else format_micros(shortfall_micros),
        "retryAt": format_time(retry_at) if retry_at else None,
        "attempt": None,
        "worker": None,
        "podUID": None,
        "callSID": None,
        "result": None,
        "conditions": [admitted],
    }


def admitted_status(status: Status, attempt: dict[str, Any], worker: str, pod_uid: str, now: datetime) -> Status:
    """The status that binds a session to a worker's slot."""
    conditions = status.get("conditions") or []
    held = f"{attempt['held']} held"
    return {
        "state": SessionState.ADMITTED.value,
        "reason": None,
        "shortfall": None,
        "retryAt": None,
        "attempt": attempt,
        "worker": worker,
        "podUID": pod_uid,
        "callSID": None,
        "result": None,
        "conditions": [condition(conditions, "Admitted", True, "MoneyHeld", held, now, 1)],
    }


def _live_status(status: Status, state: SessionState, attempt: Attempt, now: datetime) -> Status | None:
    """Repairs a live session's state when its worker did not write it."""
    wanted = SessionState.IN_PROGRESS if attempt.answered_at else SessionState.DIALING
    begun = attempt.begun_at or now
    if state is wanted or state is SessionState.IN_PROGRESS or now - begun < timedelta(seconds=5):
        return None
    return {
        **status,
        "state": wanted.value,
        "reason": None,
        "attempt": _attempt_status(attempt),
        "callSID": attempt.call_sid,
    }


def _ended_status(status: Status, attempt: Attempt, attempts: Attempts, now: datetime, generation: int) -> Status:
    settled = attempt.state == "settled"
    retry_at = retry_time(attempt, attempts)
    if settled and retry_at is not None:
        if (status.get("state") or SessionState.PENDING) == SessionState.PENDING:
            return status  # pending already: why, and until when, is the admission's to say
        if retry_at <= now:  # a later attempt was revoked: it waits for something else than the time
            return pending_status(status, None, now)
        return pending_status(status, Reason.RETRY_SCHEDULED, now, retry_at=retry_at)
    if not settled and attempt.end_status != "unresolved":
        return status  # the operator settles it first
    final, reason = _final_state(attempt)
    existing = status.get("conditions") or []
    disposition = attempt.disposition or DISPOSITIONS.get(attempt.end_status or "", "unknown")
    message = f"the call ended: {disposition}"
    return {
        **status,
        "state": final.value,
        "reason": reason.value if reason else None,
        "shortfall": None,
        "retryAt": None,
        "attempt": _attempt_status(attempt),
        "callSID": attempt.call_sid,
        "result": {
            "disposition": disposition,
            "durationSeconds": attempt.duration_s,
            "cost": None if attempt.actual_micros is None else format_micros(attempt.actual_micros),
            "settled": settled,
        },
        "conditions": [
            condition(
                existing, "Admitted", True, "MoneyHeld", f"{format_micros(attempt.hold_micros)} held", now, generation
            ),
            condition(existing, "Connected", attempt.answered_at is not None, "Carrier", message, now, generation),
            condition(existing, "Settled", settled, "Settled" if settled else "Held", message, now, generation),
            condition(existing, "Finished", True, final.value, message, now, generation),
        ],
    }


def plan_closed(
    status: Status,
    attempt: Attempt | None,
    attempts: Attempts,
    contact: RunContact | None,
    now: datetime,
    generation: int,
) -> Status | None:
    """The end of a session whose person the ledger will not have called (again); None: its last attempt's row says it.

    An attempt that could be tried again says nothing: the person is done in the run, or left it, without it.
    """
    if attempt is not None and retry_time(attempt, attempts) is None:
        return None
    return _closed_status(status, contact, now, generation)


def _closed_status(status: Status, contact: RunContact | None, now: datetime, generation: int) -> Status:
    """A session for somebody who is done in this run, or on no list of it: it ends as that person's call did."""
    canceled = _canceled_status(status, now, generation)
    if contact is None or contact.state is None:
        return canceled
    canceled["result"]["disposition"] = contact.disposition
    finished = {**canceled["conditions"][-1], "reason": contact.state, "message": "called already in this run"}
    return {**canceled, "state": contact.state, "conditions": [*canceled["conditions"][:-1], finished]}


def _canceled_status(status: Status, now: datetime, generation: int, why: str = "canceled") -> Status:
    """A session that is canceled before anybody was called, or between two attempts."""
    existing = status.get("conditions") or []
    return {
        **pending_status(status, None, now),
        "state": SessionState.CANCELED.value,
        "result": {"disposition": "canceled", "durationSeconds": None, "cost": None, "settled": True},
        "conditions": [
            condition(existing, "Admitted", False, "Canceled", "", now, generation),
            condition(existing, "Settled", True, "Settled", "", now, generation),
            condition(existing, "Finished", True, SessionState.CANCELED.value, why, now, generation),
        ],
    }


def why_unserved(session: Session, campaign: Campaign | None) -> str | None:
    """Why no Campaign has this session called, though it was meant to by whoever made it; None: one does.

    What a Campaign made itself goes with it, or with its run, and is told nothing.
    """
    name, run_id = session.spec.campaign, session.spec.run_id
    if session.spec.campaign_uid is not None:
        return None
    if campaign is None:
        return f"there is no Campaign {name} in this namespace"
    if campaign.meta.deleted:
        return f"the Campaign {name} is being deleted"
    if campaign.spec.run_id != run_id:
        return f"the Campaign {name} makes its run {campaign.spec.run_id}, and this session is of run {run_id}"
    return None


def next_look_s(attempt: Attempt, now: datetime) -> float | None:
    """In how many seconds to look whether the worker has stored what was said; None when it has, or never will.

    It does so a moment after the carrier's last word, or later: it hears the last words out, and PostgreSQL may be
    away. Each look is as far ahead as the call's end lies back.
    """
    if attempt.end_status != "completed" or attempt.disposition is not None or attempt.ended_at is None:
        return None
    since = now - attempt.ended_at
    return max(FIRST_LOOK_S, since.total_seconds()) if since < STORED_WITHIN else None


def retry_time(attempt: Attempt, attempts: Attempts) -> datetime | None:
    """When the same person may be tried again, or None when this attempt was the last.

    What never reached the carrier uses up none of the campaign's attempts, but has a bound and a growing pause of its
    own. A number that the carrier refuses as such is not tried again.
    """
    if attempt.state != "settled" or attempt.end_status not in _RETRYABLE or attempt.ended_at is None:
        return None
    if not attempt.counts:
        if attempt.not_placed >= NOT_PLACED_MAX:
            return None
        pause = NOT_PLACED_FIRST_PAUSE * (1 << min(attempt.not_placed - 1, 16))
        return attempt.ended_at + min(pause, NOT_PLACED_LONGEST_PAUSE)
    if attempt.tries >= attempts.max or attempt.end_status == "notPlaced":
        return None
    after = attempts.retry_after_minutes
    return attempt.ended_at + timedelta(minutes=after.busy if attempt.end_status == "busy" else after.no_answer)


def _final_state(attempt: Attempt) -> tuple[SessionState, Reason | None]:
    if attempt.cancel_requested_at is not None and attempt.end_status != "unresolved":
        return SessionState.CANCELED, None
    match attempt.end_status:
        case "completed" | "busy" | "no-answer":
            return SessionState.COMPLETED, None
        case "canceled":
            return SessionState.CANCELED, None
        case "unresolved":
            return SessionState.FAILED, Reason.DIAL_OUTCOME_UNKNOWN
        case _:
            return SessionState.FAILED, None


def _attempt_status(attempt: Attempt) -> dict[str, Any]:
    return {"id": str(attempt.id), "number": attempt.number, "held": format_micros(attempt.hold_micros)}


def _same(new: Status, old: Status) -> bool:
    """Equal but for what only marks the passing of time."""

    def comparable(status: Status) -> Status:
        kept: Status = without_nulls(status)
        kept["conditions"] = [(item["type"], item["status"], item["reason"]) for item in status.get("conditions") or []]
        return kept

    return comparable(new) == comparable(old)


def without_nulls(value: Any) -> Any:
    """A part of a status as the API server stores it: null fields are absent."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value
