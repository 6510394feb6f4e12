"""The admission cycle: snapshot, plan, hold, bind (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from callfleet_core.api.callsession import Reason
from callfleet_core.api.campaign import Attempts
from callfleet_core.db.outages import is_the_servers
from callfleet_core.ids import time_ordered_id
from callfleet_core.ledger import GRANT_EXPIRES_AFTER_S, HoldAnswer, HoldRequest, HoldResult, Ledger
from callfleet_core.money import format_micros
from callfleet_core.runs import Run
from callfleet_operator.apiserver import ConflictError, RefusedError
from callfleet_operator.context import Context
from callfleet_operator.metrics import ADMISSIONS, CYCLE_SECONDS
from callfleet_operator.objects import Key, PodProblem, Session
from callfleet_operator.pause import pause_point
from callfleet_operator.plan.admission import (
    Admit,
    Slot,
    Snapshot,
    Wait,
    leads_after,
    plan_admissions,
    plan_in_line,
    plan_openings,
)
from callfleet_operator.plan.limits import wanted_in_force
from callfleet_operator.plan.model import serving_script
from callfleet_operator.plan.session import Status, admission_told, admitted_status, pending_status, plan_closed
from callfleet_operator.plan.told import RETOLD_EVERY, News, in_turn, message_of, news_of
from callfleet_operator.reconcile import budget, installation, protection, witness
from callfleet_operator.reconcile import campaign as campaigns
from callfleet_operator.reconcile.session import GRANTED_EVERY_S, is_this_call
from callfleet_operator.reconcile.snapshot import Unserved, take_snapshot
from callfleet_operator.together import each

EVERY_S = 2.0
# Holds of one cycle; the rest come in the next, which follows at once.
MAX_HOLDS_A_CYCLE = 500
# Reasons written in one cycle, likewise: nobody who could be called waits until thousands were told why they are not.
MAX_WAITS_A_CYCLE = 200

_log = structlog.get_logger(__name__)


async def reconcile(context: Context) -> None:
    """One cycle over everything that waits."""
    with CYCLE_SECONDS.time():  # not as a decorator, which would only time the coroutine's making
        async with context.placement:
            await _cycle(context)


async def _cycle(context: Context) -> None:
    await witness.assert_trusted(context)
    await put_limits_in_force(context)
    snapshot, sessions, unserved = await take_snapshot(context, await context.ledger.open_attempts())
    decisions = plan_admissions(snapshot, context.now())
    _remember_turns(context, snapshot, decisions)
    context.openings = plan_openings(snapshot, context.now())
    context.in_line = frozenset(sessions[item.key].meta.uid for item in plan_in_line(snapshot, decisions))
    admits = [item for item in decisions if isinstance(item, Admit)][:MAX_HOLDS_A_CYCLE]
    waits = [item for item in decisions if isinstance(item, Wait)]
    if admits and await _hold_and_bind(context, admits, sessions):
        context.queue.add(Key("Admission"))
    await _write_waits(context, waits, sessions)
    await _write_unserved(context, unserved)
    for pool in sorted({item.session.pool for item in decisions}):
        context.queue.add(Key("Pool", *pool))


def _remember_turns(context: Context, snapshot: Snapshot, decisions: Sequence[Admit | Wait]) -> None:
    """Who has had more than the least served, for the next plan; a new leader begins with what is open."""
    now, turns = context.now(), context.turns
    passed_s = 0.0 if turns.planned_at is None else max(0.0, (now - turns.planned_at).total_seconds())
    turns.leads_s = leads_after(snapshot, decisions, passed_s)
    turns.planned_at = now


async def put_limits_in_force(context: Context) -> None:
    """No hold under a limit, or for a campaign, older than the object in the store, and none before a new day's or
    month's limit is there: after a start, above all, and after midnight."""
    now = context.now()
    for item in context.store.budgets():
        key = Key("Budget", item.meta.namespace, item.meta.name)
        if context.in_force.get(key) != wanted_in_force(item, now):
            await budget.reconcile(context, key)
    for campaign in context.store.campaigns():
        key = Key("Campaign", campaign.meta.namespace, campaign.meta.name)
        if context.in_force.get(key) != wanted_in_force(campaign, now):
            await campaigns.put_in_force(context, campaign)
    if context.uncovered != (keys := installation.keys(context, now)):
        await installation.put_in_force(context, now)
        context.uncovered = keys


async def _hold_and_bind(context: Context, admits: Sequence[Admit], sessions: dict[tuple[str, str], Session]) -> bool:
    """True when something was held, so that there may be more to do at once.

    Marks first: a pod that cannot be marked, again and again, must not cost a hold and its return each time.
    """
    kept = await _protected(context, {admit.slot for admit in admits})
    admits = [admit for admit in admits if admit.slot in kept]
    if not admits:
        return False
    numbers = await _attempt_numbers(context, admits)
    scripts = _scripts(context, admits)
    requests = [_hold_request(context, admit, sessions[admit.session.key], numbers, scripts) for admit in admits]
    context.binding = {request.attempt_id for request in requests}
    try:
        answers = await hold(context.ledger, requests)
        await pause_point(context.settings.callfleet_test_pause, "after-hold")
        held = zip(admits, requests, answers, strict=True)
        await each(held, lambda item: _follow(context, *item, sessions[item[0].session.key]))
    finally:
        context.binding = set()
    return any(answer.result is HoldResult.HELD for answer in answers)


async def _follow(context: Context, admit: Admit, request: HoldRequest, answer: HoldAnswer, session: Session) -> None:
    """What the ledger's answer means for the session."""
    ADMISSIONS.labels(result=answer.result.value).inc()
    if answer.result is HoldResult.HELD:
        await _bind_or_revoke(context, admit, request, session)
    elif answer.result is HoldResult.WINDOW_CLOSED:
        # The day ended between plan and hold: the next cycle takes the new window's account.
        context.queue.add_after(Key("Admission"), 1.0)
    elif answer.result is HoldResult.CLOSED:
        await _end_closed(context, session)
    else:
        await _write_wait(context, session, _refused(admit, answer))


async def hold(ledger: Ledger, requests: Sequence[HoldRequest]) -> list[HoldAnswer]:
    """One transaction for the batch; when PostgreSQL refuses it, one for each, so that one bad item stops no other."""
    try:
        return await ledger.hold(requests)
    except DBAPIError as error:
        # What the server lacks, it lacks for each: five hundred would wait for one lock, one after the other.
        if is_the_servers(error) or len(requests) == 1:
            raise
    answers: list[HoldAnswer] = []
    for request in requests:
        try:
            answers += await ledger.hold([request])
        except DBAPIError as error:
            _log.error("a hold was refused", session=request.session_name, error=type(error.orig).__name__)
            answers.append(_asked_later(request))
            if is_the_servers(error):
                break
    return answers + [_asked_later(request) for request in requests[len(answers) :]]


def _asked_later(request: HoldRequest) -> HoldAnswer:
    """An answer upon which the next cycle asks again."""
    return HoldAnswer(request.attempt_id, HoldResult.WINDOW_CLOSED)


async def _end_closed(context: Context, session: Session) -> None:
    """A session that may not be called (again): it ends as its contact did, or canceled when it is on no list."""
    key = Key("CallSession", session.meta.namespace, session.meta.name)
    campaign = context.store.campaign(session.meta.namespace, session.spec.campaign)
    latest = (await context.ledger.latest_attempts(session.meta.namespace, [session.meta.name])).get(session.meta.name)
    attempt = latest if latest is not None and is_this_call(session, latest) else None
    run = Run(session.meta.namespace, session.spec.campaign, session.spec.run_id)
    known = await context.runs.find(run, UUID(session.spec.contact_id))
    attempts = campaign.spec.attempts if campaign else Attempts()
    status = plan_closed(session.status, attempt, attempts, known, context.now(), session.meta.generation)
    if status is None:
        context.queue.add(key)  # its status follows from its last attempt
        return
    try:
        context.store.apply("CallSession", await context.kube.write_status("CallSession", session.meta, status))
    except ConflictError:
        _pass_over(context, session)


def _pass_over(context: Context, session: Session) -> None:
    """Nobody acts on this view of it until the watch has brought a newer one, or had the time to."""
    meta = session.meta
    context.stale.note((meta.namespace, meta.name, meta.resource_version), context.now())


async def _protected(context: Context, slots: AbstractSet[Slot]) -> set[Slot]:
    """The slots whose pods are kept for their calls, from now on."""
    kept: set[Slot] = set()

    async def protect(slot: Slot) -> None:
        pod = context.store.pod(slot.pool[0], slot.pod_name)
        if pod is None or pod.meta.uid != slot.pod_uid:
            return
        pool = Key("Pool", *slot.pool)
        try:
            await protection.protect(context, pod)
        except Exception as error:  # noqa: BLE001  # whatever it was, other pods may have the calls
            _log.warning("worker not kept", pod=slot.pod_name, error=type(error).__name__)
            context.unkept.note(slot.pod_uid, context.now())
            context.queue.add_after(Key("Admission"), 1.0)
            if isinstance(error, RefusedError):
                context.mark_problems[pool] = PodProblem("MarkRefused", str(error))
        else:
            context.mark_problems.pop(pool, None)
            kept.add(slot)

    await each(sorted(slots, key=lambda slot: slot.pod_name), protect)
    return kept


async def _bind_or_revoke(context: Context, admit: Admit, request: HoldRequest, session: Session) -> None:
    """A bind that fails takes its grant back and leaves the others alone."""
    try:
        await _bind(context, admit, request, session)
    except Exception as error:  # noqa: BLE001  # whatever it was, the grant is taken back and the others are bound
        _log.warning("bind refused", session=session.meta.name, error=type(error).__name__)
        await context.ledger.revoke(request.attempt_id, "BindRefused")
        _pass_over(context, session)
        context.queue.add(Key("CallSession", *admit.session.key))


async def _attempt_numbers(context: Context, admits: Sequence[Admit]) -> dict[tuple[str, str], int]:
    """The next attempt's number of each session; revoked ones don't count."""
    numbers: dict[tuple[str, str], int] = {}
    by_namespace: dict[str, list[str]] = {}
    for admit in admits:
        by_namespace.setdefault(admit.session.key[0], []).append(admit.session.key[1])
    for namespace, names in by_namespace.items():
        latest = await context.ledger.latest_attempts(namespace, names)
        numbers |= {(namespace, name): latest[name].number + 1 if name in latest else 1 for name in names}
    return numbers


def _scripts(context: Context, admits: Sequence[Admit]) -> dict[tuple[str, str], dict[str, Any]]:
    """Each campaign's script as it is now: once a cycle, since all its calls say the same."""
    found = {key: context.store.campaign(*key) for key in {admit.session.campaign for admit in admits}}
    return {
        key: serving_script(campaign).model_dump(mode="json", by_alias=True, exclude_none=True)
        for key, campaign in found.items()
        if campaign is not None
    }


def _hold_request(
    context: Context,
    admit: Admit,
    session: Session,
    numbers: Mapping[tuple[str, str], int],
    scripts: Mapping[tuple[str, str], dict[str, Any]],
) -> HoldRequest:
    campaign = context.store.campaign(*admit.session.campaign)
    if campaign is None or admit.session.carrier is None or admit.session.hold_micros is None:
        raise ConflictError("a Campaign vanished between plan and hold: planning again")
    call, left_s = campaign.spec.call, session.seconds_left(context.now())
    return HoldRequest(
        attempt_id=time_ordered_id(),
        number=numbers[admit.session.key],
        namespace=session.meta.namespace,
        campaign=session.spec.campaign,
        run_id=session.spec.run_id,
        contact_id=UUID(session.spec.contact_id),
        session_name=session.meta.name,
        session_uid=session.meta.uid,
        pod_uid=admit.slot.pod_uid,
        amount_micros=admit.session.hold_micros,
        currency=session.spec.currency,
        accounts=admit.session.accounts,
        time_limit_s=admit.session.time_limit_s,
        ring_timeout_s=call.ring_timeout_seconds,
        max_queue_s=call.max_queue_seconds,
        account_sid=admit.session.carrier,
        from_number=call.from_[admit.session.position % len(call.from_)],
        time_zone=campaign.spec.time_zone,
        max_attempts=campaign.spec.attempts.max,
        caps=admit.session.caps,
        script=scripts[admit.session.campaign],
        # A grant that has expired cannot be begun: PostgreSQL keeps the session's notAfter.
        expires_after_s=GRANT_EXPIRES_AFTER_S if left_s is None else min(GRANT_EXPIRES_AFTER_S, max(1, int(left_s))),
    )


async def _bind(context: Context, admit: Admit, request: HoldRequest, session: Session) -> None:
    attempt = {
        "id": str(request.attempt_id),
        "number": request.number,
        "held": format_micros(request.amount_micros),
    }
    status = admitted_status(session.status, attempt, admit.slot.pod_name, admit.slot.pod_uid, context.now())
    body = await context.kube.write_status("CallSession", session.meta, status)
    context.store.apply("CallSession", body)
    context.queue.add_after(Key("CallSession", *admit.session.key), GRANTED_EVERY_S)
    _log.info("session admitted", session=session.meta.name, attempt=str(request.attempt_id), held=attempt["held"])


def _refused(admit: Admit, answer: HoldAnswer) -> Wait:
    return Wait(admit.session, Reason(answer.result.value), answer.shortfall_micros)


async def _write_waits(context: Context, waits: Sequence[Wait], sessions: Mapping[tuple[str, str], Session]) -> None:
    """Writes what is untrue; what is left over comes in the next cycle, after whoever can be admitted then.

    What has only moved is written when nothing else is to be.
    """
    now, retold = context.now(), context.retold
    news: dict[News, list[Wait]] = {kind: [] for kind in News}
    for wait in waits:
        news[news_of(sessions[wait.session.key].status, wait, now)].append(wait)
    chosen = news[News.UNTRUE][:MAX_WAITS_A_CYCLE]
    if len(chosen) < len(news[News.UNTRUE]):
        context.queue.add(Key("Admission"))
    elif news[News.MOVED] and (retold.at is None or now - retold.at >= RETOLD_EVERY):
        chosen += in_turn(news[News.MOVED], retold.last)
        retold.last, retold.at = chosen[-1].session.key, now
    await each(chosen, lambda wait: _write_wait(context, sessions[wait.session.key], wait))


async def _write_wait(context: Context, session: Session, wait: Wait) -> None:
    now, status, message = context.now(), session.status, message_of(wait)
    if news_of(status, wait, now) is News.NONE:
        return
    wanted = pending_status(
        status, wait.reason, now, shortfall_micros=wait.shortfall_micros, retry_at=wait.retry_at, message=message
    )
    if not await _write(context, session, wanted):
        return
    if status.get("reason") != wait.reason.value and wait.reason in _TOLD:
        await context.tell("CallSession", session.meta, wait.reason.value, message or "waits", warning=True)


async def _write_unserved(context: Context, unserved: Sequence[Unserved]) -> None:
    """Says of sessions that no Campaign has called why not; what is left over comes in a later cycle."""
    now = context.now()

    async def write(item: Unserved) -> None:
        await _write(
            context, item.session, pending_status(item.session.status, Reason.SUSPENDED, now, message=item.why)
        )

    news = [item for item in unserved if admission_told(item.session.status) != item.why]
    await each(news[:MAX_WAITS_A_CYCLE], write)


async def _write(context: Context, session: Session, wanted: Status) -> bool:
    """Whether it was written; where it changed meanwhile, the watch brings the news and the next cycle looks again."""
    try:
        body = await context.kube.write_status("CallSession", session.meta, wanted)
    except ConflictError:
        _pass_over(context, session)
        return False
    context.store.apply("CallSession", body)
    context.look_soon(session.owner)
    return True


# Reasons that somebody may want to act on; the others come and go by themselves.
_TOLD = {
    Reason.BUDGET_EXHAUSTED,
    Reason.BUDGET_NOT_FOUND,
    Reason.PER_CALL_LIMIT,
    Reason.CURRENCY_MISMATCH,
    Reason.NO_CONSENT,
    Reason.DO_NOT_CALL,
    Reason.CARRIER_NOT_READY,
    Reason.NO_PRICE,
}
