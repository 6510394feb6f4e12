"""Which pending sessions to admit, onto which slot, and why the others wait. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from callfleet_core.api.callsession import Reason
from callfleet_core.pricing import CostLine
from callfleet_operator.plan.hours import Hours, next_opening, why_never
from callfleet_operator.plan.pace import Pace
from callfleet_operator.plan.turns import Share, Turns, plan_leads


@dataclass(frozen=True)
class AccountView:
    """A ledger account as the planner sees it, in micros; no limit means that it only counts."""

    currency: str
    limit_micros: int | None
    held_micros: int
    spent_micros: int
    usable: bool = True
    suspended: bool = False
    window_end: datetime | None = None
    # Of what is held, for calls whose end or length somebody must find out: it may not come back for days.
    unresolved_micros: int = 0
    why_suspended: str = ""


@dataclass(frozen=True)
class PendingSession:
    """A session that waits to be admitted."""

    key: tuple[str, str]
    campaign: tuple[str, str]
    pool: tuple[str, str]
    priority: int
    position: int
    created: datetime
    currency: str
    # The most that the call may last.
    time_limit_s: int
    # The worst case of so long a call; None where no price covers it.
    hold_micros: int | None
    ceiling_micros: int | None
    accounts: tuple[str, ...]
    budgets_found: bool
    # The SID of the account that calls; None while there is none that could.
    carrier: str | None
    # What each meter of the worst case may run at most.
    caps: tuple[CostLine, ...] = ()
    # Whether the campaign has a model that serves.
    model_ready: bool = True
    # Why the gate would not let this call be made: Stopped, NoConsent or DoNotCall.
    refusal: Reason | None = None
    retry_at: datetime | None = None
    # Another call to the same number is open.
    number_busy: bool = False
    # The time zones in which the person may be; none: nobody knows.
    zones: tuple[str, ...] = ()


@dataclass(frozen=True)
class CampaignView:
    """What bounds a campaign's admissions: its own limits, and its share beside the others'."""

    suspended: bool
    max_concurrent: int
    share: Share = field(default_factory=Share)
    # Its own pace, if it has one.
    pace: Pace | None = None
    # When it may call; None: at any time.
    hours: Hours | None = None


@dataclass(frozen=True)
class Slot:
    """A place for one call in a ready worker pod."""

    pool: tuple[str, str]
    pod_name: str
    pod_uid: str


@dataclass(frozen=True)
class Snapshot:
    """Everything that an admission depends on."""

    pending: Sequence[PendingSession]
    campaigns: Mapping[tuple[str, str], CampaignView]
    accounts: Mapping[str, AccountView]
    # In the order in which they are given away (plan/slots).
    slots: Sequence[Slot]
    # Calls that each carrier account takes beside those that are open; all its campaigns share it.
    carrier_room: Mapping[str, int]
    # How many calls of each are open on workers that others replace: these need a place with them.
    carrier_replaced: Mapping[str, int] = field(default_factory=dict)
    # What the price list is in: a worst case in another currency cannot be told.
    price_currency: str = "USD"


@dataclass(frozen=True)
class Admit:
    """Hold this session's worst case and bind it to this slot."""

    session: PendingSession
    slot: Slot


@dataclass(frozen=True)
class Wait:
    """Leave this session pending, for this reason. `shared`: it is in line for what others have.

    `or_says`: another reason that is as true. Whoever says it already is left alone: a reason that comes and goes with
    every call would be a write for each of thousands in line. `may_say`: messages of the same reason that come and go,
    too.
    """

    session: PendingSession
    reason: Reason
    shortfall_micros: int | None = None
    retry_at: datetime | None = None
    message: str = ""
    shared: bool = False
    or_says: Reason | None = None
    may_say: frozenset[str] = frozenset()


@dataclass
class _Books:
    """The planner's own running view: what it has given away in this plan."""

    accounts: Mapping[str, AccountView]
    planned_micros: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # Accounts whose money is held, and what the first session that waits for it needs: nobody behind it takes it.
    awaited_micros: dict[str, int] = field(default_factory=dict)
    # When campaigns may next call people of these zones; None: at no time that can be told.
    openings: dict[tuple[tuple[str, str], tuple[str, ...]], datetime | None] = field(default_factory=dict)
    # Sessions of each campaign that wait for its own pace.
    paced: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    admitted: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    by_carrier: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    slots: dict[tuple[str, str], deque[Slot]] = field(default_factory=lambda: defaultdict(deque))


def plan_admissions(snapshot: Snapshot, now: datetime) -> list[Admit | Wait]:
    """Decides for every pending session; one decision each, in the order of the queue (plan/turns).

    The ledger has the last word on money: an Admit that it refuses becomes a wait.
    """
    books = _Books(snapshot.accounts)
    for slot in snapshot.slots:
        books.slots[slot.pool].append(slot)
    turns = Turns({key: view.share for key, view in snapshot.campaigns.items()})
    decisions: list[Admit | Wait] = []
    for session in turns.order(snapshot.pending):
        decision = _decide(session, snapshot, books, now)
        if isinstance(decision, Admit):
            turns.took(session.campaign)
        decisions.append(decision)
    return decisions


def plan_openings(snapshot: Snapshot, now: datetime) -> dict[tuple[str, str], datetime]:
    """When each campaign may next call somebody who waits: `now`, or the next opening; not in it: at no time."""
    people = {(session.campaign, session.zones) for session in snapshot.pending}
    openings: dict[tuple[str, str], datetime] = {}
    for key, zones in people:
        campaign = snapshot.campaigns.get(key)
        if campaign is None:
            continue
        opening = now if campaign.hours is None else next_opening(campaign.hours, zones, now)
        if opening is not None:
            openings[key] = min(opening, openings.get(key, opening))
    return openings


_OWN_PACE = "the campaign's own pace (pacing.callsPerSecond)"
_CARRIER_FULL = "the carrier account takes no more calls at once"
# What a session says while nothing but a slot or its turn is missing.
WANTS_A_SLOT = frozenset({Reason.NO_CAPACITY, Reason.PACING, Reason.NUMBER_BUSY})


def plan_in_line(snapshot: Snapshot, decisions: Sequence[Admit | Wait]) -> list[PendingSession]:
    """Who would be called if there were slots, by the money and the carrier's room: nobody else needs a worker
    to be started. What a campaign may have at once its pool knows (plan/pool).

    Each pool is looked at for itself: what may be used in several of them is in none of them before it is.
    """
    admitted = _Books(snapshot.accounts)
    for item in decisions:
        if isinstance(item, Admit):
            _plan_call(item.session, admitted)
    books: defaultdict[tuple[str, str], _Books] = defaultdict(
        lambda: _Books(snapshot.accounts, admitted.planned_micros.copy(), by_carrier=admitted.by_carrier.copy())
    )
    waits = [item for item in decisions if isinstance(item, Wait) and item.reason in WANTS_A_SLOT]
    # Who waits for nothing else comes first: a number may be busy for a day.
    waits.sort(key=lambda item: item.reason is not Reason.NO_CAPACITY)
    found = []
    for session in (item.session for item in waits):
        mine, hold_micros = books[session.pool], session.hold_micros or 0
        replaced = snapshot.carrier_replaced.get(session.carrier or "", 0)
        if _is_carrier_full(session, snapshot, mine, replaced):
            continue
        if all(_missing_micros(key, hold_micros, mine) <= 0 for key in session.accounts):
            _plan_call(session, mine)
            found.append(session)
    return found


def leads_after(snapshot: Snapshot, decisions: Sequence[Admit | Wait], passed_s: float) -> dict[tuple[str, str], float]:
    """The campaigns' leads for the next plan (plan/turns), `passed_s` after the last; in seconds."""
    shares = {key: view.share for key, view in snapshot.campaigns.items()}
    admitted = Counter(item.session.campaign for item in decisions if isinstance(item, Admit))
    # Who got, or is in line for, what all share.
    contending = {item.session.campaign for item in decisions if isinstance(item, Admit) or item.shared}
    return plan_leads(shares, admitted, contending, passed_s)


def _decide(session: PendingSession, snapshot: Snapshot, books: _Books, now: datetime) -> Admit | Wait:
    campaign = snapshot.campaigns.get(session.campaign)
    if campaign is None or campaign.suspended:
        return Wait(session, Reason.SUSPENDED)
    unfit = _unfit(session, snapshot, now)
    if unfit is not None:
        return unfit
    if session.hold_micros is None:
        return Wait(session, Reason.NO_PRICE)
    money = _money_wait(session, session.hold_micros, books)
    if money is not None and money.reason is not Reason.BUDGET_HELD:
        return money
    if session.carrier is None or not session.model_ready:
        return Wait(session, Reason.MODEL_NOT_READY if session.carrier else Reason.CARRIER_NOT_READY)
    turn = _pacing(session, campaign, snapshot, books, now)
    if turn is not None:
        return turn
    slots = books.slots[session.pool]
    if money is not None:
        if slots and not session.number_busy:
            _await_money(session, session.hold_micros, books)
        return money
    if session.number_busy:
        return Wait(session, Reason.NUMBER_BUSY, message="another call to this number is open")
    if not slots:
        return Wait(session, Reason.NO_CAPACITY, message="no worker has a free slot", shared=True)
    _plan_call(session, books)
    books.admitted[session.campaign] += 1
    return Admit(session, slots.popleft())


def _closed(session: PendingSession, hours: Hours, books: _Books, now: datetime) -> Wait | None:
    """Waits for the next hour in which the person may be called; None: it is one."""
    key = (session.campaign, session.zones)
    if key not in books.openings:
        books.openings[key] = next_opening(hours, session.zones, now)
    opening = books.openings[key]
    if opening is not None and opening <= now:
        return None
    message = "" if opening else why_never(hours, session.zones, now)
    return Wait(session, Reason.OUTSIDE_CALLING_HOURS, retry_at=opening, message=message)


def _pacing(
    session: PendingSession, campaign: CampaignView, snapshot: Snapshot, books: _Books, now: datetime
) -> Wait | None:
    """What keeps a call that could be made from being made now: the hour, calls that are open, the campaign's pace."""
    closed = None if campaign.hours is None else _closed(session, campaign.hours, books, now)
    if closed is not None:
        return closed
    admitted = books.admitted[session.campaign]
    if campaign.share.open_calls + admitted >= campaign.max_concurrent:
        return _paced(session, campaign, books, _calls_are_open(campaign))
    if campaign.pace is not None and not campaign.pace.allows(admitted, now):
        retry_at = campaign.pace.dials_at(admitted + books.paced[session.campaign], now)
        books.paced[session.campaign] += 1
        return replace(_paced(session, campaign, books, _OWN_PACE), retry_at=retry_at, or_says=None)
    if _is_carrier_full(session, snapshot, books):
        return replace(_paced(session, campaign, books, _CARRIER_FULL), shared=True)
    return None


def _paced(session: PendingSession, campaign: CampaignView, books: _Books, message: str) -> Wait:
    limits = {_calls_are_open(campaign), _CARRIER_FULL} | (set() if campaign.pace is None else {_OWN_PACE})
    or_says = None if books.slots[session.pool] else Reason.NO_CAPACITY
    return Wait(session, Reason.PACING, message=message, or_says=or_says, may_say=frozenset(limits))


def _calls_are_open(campaign: CampaignView) -> str:
    return f"{campaign.max_concurrent} calls of the campaign are open (pacing.maxConcurrent)"


def _is_carrier_full(session: PendingSession, snapshot: Snapshot, books: _Books, more: int = 0) -> bool:
    carrier = session.carrier or ""
    return books.by_carrier[carrier] >= snapshot.carrier_room.get(carrier, 0) + more


def _plan_call(session: PendingSession, books: _Books) -> None:
    """What a call that is planned takes from all others."""
    for key in session.accounts:
        books.planned_micros[key] += session.hold_micros or 0
    books.by_carrier[session.carrier or ""] += 1


def _await_money(session: PendingSession, hold_micros: int, books: _Books) -> None:
    """Keeps what comes back for a session that could be called at once, or smaller calls would take it for ever.

    Not where enough of it is held until somebody has resolved an attempt: smaller calls would wait for that, too.
    """
    for account in (books.accounts[key] for key in session.accounts):
        kept = account.spent_micros + account.unresolved_micros
        if account.limit_micros is not None and kept + hold_micros > account.limit_micros:
            return
    for key in session.accounts:
        if _missing_micros(key, hold_micros, books) > 0:
            books.awaited_micros.setdefault(key, hold_micros)


def _missing_micros(key: str, hold_micros: int, books: _Books) -> int:
    """What an account lacks for this hold beside all others, in micros; what it has may be another's who waits."""
    account = books.accounts[key]
    if account.limit_micros is None:
        return 0
    used = account.spent_micros + account.held_micros + books.planned_micros[key]
    lacks = used + hold_micros - account.limit_micros
    return lacks if lacks > 0 else lacks + books.awaited_micros.get(key, 0)


def _unfit(session: PendingSession, snapshot: Snapshot, now: datetime) -> Wait | None:
    """Why this session could not be called even if there were money and room."""
    if session.retry_at is not None and session.retry_at > now:
        return Wait(session, Reason.RETRY_SCHEDULED, retry_at=session.retry_at)
    # Whether a number may be called depends on the account: without one it cannot be told.
    if session.refusal is not None and (session.carrier is not None or session.refusal is not Reason.DO_NOT_CALL):
        return Wait(session, session.refusal)
    if session.currency != snapshot.price_currency:
        return Wait(session, Reason.CURRENCY_MISMATCH)
    if not session.budgets_found:
        return Wait(session, Reason.BUDGET_NOT_FOUND)
    return None


def _money_wait(session: PendingSession, hold_micros: int, books: _Books) -> Wait | None:
    """The strongest reason why an account cannot take the hold: spent out before merely held.

    A window that is spent out is tried again when it ends; with several, when the last of them does. No window that
    comes has room for a call above its whole limit.
    """
    if session.ceiling_micros is not None and hold_micros > session.ceiling_micros:
        return Wait(session, Reason.PER_CALL_LIMIT, hold_micros - session.ceiling_micros)
    exhausted, held, never = 0, 0, ""
    ends: list[datetime | None] = []
    for key in session.accounts:
        account = books.accounts.get(key)
        if account is None or not account.usable:
            return Wait(session, Reason.BUDGET_NOT_FOUND)
        if account.currency != session.currency:
            return Wait(session, Reason.CURRENCY_MISMATCH)
        if account.suspended:
            return Wait(session, Reason.SUSPENDED, message=account.why_suspended)
        if account.limit_micros is None:
            continue
        spent_out = account.spent_micros + hold_micros - account.limit_micros
        exhausted = max(exhausted, spent_out)
        held = max(held, _missing_micros(key, hold_micros, books))
        if hold_micros > account.limit_micros:
            never = f"this call alone may cost more than the whole limit of {key}: raise it, or make calls shorter"
        if spent_out > 0:
            ends.append(account.window_end)
    if exhausted > 0:
        known = [end for end in ends if end is not None]
        retry_at = None if never or len(known) < len(ends) else max(known)
        return Wait(session, Reason.BUDGET_EXHAUSTED, exhausted, retry_at, message=never)
    if held > 0:
        return Wait(session, Reason.BUDGET_HELD, held, shared=True)
    return None
