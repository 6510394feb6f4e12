"""What an admission depends on, read from the store, PostgreSQL and the price list: the planner's snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from callfleet_core.api.callsession import Reason, SessionState
from callfleet_core.carriers import CarrierAccount
from callfleet_core.errors import NoPriceError
from callfleet_core.ledger import OPEN_STATES, Attempt
from callfleet_core.money import parse_micros
from callfleet_core.pricing import CallBounds, total_micros
from callfleet_core.windows import TimeZoneError
from callfleet_operator.context import Context
from callfleet_operator.manifests import pool_name
from callfleet_operator.objects import Campaign, Session
from callfleet_operator.plan.admission import AccountView, CampaignView, PendingSession, Slot, Snapshot
from callfleet_operator.plan.limits import account_keys
from callfleet_operator.plan.session import retry_time
from callfleet_operator.plan.slots import packed_slots
from callfleet_operator.reconcile import installation
from callfleet_operator.reconcile.pods import open_by_pod, taking_calls


async def take_snapshot(
    context: Context, attempts: Sequence[Attempt]
) -> tuple[Snapshot, dict[tuple[str, str], Session]]:
    """What the planner needs, and the sessions by key."""
    pending: list[PendingSession] = []
    sessions: dict[tuple[str, str], Session] = {}
    known = _TermsOfCampaigns(context)
    open_by_session = {(item.namespace, item.session_name) for item in attempts}
    for session in context.store.sessions():
        key = (session.meta.namespace, session.meta.name)
        campaign = context.store.campaign(session.meta.namespace, session.spec.campaign)
        done = session.meta.deleted or session.spec.cancel
        if session.state is not SessionState.PENDING or done or key in open_by_session:
            continue
        if campaign is None or campaign.meta.deleted or session.spec.run_id != campaign.spec.run_id:
            continue
        terms = known.of(campaign)
        if terms is None:
            continue
        if context.stale.get(key) == session.meta.resource_version:
            continue  # its last bind was refused: the watch has not caught up yet
        pending.append(_pending(session, campaign, terms))
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


@dataclass(frozen=True)
class _Terms:
    """What all sessions of a campaign have in common in a cycle."""

    pool: tuple[str, str]
    accounts: tuple[str, ...]
    budgets_found: bool
    carrier: str | None


class _TermsOfCampaigns:
    """Each campaign's terms, found out once a cycle, however many of its sessions wait."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, _Terms | None] = {}

    def of(self, campaign: Campaign) -> _Terms | None:
        """The terms; None while none of its sessions can be judged."""
        uid = campaign.meta.uid
        if uid not in self._known:
            self._known[uid] = self._find(campaign)
        return self._known[uid]

    def _find(self, campaign: Campaign) -> _Terms | None:
        carrier = self._context.carriers.of(campaign)
        if carrier is None:
            return None  # its Secret is being read
        try:
            accounts, found = covering_accounts(self._context, campaign, self._context.now())
        except TimeZoneError:
            return None  # its Campaign says that it stalls, and why
        pool = (campaign.meta.namespace, pool_name(campaign.spec, self._context.pool_defaults))
        return _Terms(pool, accounts, found, carrier.account_sid if isinstance(carrier, CarrierAccount) else None)


def _pending(session: Session, campaign: Campaign, terms: _Terms) -> PendingSession:
    namespace = session.meta.namespace
    position = session.meta.annotations.get("callfleet.dev/position", "0")
    return PendingSession(
        key=(namespace, session.meta.name),
        campaign=(namespace, campaign.meta.name),
        pool=terms.pool,
        priority=session.spec.priority,
        position=int(position) if position.isdigit() else 0,
        created=campaign.meta.created,
        currency=session.spec.currency,
        hold_micros=None,
        ceiling_micros=_ceiling(session, campaign),
        accounts=terms.accounts,
        budgets_found=terms.budgets_found,
        carrier=terms.carrier,
    )


def _ceiling(session: Session, campaign: Campaign) -> int | None:
    """The most this call may cost: by its campaign's limit as it is now, or by the maxCost of one made by hand."""
    text = campaign.spec.limits.per_call if session.spec.campaign_uid else session.spec.max_cost
    return parse_micros(text) if text else None


def covering_accounts(context: Context, campaign: Campaign, at: datetime) -> tuple[tuple[str, ...], bool]:
    """The keys of every account that must cover a call begun then, and whether all that the campaign names are there.

    Its own, those of the Budgets that it references and of those that cover the namespace; where there is no Budget,
    the installation's. A Budget that is missing, or whose time zone is unknown, covers nothing: the call waits.
    """
    meta, spec = campaign.meta, campaign.spec
    keys = list(account_keys(meta.namespace, "Campaign", meta.name, spec.limits, spec.time_zone, at, always_total=True))
    names = {ref.name for ref in spec.budget_refs}
    names |= {
        item.meta.name
        for item in context.store.budgets()
        if item.meta.namespace == meta.namespace and item.spec.scope == "Namespace"
    }
    if not names:
        return (*keys, *installation.keys(context, at)), True
    for name in sorted(names):
        budget = context.store.budget(meta.namespace, name)
        if budget is None:
            return tuple(keys), False
        try:
            keys += account_keys(meta.namespace, "Budget", name, budget.spec.limits, budget.spec.time_zone, at)
        except TimeZoneError:
            return tuple(keys), False
    return tuple(keys), True


def free_slots(context: Context, attempts: Sequence[Attempt]) -> list[Slot]:
    """Slots of ready pods that no open attempt has; PostgreSQL says which are taken."""
    taken = open_by_pod(attempts)
    namespaces = {pod.meta.namespace for pod in context.store.pods()}
    return packed_slots(place for namespace in sorted(namespaces) for place in taking_calls(context, namespace, taken))
