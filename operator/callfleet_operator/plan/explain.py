"""Why a session waits, and its place in the line for what is missing, from the objects alone. Pure.

The reason, the shortfall and the next try are what the operator wrote a moment ago; the line is the planner's own order
(plan/turns) of those who wait for the same. What a campaign had more than others before, only the operator remembers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from callfleet_core.api.callsession import Reason, SessionState
from callfleet_operator.manifests import PoolDefaults, pool_name
from callfleet_operator.objects import Campaign, Session, parse_time
from callfleet_operator.plan.cluster import Cluster, Unread
from callfleet_operator.plan.lacking import Books, Lack, Window
from callfleet_operator.plan.limits import UNCOVERED, owners
from callfleet_operator.plan.session import admission_told
from callfleet_operator.plan.terms import priority
from callfleet_operator.plan.turns import Share, Turns

_OPEN = {SessionState.ADMITTED, SessionState.DIALING, SessionState.IN_PROGRESS}
# They will be admitted as soon as there is room; all others wait for something of their own.
_IN_LINE = {None, Reason.NO_CAPACITY, Reason.BUDGET_HELD, Reason.PACING}
_MONEY = {Reason.BUDGET_HELD, Reason.BUDGET_EXHAUSTED}
_UNCOVERED = "the installation's limits of calls that no Budget covers"
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
    # Sessions of other campaigns stand in it, too; of other namespaces, which are not seen.
    beyond_campaign: bool
    beyond_namespace: bool


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
    # The accounts that lack it, in words.
    short: tuple[str, ...]
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
    lack = Books.of(cluster, campaign, now).lacking(session) if campaign and reason in _MONEY else Lack()
    line = _line(cluster, session, campaign, lack, now) if campaign and pending else None
    return Explanation(
        namespace=session.meta.namespace,
        session=session.meta.name,
        campaign=session.spec.campaign,
        state=session.state.value,
        reason=reason,
        message=admission_told(session.status),
        shortfall=session.status.get("shortfall"),
        short=tuple(_UNCOVERED if owner == UNCOVERED else " ".join(owner) for owner in sorted(lack.owners)),
        currency=session.spec.currency,
        retry_at=retry_at,
        line=line,
        windows=lack.windows,
        unreadable=cluster.unread_about(session.spec.campaign, in_line=line is not None and line.beyond_campaign),
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


def _line(cluster: Cluster, session: Session, campaign: Campaign, lack: Lack, now: datetime) -> Line | None:
    """The line that the session stands in; None where it waits for something of its own."""
    if campaign.spec.suspend or not _is_in_line(session, now):
        return None
    calls = Counter(item.spec.campaign for item in cluster.sessions if item.state in _OPEN)
    if _reason(session) == Reason.BUDGET_HELD:
        shared = _shared_money(cluster, campaign, lack, now)
    else:
        shared = _shared(session, campaign, calls[campaign.meta.name])
    rivals = {item.meta.name: item for item in cluster.campaigns if shared.by(item) and not item.spec.suspend}
    # Who waits for a limit of its own stands in nobody else's line.
    waiting = [
        _Place.of(item, rivals[item.spec.campaign])
        for item in cluster.sessions
        if item.spec.campaign in rivals
        and item.spec.run_id == rivals[item.spec.campaign].spec.run_id
        and _is_in_line(item, now)
        and (item.spec.campaign == campaign.meta.name or _waits_beside(item, session, rivals, shared))
    ]
    turns = Turns({_key(item): Share(item.spec.weight, calls[item.meta.name]) for item in rivals.values()})
    ahead: Counter[tuple[str, int]] = Counter()
    for place in turns.order(waiting):
        if place.key == (session.meta.namespace, session.meta.name):
            break
        ahead[place.campaign[1], place.priority] += 1
        turns.took(place.campaign)
    entries = tuple(Ahead(name, priority, count) for (name, priority), count in sorted(ahead.items()))
    return Line(shared.what, sum(ahead.values()) + 1, entries, shared.beyond_campaign, shared.beyond_namespace)


@dataclass(frozen=True)
class _Shared:
    """What a session in line waits for, which campaigns share it, and whether others, and other namespaces', do.

    `awaited`: whether a session of such a campaign that waits for money waits for that of the same account.
    """

    what: str
    by: Callable[[Campaign], bool]
    beyond_campaign: bool = True
    beyond_namespace: bool = False
    awaited: Callable[[Session, Campaign], bool] = lambda *_: True


def _waits_beside(item: Session, session: Session, rivals: Mapping[str, Campaign], shared: _Shared) -> bool:
    """Whether a session of another campaign that shares something waits for this."""
    if _reason(item) == Reason.BUDGET_HELD == _reason(session):
        return shared.awaited(item, rivals[item.spec.campaign])
    return _reason(item) in {None, _reason(session), Reason.NO_CAPACITY}


def _shared(session: Session, campaign: Campaign, calls: int) -> _Shared:
    pacing = campaign.spec.pacing
    if _reason(session) == Reason.PACING:
        if calls >= pacing.max_concurrent:
            return _Shared("one of the campaign's calls to end", lambda item: item is campaign, beyond_campaign=False)
        if pacing.calls_per_second and _retry_at(session):
            return _Shared("the campaign's own pace", lambda item: item is campaign, beyond_campaign=False)
        ref = campaign.spec.carrier_ref
        what = "the carrier account to take another call"
        return _Shared(what, lambda item: item.spec.carrier_ref == ref, beyond_namespace=ref is None)
    pool = pool_name(campaign.spec, _ANY_DEFAULTS)
    return _Shared("a worker's slot", lambda item: pool_name(item.spec, _ANY_DEFAULTS) == pool)


def _shared_money(cluster: Cluster, campaign: Campaign, lack: Lack, now: datetime) -> _Shared:
    """The accounts that lack the money: rivals are those who draw on one of these, and lack it there."""
    books: dict[str, Books] = {}

    def draws(other: Campaign) -> bool:
        return not lack.owners.isdisjoint(owners(other, cluster.covering))

    def awaited(item: Session, of: Campaign) -> bool:
        if of.meta.name not in books:
            books[of.meta.name] = Books.of(cluster, of, now)
        return not lack.owners.isdisjoint(books[of.meta.name].lacking(item).owners)

    others = lack.owners != {("Campaign", campaign.meta.name)}
    return _Shared("held money to come back", draws, others, UNCOVERED in lack.owners, awaited)


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
