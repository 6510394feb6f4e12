"""What is looked at now and then, and at the end of the day: that sessions say why they wait, and nobody starves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tests.chaos.model.facts import OPEN, Account, Place
from tests.simulation.books import Books, person_of
from tests.simulation.exchange import Exchange
from tests.simulation.kubernetes import Body
from tests.simulation.operator import Servers
from tests.simulation.referee import Referee

from callfleet_core.api.callsession import Reason
from callfleet_core.pricing import CallUsage, total_micros
from callfleet_operator.objects import parse_time
from callfleet_operator.plan.turns import LONGEST_LEAD_S
from callfleet_operator.reconcile.settlement import UNRESOLVED_FOR

EVERY_S: Final = 60.0
# A worker is started, a grant or two expire, a carrier that was away is back: then somebody must be called.
STARVES_AFTER: Final = timedelta(minutes=15)
# A retryAt that has passed is written anew, or the session goes on.
PASSED_FOR: Final = timedelta(minutes=3)
# A session whose grant was taken back waits again, or its call has begun, in seconds.
STAYS_ADMITTED_FOR: Final = timedelta(minutes=1)
# Windows begin and end with the hour; zones are half an hour apart at least.
SHORTEST_HOURS: Final = timedelta(minutes=15)
_REASONS: Final = frozenset(reason.value for reason in Reason)


class Patrol:
    """Looks at what cannot be seen in a single operation."""

    def __init__(self, servers: Servers, referee: Referee, specs: dict[str, dict[str, Any]]) -> None:
        self._servers, self._referee, self._specs = servers, referee, specs
        # Campaigns, people's zones and openings that were looked at.
        self._openings: set[tuple[str, tuple[str, ...], str]] = set()
        self._could_since: dict[str, datetime] = {}
        # How much more each has had than the best served of the others, in seconds of a slot over its weight.
        self._ahead_s: dict[str, float] = {}
        # Attempts that are not open though their sessions are Admitted by them, since when.
        self._stranded_since: dict[UUID, datetime] = {}
        # Until then somebody or something keeps everything from being as it should be.
        self.disturbed_until: datetime | None = None

    def disturb(self, seconds: float) -> None:
        """Nobody is blamed for waiting now, nor for a while after it."""
        until = self._servers.loop.now() + timedelta(seconds=seconds)
        self.disturbed_until = until if self.disturbed_until is None else max(until, self.disturbed_until)

    def look(self) -> None:
        """Once."""
        now, books = self._servers.loop.now(), self._servers.books
        self._referee.replay(books)
        if self.disturbed_until is not None and now < self.disturbed_until:
            self._could_since.clear()
            self._stranded_since.clear()
            return
        sessions = list(self._servers.cluster.bodies["CallSession"].values())
        for body in sessions:
            self._reason(body, now)
            self._opening(body, now)
        self._stranded(sessions, now)
        for name in self._specs:
            self._starving(name, [each for each in sessions if each["spec"]["campaign"] == name], now)

    def _reason(self, body: Body, now: datetime) -> None:
        status = body.get("status") or {}
        reason, retry_at = status.get("reason"), status.get("retryAt")
        if reason is not None and reason not in _REASONS:
            self._referee.wrong(now, f"a session waits for {reason}, which no list of reasons has")
        if (
            retry_at is not None
            and now - parse_time(retry_at) > PASSED_FOR
            and "deletionTimestamp" not in body["metadata"]
        ):
            name = body["spec"]["campaign"]
            if name not in self._referee.wishes.stopped:
                self._referee.wrong(now, f"{body['metadata']['name']} ({reason}) was to be tried again at {retry_at}")

    def _opening(self, body: Body, now: datetime) -> None:
        """Who waits for their hours is told the first moment of them: nobody's clock allowed it before."""
        status = body.get("status") or {}
        text = status.get("retryAt")
        if status.get("reason") != Reason.OUTSIDE_CALLING_HOURS or text is None or parse_time(text) <= now:
            return
        person, opening = person_of(UUID(body["spec"]["contactID"])), parse_time(text)
        asked = body["spec"]["campaign"], self._servers.scenario.people[person], text
        if asked in self._openings:
            return
        self._openings.add(asked)
        place = Place(body["spec"]["campaign"], body["spec"]["runID"], person)
        before = (now + SHORTEST_HOURS * count for count in range(1, int((opening - now) / SHORTEST_HOURS) + 1))
        if not self._referee.may_be_called(place, opening):
            self._referee.wrong(now, f"{body['metadata']['name']} waits until {text}, when it may not be called either")
        if any(self._referee.may_be_called(place, moment) for moment in before if moment < opening):
            self._referee.wrong(now, f"{body['metadata']['name']} waits until {text}, and might be called before")

    def _stranded(self, sessions: list[Body], now: datetime) -> None:
        """Nobody stays Admitted by an attempt that is not open any more."""
        admitted = {
            UUID(body["status"]["attempt"]["id"]): str(body["metadata"]["name"])
            for body in sessions
            if (body.get("status") or {}).get("state") == "Admitted"
        }
        attempts = self._servers.books.attempts
        stranded = {key: name for key, name in admitted.items() if attempts[key].state not in OPEN}
        self._stranded_since = {key: self._stranded_since.get(key, now) for key in stranded}
        for key, since in self._stranded_since.items():
            if now - since >= STAYS_ADMITTED_FOR:
                self._referee.wrong(now, f"{stranded[key]} is Admitted by an attempt that is {attempts[key].state}")

    def _starving(self, name: str, sessions: list[Body], now: datetime) -> None:
        """A campaign that could call somebody calls somebody, unless it has had more than its weight gives it.

        A call that is dialled for ten minutes, until nobody knows how it ended, is a slot, too (docs/decisions/0022).
        """
        since = self._could_since.get(name)
        dialled = self._referee.last_dial.get(name)
        if self._is_ahead(name) or not self._could(name, sessions, now):
            self._could_since.pop(name, None)
        elif since is None or (dialled is not None and dialled > since):
            self._could_since[name] = now
        elif now - since > STARVES_AFTER:
            self._referee.wrong(now, f"{name} could have called somebody since {since.isoformat()}")
            self._could_since[name] = now

    def _is_ahead(self, name: str) -> bool:
        """Whether others of its priority are served and have not had as much yet, as far as the looks saw."""
        live = Counter(each.item.place.campaign for each in self._servers.books.open_attempts())
        had = {
            each: live[each] * EVERY_S / spec["weight"]
            for each, spec in self._specs.items()
            if spec["priority"] == self._specs[name]["priority"]
        }
        others = max((value for each, value in had.items() if each != name), default=0.0)
        ahead_s = self._ahead_s.get(name, 0.0) + had[name] - others if others else 0.0
        self._ahead_s[name] = min(max(0.0, ahead_s), LONGEST_LEAD_S)
        return self._ahead_s[name] > 0

    def _could(self, name: str, sessions: list[Body], now: datetime) -> bool:
        books, spec = self._servers.books, self._specs[name]
        if name in self._referee.wishes.stopped or self._is_full(name):
            return False
        worst = self._worst(spec)
        if not all(_has_room(account, worst, now) for account in self._accounts(name, now)):
            return False
        per_call = self._referee.wishes.limits[f"Campaign/{name}"][-1][1].get("perCall")
        if per_call is not None and worst > float(per_call) * 1e6:
            return False
        return any(self._is_due(body, books, now) for body in sessions)

    def _is_full(self, name: str) -> bool:
        books, scenario = self._servers.books, self._servers.scenario
        open_ = list(books.open_attempts())
        mine = sum(each.item.place.campaign == name for each in open_)
        most = int(self._specs[name]["pacing"]["maxConcurrent"])
        others = any(
            self._specs[each.item.place.campaign]["priority"] > self._specs[name]["priority"] for each in open_
        )
        return mine >= most or others or len(open_) >= scenario.carrier.max_concurrent

    def _worst(self, spec: dict[str, Any]) -> int:
        limit_s = int(spec["call"]["maxDurationSeconds"])
        usage = CallUsage("+1555", limit_s, stream_s=limit_s)
        return total_micros(self._servers.prices.actual(usage, self._servers.loop.now()))

    def _accounts(self, name: str, now: datetime) -> Iterator[Account]:
        for account in self._servers.books.accounts.values():
            owner = account.owner
            covers = owner.kind != "Campaign" or owner.name == name
            if covers and account.is_open(now):
                yield account

    def _is_due(self, body: Body, books: Books, now: datetime) -> bool:
        status, meta = body.get("status") or {}, body["metadata"]
        if (status.get("state") or "Pending") != "Pending" or "deletionTimestamp" in meta or body["spec"].get("cancel"):
            return False
        place = Place(body["spec"]["campaign"], body["spec"]["runID"], person_of(UUID(body["spec"]["contactID"])))
        latest = books.latest(meta["name"])
        if latest is not None and (latest.state != "settled" or status.get("reason") == "RetryScheduled"):
            return False
        if any(each.item.place.person == place.person for each in books.open_attempts()):
            return False
        return books.consents[place.person] and self._referee.may_be_called(place, now)

    def finish(self) -> None:
        """At the end, when nobody has been called for a while."""
        now, books = self._servers.loop.now(), self._servers.books
        self._referee.replay(books)
        self._nothing_is_left(books, now)
        self._costs(books, self._servers.exchange, now)

    def _nothing_is_left(self, books: Books, now: datetime) -> None:
        held: dict[str, int] = dict.fromkeys(books.accounts, 0)
        for attempt in books.attempts.values():
            waits = attempt.state == "ended" and attempt.end_status == "unresolved" and attempt.begun_at is not None
            patient = waits and now < (attempt.begun_at or now) + UNRESOLVED_FOR + timedelta(seconds=600)
            if attempt.state in {*OPEN, "ended"} and not patient:
                self._referee.wrong(now, f"an attempt is still {attempt.state} ({attempt.end_status})")
            if attempt.state in {*OPEN, "ended"}:
                for key in attempt.item.accounts:
                    held[key] += attempt.item.amount
        for key, account in books.accounts.items():
            if account.held != held[key]:
                self._referee.wrong(now, f"{key}: {account.held} held, but {held[key]} for calls that are not settled")

    def _costs(self, books: Books, exchange: Exchange, now: datetime) -> None:
        """Every call that the carrier had is some attempt's, and cost what it lasted."""
        for call in exchange.calls.values():
            attempt = books.attempts[call.attempt]
            if call.ended is None:
                self._referee.wrong(now, "a call never ended")
            elif attempt.sid != call.sid:
                self._referee.wrong(now, "the carrier has a call that the ledger does not know")
            elif attempt.state == "settled":
                usage = CallUsage("+1555", call.duration_s or 0, stream_s=call.duration_s or 0)
                price = 0
                if call.status == "completed":
                    price = total_micros(self._servers.prices.actual(usage, attempt.begun_at or now))
                if attempt.actual != price:
                    self._referee.wrong(now, f"a {call.status} call that cost {price} was settled at {attempt.actual}")


def _has_room(account: Account, amount: int, now: datetime) -> bool:
    if account.closed or account.suspended or account.overrun:
        return False
    return account.limit is None or account.held + account.spent + amount <= account.limit
