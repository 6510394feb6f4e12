"""What the model knows: accounts, people, attempts. Amounts are integer micros; times are the model's own clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from callfleet_core.windows import TOTAL, Window
from callfleet_operator.plan.hours import Hours
from callfleet_operator.plan.hours import Window as Opening

# The night before New York's clocks go forward. Every step of time is a multiple of STEP_S, and whatever expires or
# begins does so in the middle between two of them: the real clock, which runs on meanwhile, decides nothing.
BEGINNING: Final = datetime(2026, 3, 8, 3, 30, 25, tzinfo=UTC)
STEP_S: Final = 50
EXPIRES_S: Final = (0, 120, 200_020)

CAMPAIGNS: Final = ("spring", "autumn")
RUNS: Final = ("1", "2")
PEOPLE: Final = 4
PODS: Final = ("pod-0", "pod-1")
CURRENCY: Final = "USD"
OPEN: Final = frozenset({"granted", "dialing", "placed"})
# A campaign's schedule: none, open at any hour, closed today; over, not yet over; by the clock of who knows where.
HOURS: Final = ("none", "always", "another day", "over", "not over", "callee")
OPEN_HOURS: Final = frozenset({"none", "always", "not over"})
# Ends after which the same person may be tried again: nobody was reached.
NOBODY_REACHED: Final = frozenset({"busy", "no-answer", "canceled", "notPlaced"})
# Ends that are no final word of the carrier's: what it says later replaces them.
NOT_FINAL: Final = frozenset({"unresolved", "notPlaced"})
BAD_NUMBER: Final = "21211"
STALE: Final = "StaleEpoch"
SID_TAKEN: Final = "SidTaken"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True)
class Owner:
    """A Kubernetes object that limits what may be spent."""

    kind: str
    name: str


@dataclass
class Account:
    """One window of an owner's."""

    owner: Owner
    window: Window
    currency: str
    limit: int | None
    suspended: bool
    uid: str
    generation: int
    held: int = 0
    spent: int = 0
    closed: bool = False
    overrun: bool = False
    overrun_meters: frozenset[str] = frozenset()

    def is_open(self, now: datetime) -> bool:
        """Whether its window holds `now`."""
        window = self.window
        return (window.start is None or window.start <= now) and (window.end is None or now < window.end)


@dataclass
class Pace:
    """`pause_s` lies between two dials."""

    pause_s: float = 0.0
    next_dial_at: datetime = BEGINNING

    def makes_wait(self, now: datetime) -> bool:
        """Nobody waits for longer than one pause: a later moment is that of an earlier, slower pace."""
        return now < self.next_dial_at <= now + timedelta(seconds=self.pause_s)


@dataclass
class Carrier(Pace):
    """An account at a carrier."""

    simulated: bool = True


@dataclass
class Campaign(Pace):
    """What may be dialled at all, and how fast."""

    suspended: bool = False
    closed: bool = False
    # One of HOURS.
    hours: str = "none"


class Line(NamedTuple):
    """One meter's cost, or its cap."""

    meter: str
    quantity: int
    amount: int


class Charge(NamedTuple):
    """What an attempt cost, for the end that was seen."""

    id: UUID
    lines: list[Line]
    seen: str | None


class Place(NamedTuple):
    """A person in a run of a campaign."""

    campaign: str
    run: str
    person: int


@dataclass(frozen=True)
class Item:
    """One attempt that is asked for; `number` is the attempt's within its run."""

    id: UUID
    place: Place
    number: int
    amount: int
    accounts: tuple[str, ...]
    currency: str = CURRENCY
    carrier: str = "fast"
    pod: str = PODS[0]
    max_attempts: int = 2
    expires_s: int = 120
    # What each meter may run at most; () caps none.
    caps: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What somebody says of how a call ended."""

    status: str
    sid: str | None = None
    duration_s: int | None = None
    error_code: str | None = None


@dataclass
class Attempt:
    """A right to dial, and what became of it."""

    item: Item
    granted_at: datetime
    state: str = "granted"
    reason: str | None = None
    nonce: UUID | None = None
    owner_pod: str | None = None
    begun_at: datetime | None = None
    sid: str | None = None
    placed_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    end_status: str | None = None
    duration_s: int | None = None
    counts: bool = True
    cancel_requested: bool = False
    actual: int | None = None
    costs: dict[str, int] = field(default_factory=dict)

    @property
    def expires_at(self) -> datetime:
        """A grant's end."""
        return self.granted_at + timedelta(seconds=self.item.expires_s)

    @property
    def is_late(self) -> bool:
        """Settled, and then the carrier said how it ended after all."""
        return self.state == "settled" and self.reason == "LateEvidence"


class Entry(NamedTuple):
    """One posting: what it did to an account's balances, and the limit that was in force."""

    attempt: UUID
    account: str
    kind: str
    number: int
    held: int
    spent: int
    limit: int | None


def key_of(owner: Owner, window: Window = TOTAL) -> str:
    """An account's name here."""
    return f"{owner.kind}/{owner.name}/{window.key}"


def hours_named(name: str, now: datetime) -> Hours | None:
    """One of HOURS, as it is at a moment: open, or closed, for a day and more around it."""
    day = timedelta(days=1)
    every, other = frozenset(range(1, 8)), frozenset({(now + 3 * day).isoweekday()})
    match name:
        case "always":
            return Hours((Opening(every, 0, 24 * 60),), "UTC")
        case "another day":
            return Hours((Opening(other, 0, 24 * 60),), "UTC")
        case "over":
            return Hours(not_after=now - day)
        case "not over":
            return Hours(not_after=now + 1000 * day)
        case "callee":
            return Hours((Opening(every, 0, 24 * 60),))
    return None
