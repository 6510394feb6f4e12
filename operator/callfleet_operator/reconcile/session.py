"""A CallSession: what its attempt's row says, written into its status; its cancellation, its end, its deletion."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from callfleet_core.api.callsession import TERMINAL_STATES, SessionState
from callfleet_core.api.campaign import Attempts
from callfleet_core.ledger import OPEN_STATES, Attempt
from callfleet_core.money import parse_micros
from callfleet_core.runs import Run
from callfleet_operator.context import Context
from callfleet_operator.metrics import record_finished
from callfleet_operator.objects import SETTLE_FINALIZER, Campaign, Key, Meta, Session, Unreadable, parse_time
from callfleet_operator.plan.session import FIRST_LOOK_S, Status, next_look_s, plan_session

# What is open is looked at again this soon while it is being ended.
ENDING_EVERY_S = 2.0
# A worker begins within a second or two of its grant. A grant that begin_dial refuses changes no object, and the worker
# tells nobody: its session is looked at so often until the grant is over, two minutes at most.
GRANTED_EVERY_S = 5.0


async def reconcile(context: Context, key: Key) -> None:
    """Repairs or finishes the session's status, ends what is canceled, lets go of what is deleted."""
    if (found := context.store.unreadable(key)) is not None:
        await _let_unreadable_go(context, key, found)
        return
    session = context.store.session(key.namespace, key.name)
    if session is None or await _took_hold(context, session):
        return
    campaign = context.store.campaign(key.namespace, session.spec.campaign)
    if _is_undecided(context, session):
        return
    attempt = await _latest(context, session)
    if _is_only_witness(context, session, attempt):
        return
    cancel = _is_canceled(context, session, campaign, attempt)
    if attempt is not None and attempt.state in OPEN_STATES and cancel:
        await end_attempt(context, attempt)
        context.queue.add_after(key, ENDING_EVERY_S)
        attempt = await _latest(context, session)
    if attempt is not None and attempt.state == "granted":
        context.queue.add_after(key, GRANTED_EVERY_S)
    attempts, now = campaign.spec.attempts if campaign else Attempts(), context.now()
    left_s = session.seconds_left(now)
    late = left_s is not None and left_s <= 0
    if left_s is not None and not late and not session.is_terminal:
        context.queue.add_after(key, left_s)
    status = plan_session(session.status, attempt, attempts, now, session.meta.generation, cancel=cancel, late=late)
    if status is not None:
        # Without its Campaign nobody knows whether a busy person would be tried again.
        unsaid = campaign is None or status["state"] == SessionState.CANCELED
        goes_on = unsaid and _is_put_aside(context, session, campaign, attempt)
        await _write(context, session, status, goes_on=goes_on)
    elif session.meta.deleted:
        await _let_go(context, session.meta, attempt)
    elif session.is_terminal and campaign is not None:
        look_s = None if attempt is None else next_look_s(attempt, now)
        if look_s is not None:
            context.queue.add_after(key, look_s)
        await _expire(context, session, campaign)


async def _took_hold(context: Context, session: Session) -> bool:
    """Puts our finalizer on one that was made by hand: nobody is called whose session could go without us.

    True when it did: the watch brings the session back with its new version.
    """
    if SETTLE_FINALIZER in session.meta.finalizers or session.meta.deleted or session.is_terminal:
        return False
    await context.kube.set_finalizers("CallSession", session.meta, [*session.meta.finalizers, SETTLE_FINALIZER])
    return True


def _is_only_witness(context: Context, session: Session, attempt: Attempt | None) -> bool:
    """True while the ledger is being rebuilt and this status names a call that the database has forgotten."""
    named = (session.status.get("attempt") or {}).get("id")
    return context.trust.recovering is not None and named is not None and (attempt is None or str(attempt.id) != named)


async def _latest(context: Context, session: Session) -> Attempt | None:
    attempt = await context.latest_attempt(session.meta.namespace, session.meta.name)
    return attempt if attempt is not None and is_this_call(session, attempt) else None


def is_this_call(session: Session, attempt: Attempt) -> bool:
    """False for an attempt of another contact, run or campaign whose object had the same name."""
    spec = session.spec
    return (attempt.campaign, attempt.run_id, str(attempt.contact_id)) == (spec.campaign, spec.run_id, spec.contact_id)


def _is_canceled(context: Context, session: Session, campaign: Campaign | None, attempt: Attempt | None) -> bool:
    """Canceled by its spec, or deleted: by hand, or with a Campaign that hangs up. A draining one lets it end.

    So does one that went without us, since nobody knows what it would have: whom a worker calls is not cut off, unless
    somebody wanted it to end before. Whom that call does not reach is due, should the Campaign be made again.
    """
    if session.spec.cancel:
        return True
    if not session.meta.deleted:
        return False
    owner = _owner(context, session)
    by_hand = session.spec.campaign_uid is None if owner is None else not owner.deleted
    if by_hand:
        return True
    if owner is not None and campaign is not None:
        return campaign.spec.deletion_policy == "HangUp"
    return attempt is None or attempt.state == "granted" or attempt.cancel_requested_at is not None


def _owner(context: Context, session: Session) -> Meta | None:
    """The session's Campaign, also one that cannot be read; None: it is gone, though another may have its name."""
    found = context.store.meta(session.owner)
    return found if found is not None and session.spec.campaign_uid in {None, found.uid} else None


def _is_undecided(context: Context, session: Session) -> bool:
    """How often somebody is tried is the Campaign's to say: while that cannot be read, nothing ends by itself."""
    return context.store.unreadable(session.owner) is not None and not (session.spec.cancel or session.meta.deleted)


def _is_put_aside(context: Context, session: Session, campaign: Campaign | None, attempt: Attempt | None) -> bool:
    """Waited, and goes with its Campaign, or because that makes another run now: nobody took its person out of the run.

    Should the Campaign, or the run, come back, the person is due in it again. So is one whose session was made by hand:
    its spec cannot be changed, and who made it may make another.
    """
    waits = session.state is SessionState.PENDING or (session.state is SessionState.ADMITTED and attempt is None)
    if not waits or not session.meta.deleted or session.spec.cancel:
        return False
    if session.spec.campaign_uid is None:
        return True
    owner = context.store.unreadable(session.owner)
    if owner is not None:
        return owner.meta.deleted
    if campaign is None or campaign.meta.deleted or not session.is_of(campaign):
        return True
    return session.meta.uid in context.put_aside


async def end_attempt(context: Context, attempt: Attempt) -> None:
    """Ends an open attempt: mirrored first, so that begin_dial and TwiML refuse; then revoked, or hung up."""
    await context.ledger.request_cancel(attempt.id)
    if await context.ledger.revoke(attempt.id, "Canceled") == "revoked" or attempt.call_sid is None:
        return
    await (await context.carriers.client(attempt.account_sid)).end(attempt.call_sid)
    context.queue.add(Key("Attempts"))


async def _write(context: Context, session: Session, status: Status, *, goes_on: bool) -> None:
    """`goes_on`: that the object ends does not mean that its contact is done in its run."""
    state = SessionState(status["state"])
    namespace, campaign = session.meta.namespace, session.spec.campaign
    if state in TERMINAL_STATES and not goes_on:
        # PostgreSQL first: whatever happens to the object, this contact is done in this run.
        await context.runs.finish(
            Run(namespace, campaign, session.spec.run_id),
            UUID(session.spec.contact_id),
            state=state.value,
            disposition=status["result"]["disposition"],
        )
    body = await context.kube.write_status("CallSession", session.meta, status)
    context.store.apply("CallSession", body)
    if state in TERMINAL_STATES:
        if not session.is_terminal:
            await _tell_end(context, session, state, status)
        # The watch asks for it sooner; an audit would not, for the store has this version already.
        context.queue.add_after(Key("CallSession", namespace, session.meta.name), FIRST_LOOK_S)
    context.look_soon(session.owner)
    context.look_soon(Key("Admission"))


async def _tell_end(context: Context, session: Session, state: SessionState, status: Status) -> None:
    result: dict[str, Any] = status["result"]
    cost, seconds = result["cost"], result["durationSeconds"]
    record_finished(state.value, seconds, None if cost is None else parse_micros(cost))
    if state is SessionState.FAILED:
        detail = f"{result['disposition']}, {seconds or 0} s, cost {cost or 'not settled'}"
        await context.tell("CallSession", session.meta, state.value, detail, warning=True)


async def _let_unreadable_go(context: Context, key: Key, found: Unreadable) -> None:
    """One that this operator cannot read is called by nobody; deleted, its call is ended, and it goes."""
    if not found.meta.deleted:
        return
    attempt = await context.latest_attempt(key.namespace, key.name)
    if attempt is not None and attempt.state in OPEN_STATES:
        await end_attempt(context, attempt)
    await _let_go(context, found.meta, attempt)


async def _let_go(context: Context, meta: Meta, attempt: Attempt | None) -> None:
    """Removes our finalizer from a deleted session once nothing of it is open; its money is the ledger's to settle."""
    if attempt is not None and attempt.state in OPEN_STATES:
        context.queue.add_after(Key("CallSession", meta.namespace, meta.name), ENDING_EVERY_S)
        return
    context.put_aside.discard(meta.uid)
    kept = [name for name in meta.finalizers if name != SETTLE_FINALIZER]
    if len(kept) < len(meta.finalizers):
        await context.kube.set_finalizers("CallSession", meta, kept)


async def _expire(context: Context, session: Session, campaign: Campaign) -> None:
    """Deletes a finished session after its Campaign's TTL; what happened stays in PostgreSQL."""
    if not (session.status.get("result") or {}).get("settled"):
        return
    due = _finished_at(session) + timedelta(seconds=campaign.spec.ttl_seconds_after_finished)
    left_s = (due - context.now()).total_seconds()
    if left_s > 0:
        context.queue.add_after(Key("CallSession", session.meta.namespace, session.meta.name), left_s)
    else:
        await context.kube.delete_session(session.meta)


def _finished_at(session: Session) -> datetime:
    finished = next((item for item in session.status.get("conditions") or [] if item["type"] == "Finished"), None)
    return parse_time(finished["lastTransitionTime"]) if finished else session.meta.created
