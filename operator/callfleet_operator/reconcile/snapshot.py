"""What an admission depends on, read from the store, PostgreSQL and the price list: the planner's snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from callfleet_core.api.callsession import Reason, SessionState
from callfleet_core.carriers import CarrierAccount
from callfleet_core.contacts import Prospect
from callfleet_core.errors import NoPriceError
from callfleet_core.ledger import OPEN_STATES, OpenAttempt
from callfleet_core.pricing import CallBounds, CostLine, total_micros
from callfleet_core.windows import TimeZoneError
from callfleet_operator.context import Context
from callfleet_operator.manifests import pool_name
from callfleet_operator.objects import SETTLE_FINALIZER, Budget, Campaign, Key, Session
from callfleet_operator.plan.admission import AccountView, CampaignView, PendingSession, Slot, Snapshot
from callfleet_operator.plan.hours import hours_of
from callfleet_operator.plan.limits import MISMATCHES, UNCOVERED, account_keys, budget_names, namespace_names, owners
from callfleet_operator.plan.model import plan_model
from callfleet_operator.plan.pace import Pace
from callfleet_operator.plan.session import retry_time, why_unserved
from callfleet_operator.plan.slots import packed_slots
from callfleet_operator.plan.stops import why_stopped
from callfleet_operator.plan.terms import ceiling_micros, priority, time_limit_s
from callfleet_operator.plan.turns import Share
from callfleet_operator.reconcile import installation
from callfleet_operator.reconcile.pods import open_by_pod, placed, taking_calls, without_unkept

# A worker begins a call within a second or two of its grant.
SHORTEST_GRANT_S = 5.0


@dataclass(frozen=True)
class Unserved:
    """A session that waits for nothing that a plan could give it, and why."""

    session: Session
    why: str


async def take_snapshot(
    context: Context, attempts: Sequence[OpenAttempt]
) -> tuple[Snapshot, dict[tuple[str, str], Session], list[Unserved]]:
    """What the planner needs, the sessions by key, and those that are no plan's matter.

    `attempts`: all that are open or not settled.
    """
    began = context.now()  # before any account is named by its window: midnight may come between
    waiting, unserved = _waiting(context, attempts)
    pending = await _with_what_postgres_knows(context, waiting)
    # A query only while some call is begun and not settled.
    begun = any(item.state != "granted" for item in attempts)
    unresolved = await context.ledger.unresolved_holds() if begun else {}
    accounts = {
        balance.key: AccountView(
            balance.currency,
            balance.limit_micros,
            balance.held_micros,
            balance.spent_micros,
            usable=not balance.closed,
            suspended=balance.suspended or balance.overrun,
            window_end=balance.window_end,
            unresolved_micros=unresolved.get(balance.key, 0),
            why_suspended=why_stopped(balance),
        )
        for balance in await context.ledger.balances(began)
    }
    snapshot = Snapshot(
        pending,
        await _campaigns(context, attempts),
        accounts,
        free_slots(context, attempts),
        _carrier_room(context, attempts),
        _carrier_replaced(context, attempts),
        context.costs.currency,
    )
    return snapshot, {item.key: item.session for item in waiting}, unserved


def _waiting(context: Context, attempts: Sequence[OpenAttempt]) -> tuple[list[_Candidate], list[Unserved]]:
    """Sessions that could be admitted, as far as the store knows, and those that could not, whatever comes free."""
    known = _TermsOfCampaigns(context)
    open_by_session = {(item.namespace, item.session_name) for item in attempts}
    found, unserved, now = list[_Candidate](), list[Unserved](), context.now()
    for session in context.store.unfinished():
        key = (session.meta.namespace, session.meta.name)
        if key in open_by_session or not _may_begin(context, session, now):
            continue
        campaign = context.store.campaign(session.meta.namespace, session.spec.campaign)
        if campaign is None or campaign.meta.deleted or not session.is_of(campaign):
            terms: _Terms | str | None = _why_unserved(context, session, campaign)
        else:
            terms = known.of(campaign)
        if isinstance(terms, str):
            unserved.append(Unserved(session, terms))
        elif terms is not None and campaign is not None:
            found.append(_Candidate(key, session, campaign, terms))
    return found, unserved


def _why_unserved(context: Context, session: Session, campaign: Campaign | None) -> str | None:
    if context.store.unreadable(session.owner) is not None:
        return None  # its Campaign says that it calls nobody, and why
    return why_unserved(session, campaign)


def _may_begin(context: Context, session: Session, now: datetime) -> bool:
    """Whether the session waits to be called, as it is seen."""
    meta, left_s = session.meta, session.seconds_left(now)
    if session.state is not SessionState.PENDING or meta.deleted or session.spec.cancel:
        return False
    if SETTLE_FINALIZER not in meta.finalizers:
        return False  # made by hand a moment ago: its deletion would end no call
    if left_s is not None and left_s < SHORTEST_GRANT_S:
        return False  # what is left is too short for a worker to begin
    # After a write that failed, the watch has not caught up yet.
    return not context.stale.has((meta.namespace, meta.name, meta.resource_version), now)


async def _campaigns(context: Context, attempts: Sequence[OpenAttempt]) -> dict[tuple[str, str], CampaignView]:
    """What bounds each campaign: its open calls, its share, its pace."""
    live = Counter((item.namespace, item.campaign) for item in attempts if item.state in OPEN_STATES)
    granted = Counter((item.namespace, item.campaign) for item in attempts if item.state == "granted")
    campaigns = context.store.campaigns()
    paced = any(item.spec.pacing.calls_per_second for item in campaigns)
    next_dials = await context.contacts.next_dials() if paced else {}

    def view(campaign: Campaign) -> CampaignView:
        spec, key = campaign.spec, (campaign.meta.namespace, campaign.meta.name)
        share = Share(spec.weight, live[key], context.turns.leads_s.get(key, 0.0))
        per_second = spec.pacing.calls_per_second
        pace = Pace(Decimal(per_second), next_dials.get(key), granted[key]) if per_second else None
        return CampaignView(spec.suspend, spec.pacing.max_concurrent, share, pace, hours_of(spec))

    return {(item.meta.namespace, item.meta.name): view(item) for item in campaigns}


def _carrier_room(context: Context, attempts: Sequence[OpenAttempt]) -> dict[str, int]:
    """How many calls each account takes beside its open ones."""
    live = Counter(item.account_sid for item in attempts if item.state in OPEN_STATES)
    found = (context.carriers.of(campaign) for campaign in context.store.campaigns())
    usable = {item.account_sid: item for item in found if isinstance(item, CarrierAccount)}
    return {sid: max(0, account.max_concurrent - live[sid]) for sid, account in usable.items()}


def _carrier_replaced(context: Context, attempts: Sequence[OpenAttempt]) -> Counter[str]:
    """How many calls of each account are open on workers that others replace."""
    namespaces = {pod.meta.namespace for pod in context.store.pods()}
    groups = [group for name in namespaces for group in placed(context, name).earlier.values()]
    replaced = {pod.meta.uid for group in groups for pod in group}
    return Counter(
        item.account_sid for item in attempts if item.state in OPEN_STATES and item.granted_pod_uid in replaced
    )


def _worst_case(context: Context) -> Callable[[str, int], tuple[CostLine, ...] | None]:
    """What a call must hold, a line a meter, by its number's beginning and its limit; None: there is no price."""
    now, known = context.now(), dict[tuple[str, int], tuple[CostLine, ...] | None]()

    def worst(prefix: str, limit_s: int) -> tuple[CostLine, ...] | None:
        if (prefix, limit_s) not in known:
            try:
                known[prefix, limit_s] = tuple(context.costs.worst_case(CallBounds(prefix, limit_s), now))
            except NoPriceError:
                known[prefix, limit_s] = None
        return known[prefix, limit_s]

    return worst


async def _with_what_postgres_knows(context: Context, waiting: Sequence[_Candidate]) -> list[PendingSession]:
    """The sessions with the gate's word on each, when it may be tried again, and what must be held for it."""
    prospects = await context.contacts.prospects(
        [(item.session.spec.contact_id, item.terms.carrier) for item in waiting]
    )
    retries = await _retry_times(context, waiting)
    zones = await _callee_zones(context, waiting)
    worst = _worst_case(context)
    return [
        _pending(
            item, prospect, worst(prospect.prefix, time_limit_s(item.session, item.campaign)), retries.get(item.key),
            zones.get(item.key, ()),
        )
        for item, prospect in zip(waiting, prospects, strict=True)
    ]  # fmt: skip


async def _callee_zones(context: Context, waiting: Sequence[_Candidate]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The time zones of whoever is called by their own clock; nobody else's are asked for."""
    by_run: dict[tuple[str, str, str], list[_Candidate]] = {}
    for item in waiting:
        if item.terms.by_callees_clock:
            run = (item.key[0], item.session.spec.campaign, item.session.spec.run_id)
            by_run.setdefault(run, []).append(item)
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for run, of_it in by_run.items():
        people = {item.key: UUID(item.session.spec.contact_id) for item in of_it}
        zones = await context.contacts.callee_zones(list(people.values()), run)
        found |= {key: zones[person] for key, person in people.items()}
    return found


async def _retry_times(context: Context, waiting: Sequence[_Candidate]) -> dict[tuple[str, str], datetime]:
    """When sessions whose last attempt was busy or unanswered may be tried again: the attempts' rows say so."""
    names: dict[str, list[str]] = {}
    for item in waiting:
        names.setdefault(item.key[0], []).append(item.key[1])
    times: dict[tuple[str, str], datetime] = {}
    for namespace, of_it in names.items():
        for name, attempt in (await context.ledger.latest_attempts(namespace, of_it)).items():
            campaign = context.store.campaign(namespace, attempt.campaign)
            due = retry_time(attempt, campaign.spec.attempts) if campaign else None
            if due is not None:
                times[(namespace, name)] = due
    return times


@dataclass(frozen=True)
class _Candidate:
    """A session that could be admitted, with what its campaign's sessions have in common."""

    key: tuple[str, str]
    session: Session
    campaign: Campaign
    terms: _Terms


@dataclass(frozen=True)
class _Terms:
    """What all sessions of a campaign have in common in a cycle."""

    pool: tuple[str, str]
    accounts: tuple[str, ...]
    budgets_found: bool
    carrier: str | None
    model_ready: bool
    by_callees_clock: bool


class _TermsOfCampaigns:
    """Each campaign's terms, found out once a cycle, however many of its sessions wait."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, _Terms | str | None] = {}
        self._covering = namespace_budgets(context)

    def of(self, campaign: Campaign) -> _Terms | str | None:
        """The terms; why none of its sessions can be called; None while that cannot be told."""
        uid = campaign.meta.uid
        if uid not in self._known:
            self._known[uid] = self._find(campaign)
        return self._known[uid]

    def _find(self, campaign: Campaign) -> _Terms | str | None:
        carrier = self._context.carriers.of(campaign)
        if carrier is None:
            return None  # its Secret is being read
        try:
            accounts, found = covering_accounts(self._context, campaign, self._context.now(), self._covering)
        except TimeZoneError as error:
            return f"the Campaign stalls: {error}"
        namespace, refused = campaign.meta.namespace, self._context.refused
        if (refusal := refused.get(Key("Campaign", namespace, campaign.meta.name))) is not None:
            return f"the Campaign stalls: {': '.join(MISMATCHES[refusal])}"
        names = budget_names(campaign, self._covering)
        found = found and all(Key("Budget", namespace, name) not in refused for name in names)
        pool = (campaign.meta.namespace, pool_name(campaign.spec, self._context.pool_defaults))
        sid = carrier.account_sid if isinstance(carrier, CarrierAccount) else None
        model = plan_model(campaign, self._context.models.of(campaign.spec.agent.llm.model))
        hours = hours_of(campaign.spec)
        by_callees_clock = hours is not None and hours.by_callees_clock
        return _Terms(pool, accounts, found, sid, model.serving is not None, by_callees_clock)


def _pending(
    item: _Candidate,
    prospect: Prospect,
    lines: tuple[CostLine, ...] | None,
    retry_at: datetime | None,
    zones: tuple[str, ...],
) -> PendingSession:
    session, campaign, terms = item.session, item.campaign, item.terms
    return PendingSession(
        key=item.key,
        campaign=(campaign.meta.namespace, campaign.meta.name),
        pool=terms.pool,
        priority=priority(session, campaign),
        position=session.position,
        created=campaign.meta.created,
        currency=session.spec.currency,
        hold_micros=None if lines is None else total_micros(lines),
        caps=lines or (),
        time_limit_s=time_limit_s(session, campaign),
        ceiling_micros=ceiling_micros(session, campaign),
        accounts=terms.accounts,
        budgets_found=terms.budgets_found,
        carrier=terms.carrier,
        model_ready=terms.model_ready,
        refusal=Reason(prospect.refusal) if prospect.refusal else None,
        retry_at=retry_at,
        number_busy=prospect.number_busy,
        zones=zones,
    )


def namespace_budgets(context: Context) -> dict[str, set[str]]:
    """The names of the Budgets that cover a whole namespace, by namespace: asked once for many campaigns, since the
    store is walked for it."""
    return namespace_names(context.store.budgets(), context.store.unreadable_budgets())


def _keys(context: Context, kind: str, item: Campaign | Budget, at: datetime) -> tuple[str, ...]:
    meta, spec = item.meta, item.spec
    taken = context.taken.get(Key(kind, meta.namespace, meta.name), frozenset())
    return account_keys(meta.namespace, kind, meta.name, spec.limits, spec.time_zone, at, taken)


def covering_accounts(
    context: Context, campaign: Campaign, at: datetime, covering: Mapping[str, AbstractSet[str]]
) -> tuple[tuple[str, ...], bool]:
    """The keys of every account that must cover a call begun then, and whether all that the campaign names are there.

    Its own, those of the Budgets that it references and of those that cover the namespace (`covering`, as by
    namespace_budgets); where there is no Budget, the installation's. A Budget that is missing, or whose time zone is
    unknown, covers nothing: the call waits.
    """
    _, *others = owners(campaign, covering)
    keys = list(_keys(context, "Campaign", campaign, at))
    if others == [UNCOVERED]:
        return (*keys, *installation.keys(context, at)), True
    for _, name in others:
        budget = context.store.budget(campaign.meta.namespace, name)
        if budget is None:
            return tuple(keys), False
        try:
            keys += _keys(context, "Budget", budget, at)
        except TimeZoneError:
            return tuple(keys), False
    return tuple(keys), True


def free_slots(context: Context, attempts: Sequence[OpenAttempt]) -> list[Slot]:
    """Slots of ready pods that no open attempt has; PostgreSQL says which are taken."""
    taken = open_by_pod(attempts)
    namespaces = {pod.meta.namespace for pod in context.store.pods()}
    places = (place for namespace in sorted(namespaces) for place in taking_calls(context, namespace, taken))
    return packed_slots(without_unkept(context, places))
