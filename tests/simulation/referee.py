"""What must be true of every dial, hold and settlement, judged by what people want and by the clock on the wall."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from tests.chaos.model.facts import NOBODY_REACHED, OPEN, Attempt, Charge, Entry, Evidence, Place
from tests.chaos.model.money import Said
from tests.simulation.books import Books
from tests.simulation.kubernetes import Cluster

from callfleet_core.ledger import GRANT_EXPIRES_AFTER_S, HoldRequest
from callfleet_core.money import parse_micros

# What somebody changes is in force after a watch's event, a cycle and the writes of both.
IN_FORCE_AFTER: Final = timedelta(seconds=20)
_RETRIED: Final = {"busy": "busy", "no-answer": "noAnswer"}
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MOST_TOLD: Final = 20


@dataclass
class Wishes:
    """What people want, told when they want it and not when CallFleet knows it."""

    opted_out: dict[int, datetime] = field(default_factory=dict)
    # By campaign: since when it may not call; by place: since when nobody may be called there.
    stopped: dict[str, datetime] = field(default_factory=dict)
    canceled: dict[Place, datetime] = field(default_factory=dict)
    # By account's owner: each limits document, and since when it is meant.
    limits: defaultdict[str, list[tuple[datetime, dict[str, str]]]] = field(default_factory=lambda: defaultdict(list))
    # How much later than usual the operator sees anything, at most, and until when.
    behind: timedelta = timedelta()

    def is_in_force(self, since: datetime | None, now: datetime) -> bool:
        """Whether a wish is so old that it must be known."""
        return since is not None and now - since > IN_FORCE_AFTER + self.behind


class Referee:
    """Keeps a history, its digest, and what was wrong in it."""

    def __init__(self, cluster: Cluster, people: Sequence[tuple[str, ...]], specs: dict[str, dict[str, Any]],
                 zones: dict[str, str], calls_per_second: float, at_once: int) -> None:  # fmt: skip
        """`zones`: by whose midnights each owner of limits counts."""
        self._cluster, self._people, self._specs, self._zones = cluster, people, specs, zones
        self._pause, self._at_once = timedelta(seconds=1 / calls_per_second), at_once
        self.wishes = Wishes()
        self.violations: list[str] = []
        self.begun: defaultdict[Place, list[Attempt]] = defaultdict(list)
        self.dials: Counter[str] = Counter()
        self.last_dial: dict[str, datetime] = {}
        self.campaigns_open: Counter[str] = Counter()
        self._talking: dict[int, UUID] = {}
        self._held: Counter[str] = Counter()
        self._spent: Counter[str] = Counter()
        # By owner and window, whatever accounts there are: what its calls have cost, and hold.
        self._costs: Counter[tuple[str, str]] = Counter()
        self._read = 0
        self._digest = hashlib.sha256()
        self.on_dial: Callable[[int], None] = lambda _: None
        self.recent: deque[str] = deque(maxlen=40)
        self.events = 0

    @property
    def digest(self) -> str:
        """Of all that has happened."""
        return self._digest.hexdigest()

    def note(self, now: datetime, *what: object) -> None:
        """A line of the history."""
        line = " ".join((now.isoformat(), *map(str, what)))
        self.events += 1
        self._digest.update(line.encode())
        self.recent.append(line)

    def wrong(self, now: datetime, what: str) -> None:
        """A violation, once told."""
        if len(self.violations) < MOST_TOLD:
            self.violations.append(f"{now.isoformat()} {what}")

    def held(self, books: Books, epoch: int, requests: Sequence[HoldRequest], answers: list[Said] | str) -> None:
        """After a batch was asked for."""
        now = books.now
        if isinstance(answers, str):
            self.note(now, "hold", answers)
            return
        if epoch != books.epoch:
            self.wrong(now, "an operator of an earlier epoch held money")
        for request, said in zip(requests, answers, strict=True):
            self.note(now, "hold", request.session_name, request.number, said.result)
            if said.result == "Held":
                self._granted(books, books.attempts[request.attempt_id])
        self.replay(books)

    def _granted(self, books: Books, attempt: Attempt) -> None:
        now, open_ = books.now, list(books.open_attempts())
        name = attempt.item.place.campaign
        most = int(self._specs[name]["pacing"]["maxConcurrent"])
        if sum(each.item.place.campaign == name for each in open_) > most:
            self.wrong(now, f"{name} has more than {most} calls open")
        if len(open_) > self._at_once:
            self.wrong(now, f"the carrier's account has more than {self._at_once} calls open")
        slots = int(self._specs[name]["worker"]["slotsPerWorker"])
        on_pod = sum(each.item.pod == attempt.item.pod for each in open_)
        if on_pod > max(int(each["worker"]["slotsPerWorker"]) for each in self._specs.values()) or (
            on_pod > slots and len(self._specs) == 1
        ):
            self.wrong(now, f"{on_pod} calls in a pod of {slots} slots")
        if sum(each.item.place.person == attempt.item.place.person for each in open_) > 1:
            self.wrong(now, "a person has two attempts open")

    def replay(self, books: Books) -> None:
        """Reads what was posted since it was read last: no hold was above a limit, sums are balances."""
        now, touched = books.now, set[str]()
        for entry in books.entries[self._read :]:
            key, account = entry.account, books.accounts[entry.account]
            self._held[key] += entry.held
            self._spent[key] += entry.spent
            touched.add(key)
            self._count(entry, books, now)
            if entry.kind == "hold":
                opens, closes = account.window.start or now, account.window.end
                if now < opens or (closes is not None and now >= closes):
                    self.wrong(now, f"{key}: held in a window that is not now's")
            begun = books.attempts[entry.attempt].begun_at
            start, end = account.window.start, account.window.end
            if entry.kind in {"settle", "late"} and (
                begun is None or (start is not None and end is not None and not start <= begun < end)
            ):
                self.wrong(now, f"{key}: a call was settled into a window in which it was not begun")
        self._read = len(books.entries)
        for key in touched:
            account = books.accounts[key]
            if (account.held, account.spent) != (self._held[key], self._spent[key]) or account.held < 0:
                self.wrong(now, f"{key}: its balance is not the sum of its entries")

    def _count(self, entry: Entry, books: Books, now: datetime) -> None:
        """Adds a posting to what its owner's windows have cost, once for all the accounts that it was made in."""
        attempt, payer = books.attempts[entry.attempt], books.accounts[entry.account].owner
        owner = f"{payer.kind}/{payer.name}"
        first = next(key for key in attempt.item.accounts if key.startswith(f"{owner}/"))
        if entry.account != first or owner not in self._zones:
            return
        for window in ("daily", "monthly", "total"):
            self._costs[self._window(owner, window, attempt.granted_at)] += entry.held + entry.spent
            limit, cost = self._limit_meant(owner, window, now), self.cost(owner, window, attempt.granted_at)
            if entry.kind == "hold" and limit is not None and cost > limit:
                self.wrong(now, f"{owner}, {window}: {cost} held and spent above the limit of {limit}")

    def cost(self, owner: str, window: str, at: datetime) -> int:
        """What an owner's calls of a day, a month, or for ever have cost, and hold."""
        return self._costs[self._window(owner, window, at)]

    def _window(self, owner: str, window: str, at: datetime) -> tuple[str, str]:
        local = at.astimezone(ZoneInfo(self._zones[owner]))
        return owner, {"daily": f"{local:%Y-%m-%d}", "monthly": f"{local:%Y-%m}"}.get(window, window)

    def _limit_meant(self, owner: str, window: str, now: datetime) -> int | None:
        """The highest limit that may be in force: what is meant now, and what was until a moment ago."""
        told = self.wishes.limits.get(owner, [])
        known = now - IN_FORCE_AFTER - self.wishes.behind
        later = [limits for since, limits in told if since > known]
        before = [limits for since, limits in told if since <= known][-1:]
        texts = [limits.get(window) for limits in (*before, *later)]
        return None if not texts or None in texts else max(parse_micros(text) for text in texts if text is not None)

    def dialled(self, books: Books, id_: UUID, verdict: str, reason: str | None) -> None:
        """After begin_dial."""
        now, attempt = books.now, books.attempts[id_]
        place = attempt.item.place
        self.note(now, "dial", place.campaign, place.person, attempt.item.number, verdict, reason)
        if verdict != "go":
            return
        for wrong in self._wrong_dial(attempt, now):
            self.wrong(now, f"{place.campaign}, person {place.person}: {wrong}")
        self.begun[place].append(attempt)
        self._talking[place.person] = id_
        self.dials[place.campaign] += 1
        self.on_dial(sum(self.dials.values()))
        self.last_dial[place.campaign] = self.last_dial[""] = now

    def _wrong_dial(self, attempt: Attempt, now: datetime) -> list[str]:
        place, wishes, spec = attempt.item.place, self.wishes, self._specs[attempt.item.place.campaign]
        own = spec["pacing"].get("callsPerSecond")
        own_pause = timedelta(seconds=1 / float(own)) if own else timedelta()
        never = datetime.min.replace(tzinfo=now.tzinfo)
        tiny = timedelta(microseconds=2)
        checks = (
            (place.person in wishes.opted_out, "called after opting out"),
            (wishes.is_in_force(wishes.stopped.get(place.campaign), now), "called by a campaign that may call nobody"),
            (wishes.is_in_force(wishes.canceled.get(place), now), "called after being canceled"),
            (not self.may_be_called(place, now), "called outside of the calling hours"),
            (place.person in self._talking, "called twice at once"),
            (now >= attempt.granted_at + timedelta(seconds=GRANT_EXPIRES_AFTER_S), "dialled after the grant's expiry"),
            (now - self.last_dial.get("", never) < self._pause - tiny, "faster than the carrier's pace"),
            (now - self.last_dial.get(place.campaign, never) < own_pause - tiny, "faster than the campaign's pace"),
        )
        return [*(text for holds, text in checks if holds), *self._wrong_again(place, spec, now)]

    def _wrong_again(self, place: Place, spec: dict[str, Any], now: datetime) -> list[str]:
        """Why somebody who was called may not be called again now."""
        past, found = self.begun.get(place, []), list[str]()
        if sum(each.counts for each in past) >= spec["attempts"]["max"]:
            found.append("called more often than attempts.max")
        for each in past:
            if each.end_status is not None and each.end_status not in NOBODY_REACHED:
                found.append(f"called again after {each.end_status}")
            after = spec["attempts"]["retryAfterMinutes"].get(_RETRIED.get(each.end_status or "", ""))
            if after is not None and each.ended_at is not None and now < each.ended_at + timedelta(minutes=after):
                found.append("called again too soon")
        return found

    def may_be_called(self, place: Place, now: datetime) -> bool:
        """Whether the clocks on the walls of all places where the person may be allow it."""
        schedule = self._specs[place.campaign].get("schedule")
        if schedule is None:
            return True
        zones = self._people[place.person]
        if schedule["zone"] == "Campaign":
            zones = (self._specs[place.campaign]["timeZone"],)
        return bool(zones) and all(_shows(schedule["windows"], now.astimezone(ZoneInfo(zone))) for zone in zones)

    def ended(self, books: Books, id_: UUID, evidence: Evidence, *, is_news: bool) -> None:
        """After somebody said how a call ended."""
        attempt = books.attempts[id_]
        self.note(books.now, "end", attempt.item.place.person, attempt.item.number, evidence.status, is_news)
        if self._talking.get(attempt.item.place.person) == id_ and attempt.state not in OPEN:
            del self._talking[attempt.item.place.person]

    def settled(self, books: Books, epoch: int, charges: Sequence[Charge], states: list[str] | str) -> None:
        """After a batch was settled."""
        if charges:
            self.note(books.now, "settle", *(states if isinstance(states, list) else (states,)))
        if epoch != books.epoch and not isinstance(states, str):
            self.wrong(books.now, "an operator of an earlier epoch settled")
        self.replay(books)


class RefereedBooks(Books):
    """The books, with a referee who sees every operation after it was done."""

    referee: Referee

    def ask_to_hold(self, epoch: int, requests: Sequence[HoldRequest]) -> list[Said] | str:
        answers = super().ask_to_hold(epoch, requests)
        self.referee.held(self, epoch, requests, answers)
        return answers

    def begin_dial(self, id_: UUID, pod: str, nonce: UUID) -> tuple[str, str | None]:
        verdict, reason = super().begin_dial(id_, pod, nonce)
        self.referee.dialled(self, id_, verdict, reason)
        return verdict, reason

    def record_ended(self, id_: UUID, evidence: Evidence, pod: str | None = None) -> bool | str:
        is_news = super().record_ended(id_, evidence, pod)
        self.referee.ended(self, id_, evidence, is_news=is_news is True)
        return is_news

    def settle(self, epoch: int, charges: Sequence[Charge]) -> list[str] | str:
        states = super().settle(epoch, charges)
        self.referee.settled(self, epoch, charges, states)
        return states


def _shows(windows: Sequence[dict[str, Any]], local: datetime) -> bool:
    clock = f"{local:%H:%M}"
    return any(_DAYS[local.weekday()] in each["days"] and each["from"] <= clock < each["to"] for each in windows)
