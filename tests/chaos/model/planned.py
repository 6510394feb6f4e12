"""The machine with the operator's planners in it: whatever they decide is done, and must be what the ledger allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from tests.chaos.model.facts import (
    BEGINNING,
    CAMPAIGNS,
    CURRENCY,
    OPEN,
    PODS,
    RUNS,
    Attempt,
    Charge,
    Evidence,
    Item,
    Owner,
    Place,
    hours_named,
)
from tests.chaos.model.machine import BUDGETS, OWNERS, LedgerMachine, zones_of

from callfleet_core.api.callsession import TERMINAL_STATES, Reason, SessionState
from callfleet_core.api.campaign import Attempts
from callfleet_core.ledger import Attempt as AttemptRow
from callfleet_core.runs import RunContact
from callfleet_core.windows import beside
from callfleet_operator.plan.admission import (
    AccountView,
    Admit,
    CampaignView,
    PendingSession,
    Slot,
    Snapshot,
    Wait,
    plan_admissions,
)
from callfleet_operator.plan.limits import account_keys, limits_now
from callfleet_operator.plan.session import (
    Status,
    admitted_status,
    pending_status,
    plan_closed,
    plan_session,
    retry_time,
)
from callfleet_operator.plan.turns import Share

NAMESPACE: Final = "sales"
POOL: Final = (NAMESPACE, "pool")
ATTEMPTS: Final = Attempts(max=2)
MISMATCH: Final = "TimeZoneMismatch"
_MONEY: Final = {
    Reason.BUDGET_EXHAUSTED, Reason.BUDGET_HELD, Reason.BUDGET_NOT_FOUND, Reason.CURRENCY_MISMATCH, Reason.SUSPENDED,
}  # fmt: skip
# What the ledger may still say of a session that was planned to be held: the planner knows no numbers.
_AFTER_ALL: Final = {"Held", "NumberBusy", "Closed"}


@dataclass(frozen=True)
class Limits:
    """An object's limits as the API writes them, and its time zone."""

    daily: str | None = None
    monthly: str | None = None
    total: str | None = None
    zone: str = "UTC"


class PlannedMachine(LedgerMachine):
    """Sessions of one run of each campaign, and the operator's cycle over them."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: dict[Owner, Limits] = dict.fromkeys(OWNERS, Limits())
        self.taken: dict[Owner, set[str]] = {owner: set() for owner in OWNERS}
        self.sessions: dict[Place, Status] = {}
        self.canceled: set[Place] = set()

    @initialize()
    def start_sessions(self) -> None:
        """Everybody is to be called by both campaigns."""
        self.sessions = {place: {} for place in self.books.done if place.run == RUNS[0]}
        self.limits[BUDGETS[0]] = Limits(daily="0.00006", total="0.00015", zone=zones_of(BUDGETS[0])[0])

    @rule(
        which=st.integers(0, len(OWNERS) - 1), daily=st.sampled_from((None, "0.00003", "0.00006")),
        monthly=st.sampled_from((None, None, "0.0001")), total=st.sampled_from((None, "0.0001", "0.0002")),
    )  # fmt: skip
    def change_limits(self, which: int, daily: str | None, monthly: str | None, total: str | None) -> None:
        """Somebody applies other limits."""
        owner = OWNERS[which]
        self.generations[owner] += 1
        self.limits[owner] = Limits(daily, monthly, total, zones_of(owner)[0])

    @rule(amount=st.sampled_from((10, 20, 35)), slots=st.integers(1, 6), room=st.integers(1, 6))
    def cycle(self, amount: int, slots: int, room: int) -> None:
        """An admission cycle: limits in force, snapshot, plan, hold, bind."""
        self._put_limits_in_force()
        exact = True
        for decision in plan_admissions(self._snapshot(amount, slots, room), self.books.now):
            place = _place(decision.session)
            item = self._item(place, amount, decision.session.accounts)
            if isinstance(decision, Admit):
                exact &= self._admit(place, item, decision.slot.pod_uid)
            elif exact and decision.reason in _MONEY:
                self._compare_wait(item, decision)

    @rule()
    def walk(self) -> None:
        """Every session's status follows its attempt's row."""
        for place, status in self.sessions.items():
            wanted = plan_session(
                status, self._row(place), ATTEMPTS, self.books.now, cancel=place in self.canceled
            )  # fmt: skip
            if wanted is None:
                continue
            self.sessions[place] = wanted
            if SessionState(wanted["state"]) in TERMINAL_STATES:
                self.ask("finish", self.epochs[-1], place)

    @rule(recent=st.integers(0, 30))
    def cancel_session(self, recent: int) -> None:
        """Somebody cancels a session: mirrored first, then what is granted is revoked."""
        place = list(self.sessions)[recent % len(self.sessions)]
        self.canceled.add(place)
        for attempt in [each for each in self.books.attempts_of(place) if each.state in OPEN]:
            self.ask("request_cancel", self.epochs[-1], attempt.item.id)
            self.ask("revoke", self.epochs[-1], attempt.item.id, "Canceled")

    @invariant()
    def nobody_is_called_after_the_end(self) -> None:
        """A session that is over has no attempt that is open."""
        for place, status in self.sessions.items():
            if SessionState(status.get("state") or "Pending") in TERMINAL_STATES:
                assert all(attempt.state not in OPEN for attempt in self.books.attempts_of(place)), status

    def teardown(self) -> None:
        """Nobody waits for ever: with money and time enough every session comes to its end."""
        if not (self.sessions and self.epochs):
            return  # it never began
        self._calm()
        for owner in OWNERS:
            self.generations[owner] += 2
        self.limits = dict.fromkeys(OWNERS, Limits(total="1"))
        for _ in range(8):
            self._end_all()
            self.ask("pass_time", 86_400)
            self.walk()
            self.cycle(10, 100, 100)
        self._end_all()
        self.walk()
        states = {place: status.get("state") for place, status in self.sessions.items()}
        assert all(state in set(TERMINAL_STATES) for state in states.values()), states
        self.the_books_are_right()

    def _end_all(self) -> None:
        """Every attempt comes to its end, is priced and settled."""
        epoch = self.epochs[-1]
        for attempt in list(self.books.attempts.values()):
            id_, place = attempt.item.id, attempt.item.place
            if self.sessions.get(place, {}).get("state") != "Admitted":
                self.ask("revoke", epoch, id_, "NotBound")
            self.ask("begin_dial", id_, attempt.item.pod, self.next_id())
            self.ask("record_ended", id_, Evidence("completed", duration_s=60))
            lines = self._lines(attempt, attempt.end_status, over=False)
            self.ask("settle", epoch, [Charge(id_, lines, attempt.end_status)])

    def _put_limits_in_force(self) -> None:
        for owner, limits in self.limits.items():
            for window, micros in limits_now(limits, limits.zone, self.books.now).items():
                self.taken[owner].discard(window.key)
                if self._limit(0, owner, window, limit=micros, generation=self.generations[owner]) == MISMATCH:
                    self.taken[owner].add(window.key)
                    self._limit(0, owner, beside(window), limit=micros, generation=self.generations[owner])

    def _keys(self, place: Place) -> tuple[str, ...]:
        """The accounts that must cover a session now, in the model's names."""
        owners = (Owner("Campaign", place.campaign), BUDGETS[0])
        keys = (
            key
            for each in owners
            for key in account_keys(
                NAMESPACE, each.kind, each.name, self.limits[each], self.limits[each].zone, self.books.now,
                self.taken[each],
            )
        )  # fmt: skip
        return tuple(key.removeprefix(f"{NAMESPACE}/") for key in keys)

    def _snapshot(self, amount: int, slots: int, room: int) -> Snapshot:
        books = self.books
        accounts = {
            key: AccountView(
                each.currency, each.limit, each.held, each.spent, usable=not each.closed,
                suspended=each.suspended or each.overrun, window_end=each.window.end,
            )
            for key, each in books.accounts.items()
        }  # fmt: skip
        views = {
            (NAMESPACE, name): CampaignView(
                each.suspended,
                5,
                Share(open_calls=sum(a.item.place.campaign == name for a in books.open_attempts())),
                hours=hours_named(each.hours, books.now),
            )
            for name, each in books.campaigns.items()
        }
        pods = [Slot(POOL, PODS[0], PODS[0])] * slots
        return Snapshot(list(self._pending(amount)), views, accounts, pods, {"fast": room})

    def _pending(self, amount: int) -> Iterator[PendingSession]:
        for position, (place, status) in enumerate(self.sessions.items()):
            unsettled = any(a.state in OPEN or a.state == "ended" or a.is_late for a in self.books.attempts_of(place))
            if (status.get("state") or "Pending") != "Pending" or place in self.canceled or unsettled:
                continue
            refusal, row = self.books.gate(place.person, "fast"), self._row(place)
            yield PendingSession(
                key=(NAMESPACE, "/".join(map(str, place))), campaign=(NAMESPACE, place.campaign), pool=POOL,
                priority=CAMPAIGNS.index(place.campaign), position=position, created=BEGINNING, currency=CURRENCY,
                time_limit_s=120, hold_micros=amount, ceiling_micros=30, accounts=self._keys(place), budgets_found=True,
                carrier="fast", refusal=Reason(refusal) if refusal else None,
                retry_at=retry_time(row, ATTEMPTS) if row else None,
            )  # fmt: skip

    def _item(self, place: Place, amount: int, accounts: tuple[str, ...]) -> Item:
        row = self._row(place)
        number = row.number + 1 if row else 1
        return Item(self.next_id(), place, number, amount, accounts, max_attempts=ATTEMPTS.max)

    def _admit(self, place: Place, item: Item, pod: str) -> bool:
        """Holds and binds; False where the ledger knew better, so that the rest of the plan is not exact any more."""
        (answer,) = self.ask("hold", self.epochs[-1], [item])
        assert answer.result in _AFTER_ALL, f"planned to be held, but the ledger says {answer}"
        status = self.sessions[place]
        if answer.result == "Held":
            attempt = {"id": str(item.id), "number": item.number, "held": "0"}
            self.sessions[place] = admitted_status(status, attempt, pod, pod, self.books.now)
        elif answer.result == "NumberBusy":
            self.sessions[place] = pending_status(status, Reason.NUMBER_BUSY, self.books.now)
        else:
            known = RunContact(UUID(int=place.person), 0, "", "Canceled" if self.books.done[place] else None, None)
            closed = plan_closed(status, self._row(place), ATTEMPTS, known, self.books.now, 1)
            self.sessions[place] = status if closed is None else closed
        return bool(answer.result == "Held")

    def _compare_wait(self, item: Item, wait: Wait) -> None:
        """The planner's reason and shortfall are the ledger's."""
        if self.books.campaigns[item.place.campaign].suspended:
            return
        said = self.books.refusal(item)
        assert said is not None, f"planned to wait with {wait.reason}, but the ledger would hold it"
        assert (said.result, said.shortfall) == (wait.reason.value, wait.shortfall_micros)
        assert wait.retry_at is None or wait.retry_at > self.books.now

    def _row(self, place: Place) -> AttemptRow | None:
        """The newest attempt of a session that was not revoked, as the ledger tells it."""
        past = sorted(self.books.attempts_of(place), key=lambda attempt: attempt.item.number)
        return _as_row(past) if past else None


def _place(session: PendingSession) -> Place:
    campaign, run, person = session.key[1].split("/")
    return Place(campaign, run, int(person))


def _as_row(past: list[Attempt]) -> AttemptRow:
    attempt, facts = past[-1], dict[str, Any]()
    item, place = attempt.item, attempt.item.place
    for name in ("state", "reason", "end_status", "duration_s", "counts", "begun_at", "placed_at", "answered_at",
                 "ended_at", "granted_at", "expires_at"):  # fmt: skip
        facts[name] = getattr(attempt, name)
    return AttemptRow(
        id=item.id, number=item.number, namespace=NAMESPACE, campaign=place.campaign, run_id=place.run,
        contact_id=UUID(int=place.person), session_name="/".join(map(str, place)), session_uid="1",
        account_sid=item.carrier, currency=item.currency, hold_micros=item.amount, time_limit_s=120,
        ring_timeout_s=20, max_queue_s=30, granted_pod_uid=item.pod, call_sid=attempt.sid,
        cancel_requested_at=_since(attempt), actual_micros=attempt.actual, lookups_empty=0, last_lookup_at=None,
        disposition=None, uncovered=False, tries=sum(each.counts for each in past),
        not_placed=sum(not each.counts for each in past), **facts,
    )  # fmt: skip


def _since(attempt: Attempt) -> datetime | None:
    return attempt.granted_at + timedelta(seconds=1) if attempt.cancel_requested else None
