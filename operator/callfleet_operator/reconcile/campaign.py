"""A Campaign: its limits into the ledger, its due contacts into CallSessions, its progress into its status."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import structlog

from callfleet_core.api.callsession import SessionState
from callfleet_core.contactlist import ContactListError
from callfleet_core.ledger import LimitResult
from callfleet_core.money import parse_micros
from callfleet_core.runs import Run, RunContact
from callfleet_core.windows import TimeZoneError
from callfleet_operator import manifests
from callfleet_operator.apiserver import RefusedError
from callfleet_operator.context import Context
from callfleet_operator.objects import DRAIN_FINALIZER, Campaign, Key, Meta, Session, Unreadable
from callfleet_operator.plan.campaign import CampaignView, plan_campaign_status
from callfleet_operator.plan.hours import hours_of
from callfleet_operator.plan.limits import MISMATCHES, limits_now, wanted_in_force
from callfleet_operator.plan.lookahead import plan_room, unfinished_of_run
from callfleet_operator.plan.model import plan_model
from callfleet_operator.plan.news import rest_s
from callfleet_operator.reconcile import budget, carrier, contacts, restored, unreadable
from callfleet_operator.reconcile.pods import pool_keys, workers_view
from callfleet_operator.reconcile.session import end_attempt
from callfleet_operator.together import each

# The status changes with every call: written at most this often.
STATUS_EVERY_S = 2.0
DRAIN_EVERY_S = 2.0
# A quota or a policy that refuses sessions is asked again this soon, or when the next of them ends.
REFUSED_EVERY_S = 15.0

_log = structlog.get_logger(__name__)


async def reconcile(context: Context, key: Key) -> None:
    """One look at a Campaign."""
    if (found := context.store.unreadable(key)) is not None:
        await _hold_back(context, key, found)
        return
    campaign = context.store.campaign(key.namespace, key.name)
    if campaign is None:
        await context.contacts.close_campaign(key.namespace, key.name)
        context.forget_limits(key)
        context.queue.add(Key("Attempts"))
        _ask_for_pools(context, key.namespace)
        return
    limit = await put_in_force(context, campaign)
    if campaign.meta.deleted:
        await _drain(context, campaign.meta, hang_up=campaign.spec.deletion_policy == "HangUp")
        return
    if DRAIN_FINALIZER not in campaign.meta.finalizers:
        await context.kube.set_finalizers("Campaign", campaign.meta, [*campaign.meta.finalizers, DRAIN_FINALIZER])
        return  # the watch brings it back with its new version
    if campaign.spec.carrier_ref is not None:
        # Also where something is known of the Secret: it may have been looked at for a call of an earlier campaign.
        wait_s = 0.0 if context.carriers.of(campaign) is None else carrier.EVERY_S
        context.queue.add_after(Key("Carrier", key.namespace, campaign.spec.carrier_ref.name), wait_s)
    if context.models.is_new(campaign.spec.agent.llm.model):
        context.queue.add(Key("Models"))
    try:
        await contacts.load(context, campaign)
        problem = None
    except ContactListError as error:
        problem = str(error)
        context.queue.add_after(key, contacts.EVERY_S)
    refused = None
    if limit in {LimitResult.APPLIED, LimitResult.STALE}:
        await _drop_unlisted(context, campaign)
        refused = await _create_due(context, campaign)
    if refused is not None:
        context.queue.add_after(key, REFUSED_EVERY_S)
    if campaign.status.get("observedGeneration") != campaign.meta.generation:
        for session in context.store.sessions_of(key.namespace, key.name):
            context.queue.add(Key("CallSession", key.namespace, session.meta.name))
    await _write_status(context, campaign, limit, problem, refused)
    _ask_for_pools(context, key.namespace)
    context.queue.add(Key("Admission"))


async def _hold_back(context: Context, key: Key, found: Unreadable) -> None:
    """Nobody knows what such a Campaign says: it dials nobody, its live calls end by themselves, and it may go."""
    meta = found.meta
    await context.contacts.mirror_campaign(
        namespace=key.namespace, name=key.name, uid=meta.uid, generation=meta.generation, suspended=True,
        closed=meta.deleted, calls_per_second=None, hours=None,
    )  # fmt: skip
    context.forget_limits(key)
    context.queue.add(Key("Attempts"))
    if meta.deleted:
        await _drain(context, meta, hang_up=False)
    else:
        await unreadable.tell(context, "Campaign", found)
    _ask_for_pools(context, key.namespace)


def _ask_for_pools(context: Context, namespace: str) -> None:
    """A Campaign that changed may want other workers than before, or none."""
    for key in pool_keys(context, namespace):
        context.queue.add(key)


async def put_in_force(context: Context, campaign: Campaign) -> LimitResult | str:
    """Says what holds and begin_dial may count on, before anything else; what became of the limits, or what is wrong.

    A suspended or deleted campaign dials nobody.
    """
    now = context.now()
    if not await _mirror(context, campaign) and await restored.forgets_later(context, "Campaign", campaign.meta):
        await _mirror(context, campaign)
    try:
        limit: LimitResult | str = await set_limits(context, campaign, now)
    except TimeZoneError as error:
        limit = str(error)
    key = Key("Campaign", campaign.meta.namespace, campaign.meta.name)
    context.in_force[key] = wanted_in_force(campaign, now)
    context.note_refusal(key, limit)
    return limit


async def _mirror(context: Context, campaign: Campaign) -> bool:
    meta, pace, hours = campaign.meta, campaign.spec.pacing.calls_per_second, hours_of(campaign.spec)
    key, meant = Key("Campaign", meta.namespace, meta.name), (meta.version, meta.deleted)
    if context.mirrored.get(key) == meant:
        return True
    context.mirrored.pop(key, None)
    taken = await context.contacts.mirror_campaign(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        suspended=campaign.spec.suspend,
        closed=meta.deleted,
        calls_per_second=None if pace is None else Decimal(pace),
        hours=None if hours is None else hours.document(),
    )
    if taken:
        context.mirrored[key] = meant
    return taken


async def _drain(context: Context, meta: Meta, *, hang_up: bool) -> None:
    """A deleted Campaign goes once none of its calls is open and all are settled; `hang_up` ends the live ones now."""
    attempts = await context.ledger.unsettled_attempts_of(meta.namespace, meta.name)
    ending = [item for item in attempts if item.state == "granted" or (hang_up and item.state != "ended")]
    # One that the carrier fails to end keeps nobody else talking; it fails the look, which is made again.
    await each(ending, lambda attempt: end_attempt(context, attempt))
    # An unknown dial keeps its hold for a day; the ledger settles it without the object.
    if any(attempt.end_status != "unresolved" for attempt in attempts):
        context.queue.add_after(Key("Campaign", meta.namespace, meta.name), DRAIN_EVERY_S)
        return
    kept = [name for name in meta.finalizers if name != DRAIN_FINALIZER]
    if len(kept) < len(meta.finalizers):
        await context.kube.set_finalizers("Campaign", meta, kept)


async def set_limits(context: Context, campaign: Campaign, at: datetime) -> LimitResult:
    """Puts the campaign's own limits of an instant in force. Raises TimeZoneError."""
    limits = limits_now(campaign.spec.limits, campaign.spec.time_zone, at)
    return await budget.put_in_force(
        context, "Campaign", campaign.meta, limits, campaign.spec.currency, suspended=False
    )


async def _create_due(context: Context, campaign: Campaign) -> str | None:
    """Makes sessions of contacts that are not done, in their order, as far ahead as the campaign looks.

    Answers why the API server will have no more of them, or None.
    """
    existing = context.store.unfinished_of(campaign.meta.namespace, campaign.meta.name)
    room = plan_room(campaign, existing, context.now())
    if room <= 0:
        return None
    run = contacts.run_of(campaign)
    ours = [UUID(item.spec.contact_id) for item in unfinished_of_run(campaign, existing)]
    per_call = campaign.spec.limits.per_call
    ceiling = parse_micros(per_call) if per_call else None
    refusals: dict[int, str] = {}
    made: list[str] = []

    async def make(contact: RunContact) -> None:
        known = context.store.session(run.namespace, contact.session_name)
        if known is None:
            if refusals and not made:
                return  # a quota, or a policy for all of them
            try:
                body = await context.kube.create_session(manifests.session(campaign, contact, ceiling))
            except RefusedError as error:
                refusals[contact.position] = str(error)
                return
            if body is not None:
                context.store.apply("CallSession", body)
                made.append(contact.session_name)
        elif known.is_terminal and not known.meta.deleted:  # one that is on its way out is made again when it is gone
            await _finish_again(context, run, known)

    await each(await context.runs.due(run, room, without=ours), make)
    # Always the first one's: each names its own session.
    return refusals[min(refusals)] if refusals else None


async def _finish_again(context: Context, run: Run, session: Session) -> None:
    """The session is over, though the run does not know it: its contact left the run in the middle, and came back."""
    disposition = (session.status.get("result") or {}).get("disposition")
    contact = UUID(session.spec.contact_id)
    await context.runs.finish(run, contact, state=session.state.value, disposition=disposition)


async def _drop_unlisted(context: Context, campaign: Campaign) -> None:
    """Waiting sessions of people who left the list, of an earlier run, or of an earlier Campaign of this name, go.

    They would call whom nobody means to call, or be ended in the middle of a call when the collector comes to them. A
    canceled session calls nobody; its end is told, also where the run knew it first.
    """
    waiting = [
        item
        for item in context.store.unfinished_of(campaign.meta.namespace, campaign.meta.name)
        if item.spec.campaign_uid is not None
        and not item.spec.cancel
        and item.state in {SessionState.PENDING, SessionState.ADMITTED}
    ]
    run = contacts.run_of(campaign)
    left = await context.runs.unlisted(run, [UUID(item.spec.contact_id) for item in waiting])
    pending = {UUID(item.spec.contact_id) for item in waiting if item.state is SessionState.PENDING}
    if over := left & pending:
        await context.runs.close_left(run, sorted(over))
    for session in waiting:
        if UUID(session.spec.contact_id) not in left and session.is_of(campaign):
            continue
        if context.store.session(session.meta.namespace, session.meta.name) is not session:
            continue  # it changed meanwhile, or went: there is another look
        if session.state is SessionState.PENDING:
            context.put_aside.add(session.meta.uid)
            await context.kube.delete_session(session.meta)
        elif attempt := (session.status.get("attempt") or {}).get("id"):
            # What is dialled already goes on; what is not becomes Pending again, and is dropped then.
            await context.ledger.revoke(UUID(attempt), "Unlisted")
            context.queue.add(Key("CallSession", session.meta.namespace, session.meta.name))


def _stalled(limit: LimitResult | str) -> tuple[str, str] | None:
    """Why the campaign cannot be served, as reason and message, or None."""
    return MISMATCHES.get(limit) if isinstance(limit, LimitResult) else ("InvalidTimeZone", limit)


async def _write_status(
    context: Context, campaign: Campaign, limit: LimitResult | str, problem: str | None, refused: str | None
) -> None:
    namespace, name = campaign.meta.namespace, campaign.meta.name
    carrier = context.carriers.of(campaign)
    attempts = await context.ledger.open_attempts()
    view = CampaignView(
        campaign=campaign,
        contacts=await context.runs.counts(contacts.run_of(campaign)),
        sessions=context.store.unfinished_of(namespace, name),
        workers=workers_view(context, campaign, attempts),
        accounts=await context.ledger.balances_of(namespace=namespace, kind="Campaign", name=name, at=context.now()),
        stalled=_stalled(limit),
        recovering=context.trust.recovering,
        contacts_problem=problem,
        sessions_refused=refused,
        carrier_problem=carrier if isinstance(carrier, str) else None,
        model=plan_model(campaign, context.models.of(campaign.spec.agent.llm.model)),
    )
    now = context.now()
    status = plan_campaign_status(view, now)
    if status is None:
        return
    as_of = (campaign.status.get("contacts") or {}).get("asOf")
    left_s = rest_s(campaign.status, status, as_of, now, STATUS_EVERY_S) if context.numbers_wait else 0
    if left_s > 0:
        context.queue.add_after(Key("Campaign", namespace, name), left_s)
        return
    body = await context.kube.write_status("Campaign", campaign.meta, status)
    context.store.apply("Campaign", body)
