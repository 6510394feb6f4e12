"""The admission cycle: snapshot, plan, hold, bind (docs/architecture.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from callfleet_core.api.callsession import Reason, SessionState
from callfleet_core.carriers import CarrierAccount
from callfleet_core.errors import NoPriceError
from callfleet_core.ids import time_ordered_id
from callfleet_core.ledger import OPEN_STATES, Attempt, HoldAnswer, HoldRequest, HoldResult
from callfleet_core.money import format_micros, parse_micros
from callfleet_core.pricing import CallBounds, total_micros
from callfleet_core.runs import Run
from callfleet_core.windows import TimeZoneError
from callfleet_operator.context import Context
from callfleet_operator.kube import ConflictError
from callfleet_operator.manifests import pool_name
from callfleet_operator.metrics import ADMISSIONS, CYCLE_SECONDS
from callfleet_operator.objects import Campaign, Key, Session, format_time
from callfleet_operator.pause import pause_point
from callfleet_operator.plan.admission import (
    AccountView,
    Admit,
    CampaignView,
    PendingSession,
    Slot,
    Snapshot,
    Wait,
    plan_admissions,
)
from callfleet_operator.plan.limits import account_keys
from callfleet_operator.plan.session import admitted_status, closed_status, pending_status, retry_time
from callfleet_operator.reconcile import budget, installation
from callfleet_operator.reconcile import campaign as campaigns
from callfleet_operator.reconcile.session import is_this_call

EVERY_S = 2.0
# Holds of one cycle; the rest come in the next, which follows at once.
MAX_HOLDS_A_CYCLE = 500

_log = structlog.get_logger(__name__)


@CYCLE_SECONDS.time()
async def reconcile(context: Context) -> None:
    """One cycle over everything that waits."""
    async with context.placement:
        await _cycle(context)


async def _cycle(context: Context) -> None:
    await _put_limits_in_force(context)
    attempts = await context.ledger.unsettled_attempts()
    snapshot, sessions = await take_snapshot(context, attempts)
    decisions = plan_admissions(snapshot, context.now())
    admits = [item for item in decisions if isinstance(item, Admit)][:MAX_HOLDS_A_CYCLE]
    waits = [item for item in decisions if isinstance(item, Wait)]
    if admits and await _hold_and_bind(context, admits, sessions):
        context.queue.add(Key("Admission"))
    for wait in waits:
        await _write_wait(context, sessions[wait.session.key], wait)
    for pool in {item.session.pool for item in decisions}:
        context.queue.add(Key("Pool", *pool))


async def _put_limits_in_force(context: Context) -> None:
    """No hold under a limit, or for a campaign, older than the object in the store: after a start, above all."""
    for item in context.store.budgets():
        if context.in_force.get(Key("Budget", item.meta.namespace, item.meta.name)) != item.meta.version:
            await budget.reconcile(context, Key("Budget", item.meta.namespace, item.meta.name))
    for campaign in context.store.campaigns():
        key = Key("Campaign", campaign.meta.namespace, campaign.meta.name)
        if context.in_force.get(key) != campaign.meta.version:
            await campaigns.mirror(context, campaign)


async def take_snapshot(
    context: Context, attempts: Sequence[Attempt]
) -> tuple[Snapshot, dict[tuple[str, str], Session]]:
    """What the planner needs, and the sessions by key."""
    pending: list[PendingSession] = []
    sessions: dict[tuple[str, str], Session] = {}
    open_by_session = {(item.namespace, item.session_name) for item in attempts}
    for session in context.store.sessions():
        key = (session.meta.namespace, session.meta.name)
        campaign = context.store.campaign(session.meta.namespace, session.spec.campaign)
        done = session.meta.deleted or session.spec.cancel
        if session.state is not SessionState.PENDING or done or key in open_by_session:
            continue
        if campaign is None or campaign.meta.deleted or session.spec.run_id != campaign.spec.run_id:
            continue
        if context.carriers.of(campaign) is None:
            continue  # its Secret is being read
        if context.stale.get(key) == session.meta.resource_version:
            continue  # its last bind was refused: the watch has not caught up yet
        try:
            pending.append(_pending(context, session, campaign))
        except TimeZoneError:
            continue  # its Campaign says that it stalls, and why
        sessions[key] = session
    pending = await _with_what_postgres_knows(context, pending, sessions)
    live = Counter((item.namespace, item.campaign) for item in attempts if item.state in OPEN_STATES)
    views = {
        (item.meta.namespace, item.meta.name): CampaignView(
            suspended=item.spec.suspend,
            max_concurrent=item.spec.pacing.max_concurrent,
            open_attempts=live[(item.meta.namespace, item.meta.name)],
        )
        for item in context.store.campaigns()
    }
    accounts = {
        balance.key: AccountView(
            balance.currency,
            balance.limit_micros,
            balance.held_micros,
            balance.spent_micros,
            usable=not balance.closed,
            suspended=balance.suspended or balance.overrun,
            window_end=balance.window_end,
        )
        for balance in await context.ledger.balances()
    }
    room = _carrier_room(context, attempts)
    slots = free_slots(context, attempts)
    return Snapshot(pending, views, accounts, slots, room, context.costs.currency), sessions


def _carrier_room(context: Context, attempts: Sequence[Attempt]) -> dict[str, int]:
    """How many calls each account takes beside its open ones."""
    live = Counter(item.account_sid for item in attempts if item.state in OPEN_STATES)
    found = (context.carriers.of(campaign) for campaign in context.store.campaigns())
    usable = {item.account_sid: item for item in found if isinstance(item, CarrierAccount)}
    return {sid: max(0, account.max_concurrent - live[sid]) for sid, account in usable.items()}


async def _worst_cases(
    context: Context, sessions: Mapping[tuple[str, str], Session]
) -> dict[tuple[str, str], int | None]:
    """What must be held for each session, in micros; None where no price covers its destination."""
    contacts = [UUID(session.spec.contact_id) for session in sessions.values()]
    prefixes = await context.contacts.prefixes(contacts)
    now, known = context.now(), dict[tuple[str, int], int | None]()

    def worst(prefix: str, limit_s: int) -> int | None:
        if (prefix, limit_s) not in known:
            try:
                known[prefix, limit_s] = total_micros(context.costs.worst_case(CallBounds(prefix, limit_s), now))
            except NoPriceError:
                known[prefix, limit_s] = None
        return known[prefix, limit_s]

    return {
        key: worst(prefixes.get(UUID(session.spec.contact_id), ""), session.spec.max_duration_seconds)
        for key, session in sessions.items()
    }


async def _with_what_postgres_knows(
    context: Context, pending: Sequence[PendingSession], sessions: Mapping[tuple[str, str], Session]
) -> list[PendingSession]:
    """The same sessions, with the gate's word on each, when it may be tried again, and what must be held for it."""
    calls = [(UUID(sessions[item.key].spec.contact_id), item.carrier) for item in pending]
    refusals = await context.contacts.refusals(calls)
    retries = await _retry_times(context, sessions)
    worst = await _worst_cases(context, sessions)
    return [
        replace(
            item,
            refusal=Reason(refusal) if refusal else None,
            retry_at=retries.get(item.key),
            hold_micros=worst[item.key],
        )
        for item, refusal in zip(pending, refusals, strict=True)
    ]


async def _retry_times(
    context: Context, sessions: Mapping[tuple[str, str], Session]
) -> dict[tuple[str, str], datetime]:
    """When sessions whose last attempt was busy or unanswered may be tried again: the attempts' rows say so."""
    times: dict[tuple[str, str], datetime] = {}
    for namespace in {key[0] for key in sessions}:
        names = [name for space, name in sessions if space == namespace]
        for name, attempt in (await context.ledger.latest_attempts(namespace, names)).items():
            campaign = context.store.campaign(namespace, attempt.campaign)
            due = retry_time(attempt, campaign.spec.attempts) if campaign else None
            if due is not None:
                times[(namespace, name)] = due
    return times


def _pending(context: Context, session: Session, campaign: Campaign) -> PendingSession:
    namespace = session.meta.namespace
    accounts, found = covering_accounts(context, campaign)
    carrier = context.carriers.of(campaign)
    position = session.meta.annotations.get("callfleet.dev/position", "0")
    return PendingSession(
        key=(namespace, session.meta.name),
        campaign=(namespace, campaign.meta.name),
        pool=(namespace, pool_name(campaign.spec, context.pool_defaults)),
        priority=session.spec.priority,
        position=int(position) if position.isdigit() else 0,
        created=campaign.meta.created,
        currency=session.spec.currency,
        hold_micros=None,
        ceiling_micros=_ceiling(session, campaign),
        accounts=accounts,
        budgets_found=found,
        carrier=carrier.account_sid if isinstance(carrier, CarrierAccount) else None,
    )


def _ceiling(session: Session, campaign: Campaign) -> int | None:
    """The most this call may cost: by its campaign's limit as it is now, or by the maxCost of one made by hand."""
    text = campaign.spec.limits.per_call if session.spec.campaign_uid else session.spec.max_cost
    return parse_micros(text) if text else None


def covering_accounts(context: Context, campaign: Campaign) -> tuple[tuple[str, ...], bool]:
    """The keys of every account that must cover a call of the campaign now, and whether all that it names are there.

    Its own, those of the Budgets that it references and of those that cover the namespace; where there is no Budget,
    the installation's. A Budget that is missing, or whose time zone is unknown, covers nothing: the call waits.
    """
    meta, spec, now = campaign.meta, campaign.spec, context.now()
    keys = list(
        account_keys(meta.namespace, "Campaign", meta.name, spec.limits, spec.time_zone, now, always_total=True)
    )
    names = {ref.name for ref in spec.budget_refs}
    names |= {
        item.meta.name
        for item in context.store.budgets()
        if item.meta.namespace == meta.namespace and item.spec.scope == "Namespace"
    }
    if not names:
        return (*keys, *installation.keys(context)), True
    for name in sorted(names):
        budget = context.store.budget(meta.namespace, name)
        if budget is None:
            return tuple(keys), False
        try:
            keys += account_keys(meta.namespace, "Budget", name, budget.spec.limits, budget.spec.time_zone, now)
        except TimeZoneError:
            return tuple(keys), False
    return tuple(keys), True


def free_slots(context: Context, attempts: Sequence[Attempt]) -> list[Slot]:
    """Slots of ready pods that no open attempt has; PostgreSQL says which are taken."""
    taken = Counter(item.granted_pod_uid for item in attempts if item.state in OPEN_STATES)
    slots: list[Slot] = []
    sizes = {
        (campaign.meta.namespace, pool_name(campaign.spec, context.pool_defaults)): (
            campaign.spec.worker.slots_per_worker
        )
        for campaign in context.store.campaigns()
    }
    for pod in sorted(context.store.pods(), key=lambda item: item.meta.name):
        if not pod.ready or pod.meta.deleted or pod.finished:
            continue
        pool = (pod.meta.namespace, pod.pool)
        free = sizes.get(pool, 0) - taken[pod.meta.uid]
        slots += [Slot(pool, pod.meta.name, pod.meta.uid)] * max(0, free)
    return slots


async def _hold_and_bind(context: Context, admits: Sequence[Admit], sessions: dict[tuple[str, str], Session]) -> bool:
    """True when something was held, so that there may be more to do at once."""
    numbers = await _attempt_numbers(context, admits)
    scripts = _scripts(context, admits)
    requests = [_hold_request(context, admit, sessions[admit.session.key], numbers, scripts) for admit in admits]
    answers = await _hold(context, requests)
    await pause_point(context.settings.callfleet_test_pause, "after-hold")
    for admit, request, answer in zip(admits, requests, answers, strict=True):
        ADMISSIONS.labels(result=answer.result.value).inc()
        session = sessions[admit.session.key]
        if answer.result is HoldResult.HELD:
            await _bind_or_revoke(context, admit, request, session)
        elif answer.result is HoldResult.WINDOW_CLOSED:
            # The day ended between plan and hold: the next cycle takes the new window's account.
            context.queue.add_after(Key("Admission"), 1.0)
        elif answer.result is HoldResult.CLOSED:
            await _end_closed(context, session)
        else:
            await _write_wait(context, session, _refused(admit, answer))
    return any(answer.result is HoldResult.HELD for answer in answers)


async def _hold(context: Context, requests: Sequence[HoldRequest]) -> list[HoldAnswer]:
    """One transaction for the batch; when PostgreSQL refuses it, one for each, so that one bad item stops no other."""
    try:
        return await context.ledger.hold(requests)
    except DBAPIError as error:
        if error.connection_invalidated or len(requests) == 1:
            raise
    answers: list[HoldAnswer] = []
    for request in requests:
        try:
            answers += await context.ledger.hold([request])
        except DBAPIError as error:
            _log.error("a hold was refused", session=request.session_name, error=type(error.orig).__name__)
            answers.append(HoldAnswer(request.attempt_id, HoldResult.WINDOW_CLOSED))
    return answers


async def _end_closed(context: Context, session: Session) -> None:
    """A session that may not be called (again): it ends as its contact did, or canceled when it is on no list."""
    key = Key("CallSession", session.meta.namespace, session.meta.name)
    latest = await context.ledger.latest_attempts(session.meta.namespace, [session.meta.name])
    if session.meta.name in latest and is_this_call(session, latest[session.meta.name]):
        context.queue.add(key)  # its status follows from its last attempt
        return
    run = Run(session.meta.namespace, session.spec.campaign, session.spec.run_id)
    known = await context.runs.find(run, UUID(session.spec.contact_id))
    status = closed_status(session.status, known, context.now(), session.meta.generation)
    try:
        context.store.apply("CallSession", await context.kube.write_status("CallSession", session.meta, status))
    except ConflictError:
        context.stale[(key.namespace, key.name)] = session.meta.resource_version


async def _bind_or_revoke(context: Context, admit: Admit, request: HoldRequest, session: Session) -> None:
    """A bind that fails takes its grant back and leaves the others alone."""
    try:
        await _bind(context, admit, request, session)
    except Exception as error:  # noqa: BLE001  # whatever it was, the grant is taken back and the others are bound
        _log.warning("bind refused", session=session.meta.name, error=type(error).__name__)
        await context.ledger.revoke(request.attempt_id, "BindRefused")
        context.stale[admit.session.key] = session.meta.resource_version
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
        key: campaign.spec.script().model_dump(mode="json", by_alias=True, exclude_none=True)
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
    call = campaign.spec.call
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
        time_limit_s=session.spec.max_duration_seconds,
        ring_timeout_s=call.ring_timeout_seconds,
        max_queue_s=call.max_queue_seconds,
        account_sid=admit.session.carrier,
        from_number=call.from_[admit.session.position % len(call.from_)],
        time_zone=campaign.spec.time_zone,
        max_attempts=campaign.spec.attempts.max,
        script=scripts[admit.session.campaign],
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
    _log.info("session admitted", session=session.meta.name, attempt=str(request.attempt_id), held=attempt["held"])
    await context.tell("CallSession", session.meta, "Admitted", f"{attempt['held']} held, on {admit.slot.pod_name}")


def _refused(admit: Admit, answer: HoldAnswer) -> Wait:
    return Wait(admit.session, Reason(answer.result.value), answer.shortfall_micros)


async def _write_wait(context: Context, session: Session, wait: Wait) -> None:
    now = context.now()
    retry_at = wait.retry_at
    status = session.status
    shortfall = None if wait.shortfall_micros is None else format_micros(wait.shortfall_micros)
    if (
        status.get("reason") == wait.reason.value
        and status.get("shortfall") == shortfall
        and status.get("retryAt") == (format_time(retry_at) if retry_at else None)
    ):
        return
    message = f"{shortfall} {wait.session.currency} missing" if shortfall else ""
    wanted = pending_status(
        status, wait.reason, now, shortfall_micros=wait.shortfall_micros, retry_at=retry_at, message=message
    )
    try:
        body = await context.kube.write_status("CallSession", session.meta, wanted)
    except ConflictError:
        context.stale[(session.meta.namespace, session.meta.name)] = session.meta.resource_version
        return  # it changed meanwhile; the watch brings the news and the next cycle looks again
    context.store.apply("CallSession", body)
    context.queue.add(Key("Campaign", session.meta.namespace, session.spec.campaign))
    if status.get("reason") != wait.reason.value and wait.reason in _TOLD:
        await context.tell("CallSession", session.meta, wait.reason.value, message or "waits", warning=True)


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
