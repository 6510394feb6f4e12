"""PostgreSQL's place in the simulation: core's classes, with the model of the protocol behind them."""

# ruff: noqa: ARG002  # the signatures are those of the classes in whose place these stand

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

from tests.chaos.model.facts import STALE, Charge, Evidence, Line, Owner, Place
from tests.simulation.books import ACCOUNT, MILLI, Books, person_id, person_of
from tests.simulation.scenario import NAMESPACE

from callfleet_core.contacts import ContactBook, Prospect, session_name
from callfleet_core.dialing import DialStore, EndEvidence, PlacedResult
from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import (
    MAX_ATTEMPTS_A_CYCLE,
    Attempt,
    Balance,
    HoldAnswer,
    HoldRequest,
    HoldResult,
    Ledger,
    LimitResult,
    OpenAttempt,
    Settlement,
)
from callfleet_core.privacy import Numbers, Privacy
from callfleet_core.recovery import DatabaseState, RecoveryBook
from callfleet_core.runs import CampaignRuns, ListUse, Run, RunContact, RunCounts
from callfleet_core.windows import Window
from callfleet_operator.plan.hours import Hours
from callfleet_operator.plan.hours import Window as HoursWindow

# Of a made-up number's beginning; the price list has a rate for it.
PREFIX = "+1555"


FROM = "+15550100199"


def number_of(person: int) -> str:
    """A made-up number."""
    return f"{PREFIX}{person:07d}"


def _needs_somebody(attempt: Attempt, now: datetime) -> bool:
    """As the view attempts_overview says it of what is not settled."""
    if attempt.state in {"dialing", "placed"}:
        answered, asked = attempt.answered_at, attempt.placed_at or attempt.begun_at or now
        rings = timedelta(seconds=attempt.max_queue_s + attempt.ring_timeout_s)
        deadline = (answered or asked + rings) + timedelta(seconds=attempt.time_limit_s)
        return deadline + timedelta(minutes=5) < now
    if attempt.state != "ended" or attempt.ended_at is None:
        return False
    is_without_length = attempt.end_status == "completed" and attempt.duration_s is None
    return attempt.end_status == "unresolved" or (is_without_length and attempt.ended_at < now - timedelta(minutes=10))


class Way:
    """The way to a server and back: mostly at once, now and then so long that others come between."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice

    async def go(self) -> None:
        """Once there."""
        if self._dice.random() < 0.15:
            await asyncio.sleep(self._dice.uniform(0.001, 0.4))


def _in_time(answer: Any) -> Any:
    if answer == STALE:
        raise StaleEpochError("a newer operator leads")
    return answer


class MemoryLedger(Ledger):
    """The operator's side of the books."""

    def __init__(self, books: Books, way: Way) -> None:
        self._books, self._way, self._epoch = books, way, 0

    async def take_epoch(self) -> int:
        self._epoch = self._books.take_epoch()
        return self._epoch

    async def set_limit(
        self, *, namespace: str, kind: str, name: str, window: Window, currency: str, limit_micros: int | None,
        suspended: bool, uid: str, generation: int,
    ) -> LimitResult:  # fmt: skip
        owner = Owner(kind, name)
        answer = self._books.set_limit(
            self._epoch, owner, window, currency, limit_micros, suspended, uid, generation
        )  # fmt: skip
        return LimitResult(_in_time(answer))

    async def forget_later(self, *, namespace: str, kind: str, name: str, uid: str, generation: int) -> bool:
        raise AssertionError(f"{kind} {name}: this cluster is never restored from a backup")

    async def close_account(self, *, namespace: str, kind: str, name: str) -> None:
        await self._way.go()
        _in_time(self._books.close_account(self._epoch, Owner(kind, name)))

    async def hold(self, requests: Sequence[HoldRequest]) -> list[HoldAnswer]:
        await self._way.go()
        said = _in_time(self._books.ask_to_hold(self._epoch, requests))
        await self._way.go()
        return [
            HoldAnswer(request.attempt_id, HoldResult(each.result), each.account, each.shortfall)
            for request, each in zip(requests, said, strict=True)
        ]

    async def revoke(self, attempt_id: UUID, reason: str) -> str:
        await self._way.go()
        return str(_in_time(self._books.revoke(self._epoch, attempt_id, reason)))

    async def settle_batch(self, settlements: Sequence[Settlement]) -> list[str]:
        await self._way.go()
        charges = [
            Charge(each.attempt_id, [_line(line.meter, line.quantity, line.amount_micros) for line in each.lines],
                   each.seen)
            for each in settlements
        ]  # fmt: skip
        states: list[str] = _in_time(self._books.settle(self._epoch, charges))
        return states

    async def balances(self, at: datetime | None = None) -> list[Balance]:
        found = [self._balance(key) for key in self._books.accounts]
        return [each for each in found if at is None or each.window_end is None or each.window_end > at]

    async def balance(self, key: str) -> Balance | None:
        own = key.split("/", 1)[1]
        return self._balance(own) if own in self._books.accounts else None

    async def balances_of(self, *, namespace: str, kind: str, name: str, at: datetime) -> list[Balance]:
        return [item for item in await self.balances(at) if (item.kind, item.name) == (kind, name)]

    def _balance(self, key: str) -> Balance:
        each = self._books.accounts[key]
        namespace = "" if each.owner.kind == "Installation" else NAMESPACE
        return Balance(
            f"{namespace}/{key}", namespace, each.owner.kind, each.owner.name, each.window.key, each.window.start,
            each.window.end, each.currency, each.limit, each.held, each.spent, each.closed, each.suspended,
            each.overrun, sorted(each.overrun_meters), each.uid, each.generation,
        )  # fmt: skip

    async def unsettled_attempts(self, after: Attempt | None = None) -> list[Attempt]:
        later = (each for each in self._books.unsettled() if after is None or self._books.is_behind(each, after.id))
        return [self._books.row(each) for each in islice(later, MAX_ATTEMPTS_A_CYCLE)]

    async def unsettled_attempts_of(self, namespace: str, campaign: str) -> list[Attempt]:
        return [self._books.row(each) for each in self._books.unsettled() if each.item.place.campaign == campaign]

    async def latest_attempts(self, namespace: str, session_names: Sequence[str]) -> dict[str, Attempt]:
        found = ((name, self._books.latest(name)) for name in session_names)
        return {name: self._books.row(attempt) for name, attempt in found if attempt is not None}

    async def unresolved_holds(self) -> dict[str, int]:
        held: Counter[str] = Counter()
        for attempt in self._books.unsettled():
            if _needs_somebody(self._books.row(attempt), self._books.now):
                held.update({self._balance(key).key: attempt.item.amount for key in attempt.item.accounts})
        return dict(held)

    async def open_attempts(self) -> list[OpenAttempt]:
        return [
            OpenAttempt(
                each.state, NAMESPACE, each.item.place.campaign,
                self._books.beside[each.item.id].request.session_name, each.item.carrier, each.item.pod,
            )
            for each in self._books.unsettled()
            if each.state != "settled"
        ]  # fmt: skip

    async def known_sids(self, sids: Sequence[str]) -> set[str]:
        return {sid for sid in sids if self._books.knows_call(sid)}

    async def request_cancel(self, attempt_id: UUID) -> None:
        _in_time(self._books.request_cancel(self._epoch, attempt_id))
        await self._way.go()

    async def note_lookup(self, attempt_id: UUID, *, empty: bool) -> None:
        if self._epoch != self._books.epoch:
            _in_time(STALE)
        beside = self._books.beside[attempt_id]
        beside.last_lookup_at = self._books.now
        beside.lookups_empty += empty


class MemoryContacts(ContactBook):
    """Contacts, and the mirror of the campaigns."""

    def __init__(self, books: Books, way: Way, epoch: Callable[[], int]) -> None:
        self._books, self._way, self._its_epoch = books, way, epoch

    async def mirror_campaign(
        self, *, namespace: str, name: str, uid: str, generation: int, suspended: bool, closed: bool,
        calls_per_second: Decimal | None = None, hours: Mapping[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        self._assert_leads()
        pause_s = 0.0 if calls_per_second is None else float(1 / calls_per_second)
        self._books.mirror(name, suspended=suspended, closed=closed, pause_s=pause_s, hours=_hours(hours))
        return True

    async def close_campaign(self, namespace: str, name: str) -> None:
        self._assert_leads()
        if name in self._books.campaigns:
            self._books.campaigns[name].closed = True

    async def open_campaigns(self) -> list[tuple[str, str]]:
        return [(NAMESPACE, name) for name, each in self._books.campaigns.items() if not each.closed]

    async def next_dials(self) -> dict[tuple[str, str], datetime]:
        now = self._books.now
        waits = {name: each.next_dial_at for name, each in self._books.campaigns.items() if each.makes_wait(now)}
        return {(NAMESPACE, name): moment for name, moment in waits.items()}

    async def allow(self, numbers: Sequence[str]) -> None:
        pass

    async def prefixes(self, contacts: Sequence[UUID]) -> dict[UUID, str]:
        return dict.fromkeys(contacts, PREFIX)

    async def prospects(self, calls: Sequence[tuple[str, str | None]]) -> list[Prospect]:
        await self._way.go()
        busy = {attempt.item.place.person for attempt in self._books.open_attempts()}
        people = [person_of(UUID(contact)) for contact, _ in calls]
        return [Prospect(PREFIX, self._books.gate(each, ACCOUNT), each in busy) for each in people]

    async def callee_zones(
        self, contacts: Sequence[UUID], run: tuple[str, str, str]
    ) -> dict[UUID, tuple[str, ...]]:  # fmt: skip
        return {contact: self._books.zones[person_of(contact)] for contact in contacts}

    def _assert_leads(self) -> None:
        if self._its_epoch() != self._books.epoch:
            raise StaleEpochError("a newer operator leads")


class MemoryRuns(CampaignRuns):
    """Who is on the lists, and who is done."""

    def __init__(self, books: Books, lists: dict[str, tuple[int, ...]], left: dict[Run, dict[int, int]],
                 epoch: Callable[[], int]) -> None:  # fmt: skip
        """`left`: by run whoever is not done, with their places; shared by all operators."""
        self._books, self._lists, self._left, self._its_epoch = books, lists, left, epoch
        self._ends: dict[Place, tuple[str, str | None]] = {}

    async def take_list(self, run: Run, list_name: str) -> None:
        if run in self._left:
            return
        self._left[run] = {person: position for position, person in enumerate(self._lists[list_name])}
        self._books.done |= dict.fromkeys((_place(run, each) for each in self._left[run]), False)

    async def outdated(self, uses: Sequence[ListUse]) -> set[Run]:
        return {use.run for use in uses if use.run not in self._left}

    async def counts(self, run: Run) -> RunCounts:
        total = len(self._lists[run.campaign])
        return RunCounts(total, total - len(self._left.get(run, ())))

    async def due(self, run: Run, limit: int, without: Sequence[UUID] = ()) -> list[RunContact]:
        known, found = {person_of(each) for each in without}, list[RunContact]()
        for person, position in self._left[run].items():
            if len(found) == limit:
                break
            if person not in known:
                name = session_name(run.campaign, run.run_id, person_id(person))
                found.append(RunContact(person_id(person), position, name, None, None))
        return found

    async def find(self, run: Run, contact: UUID) -> RunContact | None:
        place = _place(run, person_of(contact))
        if place not in self._books.done:
            return None
        state, disposition = self._ends.get(place, (None, None))
        return RunContact(contact, 0, session_name(run.campaign, run.run_id, contact), state, disposition)

    async def unlisted(self, run: Run, contacts: Sequence[UUID]) -> set[UUID]:
        return {each for each in contacts if _place(run, person_of(each)) not in self._books.done}

    async def finish(self, run: Run, contact: UUID, *, state: str, disposition: str | None) -> None:
        place = _place(run, person_of(contact))
        _in_time(self._books.finish(self._its_epoch(), place))
        self._left[run].pop(place.person, None)
        self._ends[place] = state, disposition


class MemoryDialing(DialStore):
    """Evidence about calls, as the operator gives it."""

    def __init__(self, books: Books, way: Way, epoch: Callable[[], int]) -> None:
        self._books, self._way, self._its_epoch = books, way, epoch

    async def record_placed(
        self, attempt_id: UUID, call_sid: str, *, pod_uid: str | None = None, generation: int | None = None
    ) -> PlacedResult:
        await self._way.go()
        return PlacedResult(self._books.record_placed(attempt_id, call_sid, pod_uid))

    async def record_ended(
        self, attempt_id: UUID, evidence: EndEvidence, *, pod_uid: str | None = None, generation: int | None = None
    ) -> bool:
        await self._way.go()
        if evidence.status == "unresolved" and self._its_epoch() != self._books.epoch:
            _in_time(STALE)
        said = Evidence(evidence.status, evidence.call_sid, evidence.duration_s, evidence.error_code)
        return self._books.record_ended(attempt_id, said, pod_uid) is True


class MemoryPrivacy(Privacy):
    """Numbers that are nobody's."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def numbers(self, attempt_id: UUID) -> Numbers:
        return Numbers(number_of(self._books.attempts[attempt_id].item.place.person), FROM)


class MemoryRecovery(RecoveryBook):
    """A database that was never replaced."""

    def __init__(self, state: dict[str, UUID | None]) -> None:
        self._state = state

    async def state(self) -> DatabaseState:
        return DatabaseState("1/1/1", "1/1/1" if self._state["now"] else None, self._state["now"],
                             self._state["before"], None, None, None, 0, None, None)  # fmt: skip

    async def beat(self, known: UUID | None, new: UUID) -> None:
        self._state["before"], self._state["now"] = self._state["now"], new


def _place(run: Run, person: int) -> Place:
    return Place(run.campaign, run.run_id, person)


def _line(meter: str, quantity: Decimal, amount: int) -> Line:
    return Line(meter, int(quantity * MILLI), amount)


def _hours(document: Mapping[str, Any] | None) -> Hours | None:
    """The mirror's document, read back as PostgreSQL does."""
    if document is None:
        return None
    told = json.loads(json.dumps(document))
    end = told["notAfter"]
    windows = tuple(HoursWindow(frozenset(each["days"]), each["from"], each["to"]) for each in told["windows"])
    return Hours(windows, told["zone"], None if end is None else datetime.fromisoformat(end))
