"""A Campaign: its contacts into PostgreSQL, its due contacts into CallSessions, its progress into its status."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from callfleet_core.api.callsession import SessionState
from callfleet_core.api.campaign import InlineContact
from callfleet_core.contactlist import ContactListError, parse_contacts
from callfleet_core.contacts import ConsentIn, ContactIn, RunContact
from callfleet_core.errors import PhoneError
from callfleet_core.ledger import LimitResult, account_key
from callfleet_core.money import parse_micros
from callfleet_core.phone import normalise
from callfleet_core.windows import TOTAL, TimeZoneError, Window
from callfleet_operator import manifests
from callfleet_operator.context import Context
from callfleet_operator.objects import DRAIN_FINALIZER, Campaign, Key
from callfleet_operator.plan.campaign import CampaignView, plan_campaign_status
from callfleet_operator.plan.limits import limits_now
from callfleet_operator.reconcile import budget
from callfleet_operator.reconcile.session import end_attempt

# The status changes with every call: written at most this often.
STATUS_EVERY_S = 2.0
DRAIN_EVERY_S = 2.0
# A list that is missing or wrong is looked at again: ConfigMaps and Secrets are not watched.
CONTACTS_EVERY_S = 5.0

_log = structlog.get_logger(__name__)


async def reconcile(context: Context, key: Key) -> None:
    """One look at a Campaign."""
    campaign = context.store.campaign(key.namespace, key.name)
    if campaign is None:
        await context.contacts.close_campaign(key.namespace, key.name)
        context.in_force.pop(key, None)
        context.queue.add(Key("Attempts"))
        return
    await mirror(context, campaign)
    if campaign.meta.deleted:
        await _drain(context, campaign)
        return
    if DRAIN_FINALIZER not in campaign.meta.finalizers:
        await context.kube.set_finalizers("Campaign", campaign.meta, [*campaign.meta.finalizers, DRAIN_FINALIZER])
        return  # the watch brings it back with its new version
    if context.carriers.of(campaign) is None and campaign.spec.carrier_ref is not None:
        context.queue.add(Key("Carrier", key.namespace, campaign.spec.carrier_ref.name))
    try:
        limit: LimitResult | str = await _set_limits(context, campaign)
    except TimeZoneError as error:
        limit = str(error)
    try:
        await _load_contacts(context, campaign)
        problem = None
    except ContactListError as error:
        problem = str(error)
        context.queue.add_after(key, CONTACTS_EVERY_S)
    contacts = await context.contacts.run(key.namespace, key.name, campaign.spec.run_id)
    if limit in {LimitResult.APPLIED, LimitResult.STALE}:
        await _drop_unlisted(context, campaign, contacts)
        await _create_due(context, campaign, contacts)
    if campaign.status.get("observedGeneration") != campaign.meta.generation:
        for session in context.store.sessions(key.namespace, key.name):
            context.queue.add(Key("CallSession", key.namespace, session.meta.name))
    await _write_status(context, campaign, contacts, limit, problem)
    context.queue.add(Key("Admission"))


async def mirror(context: Context, campaign: Campaign) -> None:
    """Says what begin_dial may count on, before anything else: a suspended or deleted campaign dials nobody."""
    meta = campaign.meta
    await context.contacts.mirror_campaign(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        suspended=campaign.spec.suspend,
        closed=meta.deleted,
    )
    context.in_force[Key("Campaign", meta.namespace, meta.name)] = meta.version


async def _drain(context: Context, campaign: Campaign) -> None:
    """A deleted Campaign goes once none of its calls is open and all are settled; HangUp ends the live ones now."""
    meta = campaign.meta
    attempts = [
        item
        for item in await context.ledger.unsettled_attempts()
        if (item.namespace, item.campaign) == (meta.namespace, meta.name)
    ]
    for attempt in attempts:
        if attempt.state == "granted" or (campaign.spec.deletion_policy == "HangUp" and attempt.state != "ended"):
            await end_attempt(context, attempt)
    # An unknown dial keeps its hold for a day; the ledger settles it without the object.
    if any(attempt.end_status != "unresolved" for attempt in attempts):
        context.queue.add_after(Key("Campaign", meta.namespace, meta.name), DRAIN_EVERY_S)
        return
    kept = [name for name in meta.finalizers if name != DRAIN_FINALIZER]
    if len(kept) < len(meta.finalizers):
        await context.kube.set_finalizers("Campaign", meta, kept)


async def _set_limits(context: Context, campaign: Campaign) -> LimitResult:
    """The campaign's own limits, and an account without one that only counts where there is no total."""
    limits: dict[Window, int | None] = dict(limits_now(campaign.spec.limits, campaign.spec.time_zone, context.now()))
    limits.setdefault(TOTAL, None)
    return await budget.put_in_force(
        context, "Campaign", campaign.meta, limits, campaign.spec.currency, suspended=False
    )


async def _load_contacts(context: Context, campaign: Campaign) -> None:
    """Stores the contacts once a generation, whole or not at all. Raises ContactListError."""
    if context.loaded_contacts.get(campaign.meta.uid) == campaign.meta.generation:
        return
    contacts = await _contacts(context, campaign)
    await context.contacts.load(campaign.meta.namespace, campaign.meta.name, campaign.spec.run_id, contacts)
    context.loaded_contacts[campaign.meta.uid] = campaign.meta.generation


async def _contacts(context: Context, campaign: Campaign) -> list[ContactIn]:
    source, namespace = campaign.spec.contacts, campaign.meta.namespace
    if source.inline is not None:
        return _inline(source.inline)
    ref, kind = (source.secret_ref, "Secret") if source.secret_ref else (source.config_map_ref, "ConfigMap")
    if ref is None:
        raise ContactListError("the campaign names no source of contacts")  # the API server refuses such a one
    text = await context.kube.read_key(kind, namespace, ref.name, ref.key)
    if text is None:
        raise ContactListError(f"{kind} {ref.name} with the key {ref.key} is not there: create it in this namespace")
    return parse_contacts(text)


def _inline(items: Sequence[InlineContact]) -> list[ContactIn]:
    """The inline contacts, each number once. Raises ContactListError naming the entries that cannot be dialled."""
    contacts: dict[str, ContactIn] = {}
    for position, item in enumerate(items, start=1):
        try:
            number = normalise(item.phone)
        except PhoneError as error:
            raise ContactListError(f"contact {position}: {error}") from error
        if number in contacts:
            raise ContactListError(f"contact {position} has the same number as an earlier one: keep one of them")
        given = item.consent
        consent = ConsentIn(given.kind, given.source, given.time) if given else None
        contacts[number] = ContactIn(number, item.name, consent)
    return list(contacts.values())


async def _create_due(context: Context, campaign: Campaign, contacts: Sequence[RunContact]) -> None:
    """Makes sessions of contacts that are not done, in their order, as far ahead as the campaign looks."""
    existing = {item.meta.name: item for item in context.store.sessions(campaign.meta.namespace, campaign.meta.name)}
    room = campaign.spec.look_ahead - sum(not item.is_terminal for item in existing.values())
    per_call = campaign.spec.limits.per_call
    ceiling = parse_micros(per_call) if per_call else None
    due = [item for item in contacts if item.state is None and item.session_name not in existing]
    for contact in due[: max(0, room)]:
        await context.kube.create_session(manifests.session(campaign, contact, ceiling))


async def _drop_unlisted(context: Context, campaign: Campaign, contacts: Sequence[RunContact]) -> None:
    """Pending sessions of an earlier run, or of people who left the list, would call whom nobody means to call."""
    listed = {item.session_name for item in contacts}
    for session in context.store.sessions(campaign.meta.namespace, campaign.meta.name):
        ours = session.spec.campaign_uid is not None
        if ours and session.state is SessionState.PENDING and session.meta.name not in listed:
            await context.kube.delete_session(session.meta)


def _stalled(limit: LimitResult | str) -> tuple[str, str] | None:
    """Why the campaign cannot be served, as reason and message, or None."""
    if limit is LimitResult.CURRENCY_MISMATCH:
        return "CurrencyMismatch", budget.CURRENCY_MESSAGE
    return None if isinstance(limit, LimitResult) else ("InvalidTimeZone", limit)


async def _write_status(
    context: Context, campaign: Campaign, contacts: Sequence[RunContact], limit: LimitResult | str, problem: str | None
) -> None:
    namespace, name = campaign.meta.namespace, campaign.meta.name
    pool = manifests.pool_name(campaign.spec, context.pool_defaults)
    carrier = context.carriers.of(campaign)
    live = {item.granted_pod_uid for item in await context.ledger.unsettled_attempts() if item.state != "ended"}
    view = CampaignView(
        campaign=campaign,
        contacts=contacts,
        sessions=context.store.sessions(namespace, name),
        pods=context.store.pods(namespace, pool),
        busy_pods=frozenset(live),
        balance=await context.ledger.balance(account_key(namespace, "Campaign", name)),
        stalled=_stalled(limit),
        contacts_problem=problem,
        carrier_problem=carrier if isinstance(carrier, str) else None,
    )
    status = plan_campaign_status(view, context.now())
    if status is None:
        return
    body = await context.kube.write_status("Campaign", campaign.meta, status)
    context.store.apply("Campaign", body)
