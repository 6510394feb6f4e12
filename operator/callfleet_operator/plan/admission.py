"""Which pending sessions to admit, onto which slot, and why the others wait. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from callfleet_core.api.callsession import Reason


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
    # The worst case; None where no price covers the call.
    hold_micros: int | None
    ceiling_micros: int | None
    accounts: tuple[str, ...]
    budgets_found: bool
    # The SID of the account that calls; None while there is none that could.
    carrier: str | None
    # Why the gate would not let this call be made: Stopped, NoConsent or DoNotCall.
    refusal: Reason | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True)
class CampaignView:
    """What bounds a campaign's admissions."""

    suspended: bool
    max_concurrent: int
    open_attempts: int


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
    # What the price list is in: a worst case in another currency cannot be told.
    price_currency: str = "USD"


@dataclass(frozen=True)
class Admit:
    """Hold this session's worst case and bind it to this slot."""

    session: PendingSession
    slot: Slot


@dataclass(frozen=True)
class Wait:
    """Leave this session pending, for this reason; None keeps the reason that it has (a retry is scheduled)."""

    session: PendingSession
    reason: Reason
    shortfall_micros: int | None = None
    retry_at: datetime | None = None


@dataclass
class _Books:
    """The planner's own running view: what it has given away in this plan."""

    accounts: Mapping[str, AccountView]
    planned_micros: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    admitted: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    by_carrier: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    slots: dict[tuple[str, str], deque[Slot]] = field(default_factory=lambda: defaultdict(deque))


def plan_admissions(snapshot: Snapshot, now: datetime) -> list[Admit | Wait]:
    """Decides for every pending session; one decision each.

    Order: priority, then campaigns in turn, inside a campaign its contacts' order. The ledger has the last word on
    money: an Admit that it refuses becomes a wait.
    """
    books = _Books(snapshot.accounts)
    for slot in snapshot.slots:
        books.slots[slot.pool].append(slot)
    return [_decide(session, snapshot, books, now) for session in _fair_order(snapshot.pending)]


def _fair_order(pending: Sequence[PendingSession]) -> Iterator[PendingSession]:
    by_priority: dict[int, dict[tuple[str, str], list[PendingSession]]] = defaultdict(lambda: defaultdict(list))
    for session in sorted(pending, key=lambda item: (item.created, item.position, item.key)):
        by_priority[session.priority][session.campaign].append(session)
    for priority in sorted(by_priority, reverse=True):
        queues = list(by_priority[priority].values())
        for turn in range(max(map(len, queues))):
            yield from (queue[turn] for queue in queues if turn < len(queue))


def _decide(session: PendingSession, snapshot: Snapshot, books: _Books, now: datetime) -> Admit | Wait:
    campaign = snapshot.campaigns.get(session.campaign)
    if campaign is None or campaign.suspended:
        return Wait(session, Reason.SUSPENDED)
    unfit = _unfit(session, snapshot, now)
    if unfit is not None:
        return unfit
    hold_micros = session.hold_micros
    if hold_micros is None:
        return Wait(session, Reason.NO_PRICE)
    money = _money_wait(session, hold_micros, books)
    if money is not None and money.reason is not Reason.BUDGET_HELD:
        return money
    if session.carrier is None:
        return Wait(session, Reason.CARRIER_NOT_READY)
    full = books.by_carrier[session.carrier] >= snapshot.carrier_room.get(session.carrier, 0)
    if full or campaign.open_attempts + books.admitted[session.campaign] >= campaign.max_concurrent:
        return Wait(session, Reason.PACING)
    if money is not None:
        return money
    if not books.slots[session.pool]:
        return Wait(session, Reason.NO_CAPACITY)
    for account in session.accounts:
        books.planned_micros[account] += hold_micros
    books.admitted[session.campaign] += 1
    books.by_carrier[session.carrier] += 1
    return Admit(session, books.slots[session.pool].popleft())


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

    A window that is spent out is tried again when it ends; with several, when the last of them does.
    """
    if session.ceiling_micros is not None and hold_micros > session.ceiling_micros:
        return Wait(session, Reason.PER_CALL_LIMIT, hold_micros - session.ceiling_micros)
    exhausted, held = 0, 0
    ends: list[datetime | None] = []
    for key in session.accounts:
        account = books.accounts.get(key)
        if account is None or not account.usable:
            return Wait(session, Reason.BUDGET_NOT_FOUND)
        if account.currency != session.currency:
            return Wait(session, Reason.CURRENCY_MISMATCH)
        if account.suspended:
            return Wait(session, Reason.SUSPENDED)
        if account.limit_micros is None:
            continue
        spent_out = account.spent_micros + hold_micros - account.limit_micros
        exhausted = max(exhausted, spent_out)
        held = max(held, spent_out + account.held_micros + books.planned_micros[key])
        if spent_out > 0:
            ends.append(account.window_end)
    if exhausted > 0:
        known = [end for end in ends if end is not None]
        return Wait(session, Reason.BUDGET_EXHAUSTED, exhausted, max(known) if len(known) == len(ends) else None)
    if held > 0:
        return Wait(session, Reason.BUDGET_HELD, held)
    return None
