"""The walk over open attempts in PostgreSQL: expiries, missing evidence; what is over is settled.

Watchdogs walk attempts, not objects, so that a forced finalizer or a restored etcd loses no call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from callfleet_core.dialing import EndEvidence, EndStatus
from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import MAX_ATTEMPTS_A_CYCLE, Attempt
from callfleet_operator.carriercall import FINAL_STATUSES, CarrierCall
from callfleet_operator.context import Context, Walk
from callfleet_operator.metrics import ACTIVE
from callfleet_operator.objects import Key
from callfleet_operator.reconcile.settlement import ask_and_settle, is_asked_for, settle
from callfleet_operator.together import each

EVERY_S = 1.0
# Carriers that are asked about calls at the same time; one that does not answer keeps no other's waiting.
CARRIERS_AT_ONCE = 4
# A grant that no session names after this long was never bound.
UNBOUND_AFTER = timedelta(seconds=15)
POLL_EVERY = timedelta(seconds=10)
LIVE_POLL_EVERY = timedelta(seconds=60)
EVIDENCE_MARGIN = timedelta(seconds=10)
CANCEL_PATIENCE = timedelta(seconds=5)
LOOKUP_AFTER = timedelta(seconds=30)
SECOND_LOOKUP_AFTER = timedelta(minutes=10)
# The carrier's clock and PostgreSQL's may differ by this much.
CLOCK_SKEW = timedelta(seconds=60)

_log = structlog.get_logger(__name__)


async def reconcile(context: Context) -> None:
    """One stretch of the walk; each attempt's trouble is its own."""
    walk = context.walk
    attempts = await context.ledger.unsettled_attempts(walk.after)
    walk.live += sum(attempt.state in {"dialing", "placed"} for attempt in attempts)
    if len(attempts) == MAX_ATTEMPTS_A_CYCLE:
        walk.after = attempts[-1]
        context.queue.add(Key("Attempts"))  # the walk goes on: what nobody can resolve keeps no other waiting
    else:
        ACTIVE.set(walk.live)
        context.walk = Walk()
    # A carrier that is slow to answer keeps nobody else's money: who has to be asked is asked elsewhere.
    failed = await settle(context, [item for item in attempts if _is_over(item) and not is_asked_for(item)])
    granted = [attempt for attempt in attempts if attempt.state == "granted"]
    await each(granted, lambda attempt: _alone(_tend_granted, context, attempt))
    for attempt in attempts:
        if attempt.state in {"dialing", "placed"} or (_is_over(attempt) and is_asked_for(attempt)):
            context.calls.setdefault(attempt.account_sid, {})[attempt.id] = attempt
            context.queue.add(Key("Calls", "", attempt.account_sid))
    if attempts:
        _log.debug("attempts walked", open=len(attempts), not_settled=failed)


async def look_after_calls(context: Context, key: Key) -> None:
    """Looks after one carrier account's calls, as the walk passed them: who is due is asked about."""
    if context.calling >= CARRIERS_AT_ONCE:
        context.queue.add_after(key, EVERY_S)
        return
    context.calling += 1
    try:
        calls = context.calls.pop(key.name, {}).values()
        live = [attempt for attempt in calls if not _is_over(attempt)]
        await each(live, lambda attempt: _alone(_tend_live, context, attempt))
        await ask_and_settle(context, [attempt for attempt in calls if _is_over(attempt)])
    finally:
        context.calling -= 1


def _is_over(attempt: Attempt) -> bool:
    return attempt.state in {"ended", "settled"}


async def _alone(
    tend: Callable[[Context, Attempt, datetime], Awaitable[None]], context: Context, attempt: Attempt
) -> None:
    """One attempt's trouble is its own, but for a leader that leads no more."""
    try:
        await tend(context, attempt, context.now())
    except StaleEpochError:
        raise
    except Exception as error:  # noqa: BLE001  # one attempt's trouble must not keep the others waiting
        _log.warning("attempt not tended", attempt=str(attempt.id), state=attempt.state, error=repr(error)[:300])


async def _tend_granted(context: Context, attempt: Attempt, now: datetime) -> None:
    reason = _revocation(context, attempt, now)
    if reason is not None and await context.ledger.revoke(attempt.id, reason) == "revoked":
        _log.info("grant revoked", attempt=str(attempt.id), reason=reason)
        context.queue.add(Key("CallSession", attempt.namespace, attempt.session_name))
        context.look_soon(Key("Admission"))


def _revocation(context: Context, attempt: Attempt, now: datetime) -> str | None:
    """Why a grant must be taken back, or None."""
    if attempt.over:  # by PostgreSQL's clock
        return "Expired"
    if attempt.uncovered:
        return "BudgetGone"
    campaign = context.store.campaign(attempt.namespace, attempt.campaign)
    if campaign is None or campaign.meta.deleted:
        return "CampaignGone"
    if campaign.spec.suspend:
        return "Suspended"
    if _is_pod_gone(context, attempt):
        return "PodLost"
    named = context.store.names_attempt(attempt.namespace, attempt.session_name, str(attempt.id))
    if not named and attempt.id not in context.binding and now - attempt.granted_at > UNBOUND_AFTER:
        return "NotBound"
    return None


async def _tend_live(context: Context, attempt: Attempt, now: datetime) -> None:
    context.queue.add_after(Key("CallSession", attempt.namespace, attempt.session_name), 6.0)
    begun = attempt.begun_at or now
    if attempt.call_sid is None:
        if now - begun > LOOKUP_AFTER:
            await _look_up(context, attempt, now, begun)
        return
    placed = attempt.placed_at or begun
    queue_ends = placed + timedelta(seconds=attempt.max_queue_s)
    if attempt.answered_at is not None:
        overdue = attempt.answered_at + timedelta(seconds=attempt.time_limit_s)
    else:
        overdue = queue_ends + timedelta(seconds=attempt.ring_timeout_s)
    # A canceled call was ended at the carrier: its callback may be missing, too.
    canceled = attempt.cancel_requested_at is not None and now - attempt.cancel_requested_at > CANCEL_PATIENCE
    # Nobody would talk to whoever picks up now. A call that was answered is ended by the gateway, whose leg is dead.
    gone = _is_pod_gone(context, attempt)
    lost = attempt.answered_at is None and gone
    if _asked_lately(attempt, now):
        return
    # A completed callback may be lost: a call is asked after now and then while it is thought to be live, and once
    # whether it is in the carrier's queue for longer than it may be.
    asked = attempt.last_lookup_at or placed
    queues = attempt.answered_at is None and asked < queue_ends <= now - EVIDENCE_MARGIN
    patience = POLL_EVERY if gone else LIVE_POLL_EVERY
    if now < overdue + EVIDENCE_MARGIN and not (canceled or lost or queues) and now - asked < patience:
        return
    await context.ledger.note_lookup(attempt.id, empty=False)
    carrier = await context.carriers.client(attempt.account_sid)
    call = await carrier.fetch(attempt.call_sid)
    hard_end = overdue if attempt.answered_at else overdue + timedelta(seconds=attempt.time_limit_s)
    if (
        call is not None
        and call.status not in FINAL_STATUSES
        and (lost or (call.status == "queued" and (canceled or now >= queue_ends)) or now > hard_end + EVIDENCE_MARGIN)
    ):
        call = await carrier.end(attempt.call_sid)
    if call is not None:
        await record_end(context, attempt.id, call, now)


def _is_pod_gone(context: Context, attempt: Attempt) -> bool:
    return all(pod.meta.uid != attempt.granted_pod_uid for pod in context.store.pods(attempt.namespace))


def _asked_lately(attempt: Attempt, now: datetime) -> bool:
    return attempt.last_lookup_at is not None and now - attempt.last_lookup_at < POLL_EVERY


async def record_end(context: Context, attempt_id: UUID, call: CarrierCall, now: datetime) -> None:
    """Says how a call ended, if it has."""
    status: EndStatus | None = FINAL_STATUSES.get(call.status)
    if status is None:
        return
    evidence = EndEvidence(source="operator", status=status, call_sid=call.sid, duration_s=call.duration_s, at=now)
    await context.dialing.record_ended(attempt_id, evidence)


async def find_call(context: Context, attempt_id: UUID, account_sid: str, begun: datetime) -> CarrierCall | None:
    """The call of an attempt whose placing got no answer, by the carrier's list; None where it has none.

    Of the calls that are no other attempt's, the one created closest to ours is ours; no other is touched.
    """
    numbers = await context.privacy.numbers(attempt_id)
    carrier = await context.carriers.client(account_sid)
    calls = await carrier.find(to=numbers.to, from_=numbers.from_, since=begun - CLOCK_SKEW)
    known = await context.ledger.known_sids([call.sid for call in calls])
    ours = [call for call in calls if call.sid not in known]
    return min(ours, key=lambda call: abs((call.created or begun) - begun), default=None)


async def _look_up(context: Context, attempt: Attempt, now: datetime, begun: datetime) -> None:
    """Searches the carrier's list for a call whose placing got no answer. It is never placed again."""
    wait = SECOND_LOOKUP_AFTER if attempt.lookups_empty else POLL_EVERY
    if attempt.last_lookup_at is not None and now - attempt.last_lookup_at < wait:
        return
    ours = await find_call(context, attempt.id, attempt.account_sid, begun)
    await context.ledger.note_lookup(attempt.id, empty=ours is None)
    if ours is not None:
        await context.dialing.record_placed(attempt.id, ours.sid)
        await record_end(context, attempt.id, ours, now)
    elif attempt.lookups_empty >= 1:
        _log.warning("dial outcome unknown", attempt=str(attempt.id))
        await context.dialing.record_ended(attempt.id, EndEvidence(source="operator", status="unresolved", at=now))
        context.queue.add(Key("CallSession", attempt.namespace, attempt.session_name))
