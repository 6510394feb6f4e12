"""Why a session waits, and its place in the line for what is missing, from the objects alone. Pure.

The reason, the shortfall and the next try are what the operator wrote a moment ago; the line is the planner's own order
(plan/turns) of those who wait for the same. What a campaign had more than others before, only the operator remembers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from callfleet_core.api.callsession import Reason, SessionState
from callfleet_operator.manifests import PoolDefaults, pool_name
from callfleet_operator.objects import Campaign, Session, parse_time
from callfleet_operator.plan.cluster import Cluster, Unread
from callfleet_operator.plan.session import admission_told
from callfleet_operator.plan.terms import priority
from callfleet_operator.plan.turns import Share, Turns

_OPEN = {SessionState.ADMITTED, SessionState.DIALING, SessionState.IN_PROGRESS}
# They will be admitted as soon as there is room; all others wait for something of their own.
_IN_LINE = {None, Reason.NO_CAPACITY, Reason.BUDGET_HELD, Reason.PACING}
_MONEY = {Reason.BUDGET_HELD, Reason.BUDGET_EXHAUSTED}
# Two campaigns share a pool when their names are the same, whatever an installation's defaults are.
_ANY_DEFAULTS = PoolDefaults(
    image="", secret="", carrier_secret="", keys_secret="", key_version=1, device="", image_pull_policy=""
)  # fmt: skip


@dataclass(frozen=True)
class Ahead:
    """How many sessions of a campaign come first."""

    campaign: str
    priority: int
    sessions: int


@dataclass(frozen=True)
class Line:
    """A line for something that is shared: `place` is 1 for whoever is next."""

    for_what: str
    place: int
    ahead: tuple[Ahead, ...]
    # Sessions of other namespaces stand in it, too, and are not seen.
    beyond_namespace: bool


@dataclass(frozen=True)
class Window:
    """A Budget's window as its status says it, in the Budget's currency."""

    budget: str
    kind: str
    limit: str
    held: str
    spent: str


@dataclass(frozen=True)
class Explanation:
    """Why one session is not being called. `line`: None where no line is what it waits in.

    `reason` is the operator's own word: that of a newer one may be no Reason of ours.
    """

    namespace: str
    session: str
    campaign: str
    state: str
    reason: str | None
    message: str
    shortfall: str | None
    currency: str
    retry_at: datetime | None
    line: Line | None
    windows: tuple[Window, ...]
    # Of what it depends on; it may be wrong as far as these go.
    unreadable: tuple[Unread, ...]


def plan_explanation(cluster: Cluster, session: Session, now: datetime) -> Explanation:
    """Explains a session of the cluster."""
    campaign = cluster.campaign(session.spec.campaign)
    reason = _reason(session)
    retry_at = _retry_at(session)
    pending = session.state is SessionState.PENDING and not session.meta.deleted and not session.spec.cancel
    line = _line(cluster, session, campaign, now) if campaign and pending else None
    return Explanation(
        namespace=session.meta.namespace,
        session=session.meta.name,
        campaign=session.spec.campaign,
        state=session.state.value,
        reason=reason,
        message=admission_told(session.status),
        shortfall=session.status.get("shortfall"),
        currency=session.spec.currency,
        retry_at=retry_at,
        line=line,
        windows=_windows(cluster, campaign) if campaign and reason in _MONEY else (),
        unreadable=cluster.unread_about(session.spec.campaign, in_line=line is not None),
    )


def _reason(session: Session) -> str | None:
    return session.status.get("reason") or None


def _retry_at(session: Session) -> datetime | None:
    text = session.status.get("retryAt")
    return parse_time(text) if text else None


def _is_in_line(session: Session, now: datetime) -> bool:
    if session.state is not SessionState.PENDING or session.meta.deleted or session.spec.cancel:
        return False
    reason, retry_at = _reason(session), _retry_at(session)
    is_due = reason == Reason.RETRY_SCHEDULED and retry_at is not None and retry_at <= now
    return reason in _IN_LINE or is_due


def _line(cluster: Cluster, session: Session, campaign: Campaign, now: datetime) -> Line | None:
    """The line that the session stands in; None where it waits for something of its own."""
    if campaign.spec.suspend or not _is_in_line(session, now):
        return None
    calls = Counter(item.spec.campaign for item in cluster.sessions if item.state in _OPEN)
    what, shares, beyond = _shared(cluster, session, campaign, calls[campaign.meta.name])
    rivals = {item.meta.name: item for item in cluster.campaigns if shares(item) and not item.spec.suspend}
    # Who waits for a limit of its own stands in nobody else's line.
    waiting = [
        _Place.of(item, rivals[item.spec.campaign])
        for item in cluster.sessions
        if item.spec.campaign in rivals
        and item.spec.run_id == rivals[item.spec.campaign].spec.run_id
        and _is_in_line(item, now)
        and (item.spec.campaign == campaign.meta.name or _reason(item) in {None, _reason(session), Reason.NO_CAPACITY})
    ]
    turns = Turns({_key(item): Share(item.spec.weight, calls[item.meta.name]) for item in rivals.values()})
    ahead: Counter[tuple[str, int]] = Counter()
    for place in turns.order(waiting):
        if place.key == (session.meta.namespace, session.meta.name):
            break
        ahead[place.campaign[1], place.priority] += 1
        turns.took(place.campaign)
    entries = tuple(Ahead(name, priority, count) for (name, priority), count in sorted(ahead.items()))
    return Line(what, sum(ahead.values()) + 1, entries, beyond)


def _shared(
    cluster: Cluster, session: Session, campaign: Campaign, calls: int
) -> tuple[str, Callable[[Campaign], bool], bool]:
    """What a session in line waits for, which campaigns share it, and whether other namespaces' do."""
    pacing = campaign.spec.pacing
    if _reason(session) == Reason.PACING:
        if calls >= pacing.max_concurrent:
            return "one of the campaign's calls to end", lambda item: item is campaign, False
        if pacing.calls_per_second and _retry_at(session):
            return "the campaign's own pace", lambda item: item is campaign, False
        ref = campaign.spec.carrier_ref
        return "the carrier account to take another call", lambda item: item.spec.carrier_ref == ref, ref is None
    if _reason(session) == Reason.BUDGET_HELD:
        mine = _budgets(cluster, campaign)
        what = "held money to come back"
        return what, lambda item: item is campaign or _meet(mine, _budgets(cluster, item)), not mine
    pool = pool_name(campaign.spec, _ANY_DEFAULTS)
    return "a worker's slot", lambda item: pool_name(item.spec, _ANY_DEFAULTS) == pool, False


def _budgets(cluster: Cluster, campaign: Campaign) -> frozenset[str]:
    """Names of the Budgets that cover a campaign; none: the installation's account does."""
    named = {ref.name for ref in campaign.spec.budget_refs}
    return frozenset(named | {item.meta.name for item in cluster.budgets if item.spec.scope == "Namespace"})


def _meet(mine: frozenset[str], others: frozenset[str]) -> bool:
    """Whether they share an account: a Budget, or the installation's own where neither has one."""
    return bool(mine & others) or mine == others


def _windows(cluster: Cluster, campaign: Campaign) -> tuple[Window, ...]:
    names = _budgets(cluster, campaign)
    return tuple(
        Window(budget.meta.name, window["kind"], window["limit"], window["held"], window["spent"])
        for budget in cluster.budgets
        if budget.meta.name in names
        for window in budget.status.get("windows") or []
    )


def _key(campaign: Campaign) -> tuple[str, str]:
    return campaign.meta.namespace, campaign.meta.name


@dataclass(frozen=True)
class _Place:
    """A session as the queue orders it."""

    key: tuple[str, str]
    campaign: tuple[str, str]
    priority: int
    position: int
    created: datetime

    @classmethod
    def of(cls, session: Session, campaign: Campaign) -> _Place:
        key = (session.meta.namespace, session.meta.name)
        return cls(key, _key(campaign), priority(session, campaign), session.position, campaign.meta.created)
