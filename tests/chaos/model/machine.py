"""The ledger as a Hypothesis state machine: every operation, in any order, on the model and perhaps beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.chaos.model.facts import (
    BAD_NUMBER,
    BEGINNING,
    CAMPAIGNS,
    CURRENCY,
    EXPIRES_S,
    HOURS,
    PEOPLE,
    PODS,
    RUNS,
    STEP_S,
    Attempt,
    Charge,
    Evidence,
    Item,
    Line,
    Owner,
    Place,
)
from tests.chaos.model.invariants import Watch
from tests.chaos.model.money import are_two_todays
from tests.chaos.model.protocol import VOICE, Protocol

from callfleet_core.windows import TOTAL, Window, WindowKind, time_zone, window_at

ZONES: Final = ("America/New_York", "UTC")
BUDGETS: Final = (Owner("Budget", "us"), Owner("Budget", "eu"))
OWNERS: Final = (*BUDGETS, *(Owner("Campaign", name) for name in CAMPAIGNS))
FINAL: Final = ("completed", "completed", "busy", "no-answer", "failed", "canceled")
STREAM: Final = "carrier_media_stream_minutes"
CAPS: Final = ((), (Line(VOICE, 1, 40), Line(STREAM, 1, 40)), (Line(VOICE, 2, 40),))
ENDS: Final = (*FINAL, "notPlaced", "unresolved")

# The one that leads, or the one that led before it.
_leaders = st.sampled_from((0, 0, 0, 0, 0, 0, 0, 1))
_recent = st.integers(0, 3) | st.integers(0, 30)
_pods = st.sampled_from((None, None, PODS[0], PODS[0], PODS[1]))
_amounts = st.sampled_from((10, 20, 30, 70))
_which_accounts = st.lists(st.integers(0, 9), min_size=0, max_size=4, unique=True)
_usually = st.sampled_from((True, True, True, False))


def zones_of(owner: Owner) -> tuple[str, str]:
    """An owner's time zone, and the other one."""
    own = OWNERS.index(owner) % len(ZONES)
    return ZONES[own], ZONES[1 - own]


def _id(number: int) -> UUID:
    return UUID(int=number, version=4)


class LedgerMachine(RuleBasedStateMachine):
    """The rules. `other`: whoever answers beside the model, asked the same and looked at after each step."""

    other: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.books = Protocol()
        self.watch = Watch()
        self.epochs: list[int] = []
        self.counted = 0
        self.generations: dict[Owner, int] = dict.fromkeys(OWNERS, 1)

    @initialize()
    def begin(self) -> None:
        """A leader, the campaigns' own accounts, and a budget."""
        self.ready()
        self.epochs = [self.ask("take_epoch"), self.ask("take_epoch")]
        for owner, limit in zip(OWNERS, (100, 90, None, None), strict=True):
            self._limit(0, owner, TOTAL, limit=limit, generation=1)

    def ready(self) -> None:
        """Before the first step."""

    def ask(self, name: str, *args: Any) -> Any:
        """One operation: the model's answer, which everybody else must give, too."""
        answer = getattr(self.books, name)(*args)
        if self.other is not None:
            told = self.other.ask(name, *args)
            assert told == answer, f"{name}{args}: the model answers {answer}, PostgreSQL {told}"
        return answer

    def next_id(self) -> UUID:
        """One that nothing has."""
        self.counted += 1
        return _id(self.counted)

    def attempt(self, recent: int) -> Attempt:
        """One that there is, mostly a recent one."""
        known = list(self.books.attempts.values())
        return known[-1 - recent % len(known)]

    @rule(steps=st.sampled_from((1, 1, 2, 3, 12, 72, 1728)))
    def wait(self, steps: int) -> None:
        """Time passes: seconds, an hour, a day."""
        self.ask("pass_time", steps * STEP_S)

    @rule(
        what=st.sampled_from(("lead", "close", "stop", "suspend", "schedule", "consent", *("calm",) * 5)),
        one=st.integers(0, PEOPLE - 1), hours=st.sampled_from(HOURS), pause_s=st.sampled_from((0, 0, 40)),
    )  # fmt: skip
    def change(self, what: str, one: int, hours: str, pause_s: int) -> None:
        """What happens now and then: another leader; a stop, a suspension, a consent taken back, or not any more."""
        campaign = CAMPAIGNS[one % len(CAMPAIGNS)]
        known = self.books.campaigns[campaign]
        match what:
            case "lead":
                self.epochs.append(self.ask("take_epoch"))
            case "stop":
                self.ask("stop", not self.books.stopped)
            case "suspend":
                self.ask("mirror_campaign", campaign, not known.suspended, known.hours, known.pause_s)
            case "schedule":
                self.ask("mirror_campaign", campaign, known.suspended, hours, pause_s)
                for person in (one, (one + 1) % PEOPLE):
                    self._call(0, campaign, person, "completed")
            case "consent":
                self.ask("consent", one, not self.books.consents[one])
            case "close":
                self.ask("close_account", self.epochs[-1 - (one == 0)], BUDGETS[one > 0])
            case "calm":
                self._calm()

    def _calm(self) -> None:
        """Whatever kept everybody from calling is over."""
        if self.books.stopped:
            self.ask("stop", False)
        for name, campaign in self.books.campaigns.items():
            if (campaign.suspended, campaign.hours, campaign.pause_s) != (False, "none", 0):
                self.ask("mirror_campaign", name, False, "none", 0)
        for person in (person for person, given in self.books.consents.items() if not given):
            self.ask("consent", person, True)
        if overrun := [key for key, account in self.books.accounts.items() if account.overrun]:
            self.ask("clear_overruns", overrun)

    @rule(
        leader=_leaders, which=st.integers(0, 3), total=st.booleans(), kind=st.sampled_from(list(WindowKind)),
        moved=st.sampled_from((False, False, True)), limit=st.sampled_from((None, 0, 40, 100, 160)),
        generation=st.integers(-1, 1), uid=st.sampled_from(("1", "1", "1", "2")),
        currency=st.sampled_from((CURRENCY, CURRENCY, CURRENCY, "EUR")),
        suspended=st.sampled_from((False, False, False, True)),
    )  # fmt: skip
    def limit(
        self, leader: int, which: int, total: bool, kind: WindowKind, moved: bool, limit: int | None,
        generation: int, uid: str, currency: str, suspended: bool,
    ) -> None:  # fmt: skip
        """An object says what may be spent: anew, again, as it said before, or, made again, by other midnights."""
        owner = OWNERS[which]
        window = TOTAL if total else self._window(kind, owner, moved=moved)
        self.generations[owner] += max(0, generation)
        self._limit(
            leader, owner, window, limit=limit, generation=self.generations[owner] + min(0, generation), uid=uid,
            currency=currency, suspended=suspended,
        )  # fmt: skip

    @rule(leader=_leaders, days=st.sampled_from((0, 1, 1, 30)))
    def renew(self, leader: int, days: int) -> None:
        """A day or a month goes by, and the operator puts what is in force into new windows."""
        self.ask("pass_time", days * 1728 * STEP_S)
        newest = {(each.owner, each.window.kind): each for each in self.books.accounts.values()}
        for (owner, kind), each in newest.items():
            window = self._window(kind, owner)
            self._limit(
                leader, owner, window, limit=each.limit, generation=each.generation, uid=each.uid,
                currency=each.currency, suspended=each.suspended,
            )  # fmt: skip

    def _window(self, kind: WindowKind, owner: Owner, *, moved: bool = False) -> Window:
        """Now's window; `moved`: by the other zone's midnights, where one of its own is open already."""
        own, others = (window_at(kind, time_zone(each), self.books.now) for each in zones_of(owner))
        known = (each.window for each in self.books.accounts.values() if each.owner == owner)
        return others if moved and any(are_two_todays(each, others) for each in known) else own

    def _limit(
        self, leader: int, owner: Owner, window: Window, *, limit: int | None, generation: int, uid: str = "1",
        currency: str = CURRENCY, suspended: bool = False,
    ) -> Any:  # fmt: skip
        epoch = self.epochs[-1 - leader]
        return self.ask("set_limit", epoch, owner, window, currency, limit, suspended, uid, generation)

    @rule(
        leader=_leaders, again=st.sampled_from((None, None, None, 0, 3)), size=st.sampled_from((1, 1, 2, 3)),
        data=st.data(),
    )  # fmt: skip
    def hold(self, leader: int, again: int | None, size: int, data: st.DataObject) -> None:
        """Asks for attempts, perhaps for one that was asked for before."""
        items = [self._wanted(data.draw) for _ in range(size)]
        if again is not None and self.books.attempts:
            items.insert(0, self.attempt(again).item)
        self.ask("hold", self.epochs[-1 - leader], items)

    def _wanted(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Item:
        place = Place(draw(st.sampled_from(CAMPAIGNS)), draw(st.sampled_from(RUNS)), draw(st.integers(0, PEOPLE - 1)))
        number = 1 + sum(1 for _ in self.books.attempts_of(place))
        plain = Item(
            self.next_id(),
            place,
            number,
            draw(_amounts),
            self._covering(place),
            carrier=draw(st.sampled_from(("fast", "fast", "slow"))),
        )
        if draw(_usually):
            return plain
        known = [*self.books.accounts, "Budget/none/total"]
        chosen = dict.fromkeys(known[index % len(known)] for index in draw(_which_accounts))
        return Item(
            plain.id, place, draw(st.integers(1, 3)), plain.amount, tuple(chosen),
            currency=draw(st.sampled_from((CURRENCY, CURRENCY, "EUR"))),
            carrier=draw(st.sampled_from(("fast", "slow", "slow", "real"))), pod=draw(st.sampled_from(PODS)),
            max_attempts=draw(st.integers(1, 3)), expires_s=draw(st.sampled_from(EXPIRES_S)),
            caps=draw(st.sampled_from(CAPS)),
        )  # fmt: skip

    def _covering(self, place: Place) -> tuple[str, ...]:
        """The accounts that the operator would name: all that limit the campaign, and the first budget, now."""
        owners = (Owner("Campaign", place.campaign), BUDGETS[0])
        now, accounts = self.books.now, self.books.accounts
        return tuple(key for key, each in accounts.items() if each.owner in owners and each.is_open(now))

    @precondition(lambda self: self.books.attempts)
    @rule(leader=_leaders, recent=_recent, reason=st.sampled_from(("Expired", "NotBound")))
    def revoke(self, leader: int, recent: int, reason: str) -> None:
        """Takes a grant back."""
        self.ask("revoke", self.epochs[-1 - leader], self.attempt(recent).item.id, reason)

    @precondition(lambda self: self.books.attempts)
    @rule(recent=_recent, right=_usually, again=_usually)
    def dial(self, recent: int, right: bool, again: bool) -> None:
        """A pod asks for the right to dial: with the nonce of before or another, sometimes the wrong pod."""
        attempt = self.attempt(recent)
        pod = attempt.item.pod if right else PODS[attempt.item.pod == PODS[0]]
        nonce = attempt.nonce if again and attempt.nonce else self.next_id()
        self.ask("begin_dial", attempt.item.id, pod, nonce)

    @precondition(lambda self: self.books.attempts)
    @rule(recent=_recent, other=st.sampled_from((0, 0, 0, 1, 2)), pod=_pods)
    def placed(self, recent: int, other: int, pod: str | None) -> None:
        """Somebody says which call it is; sometimes a second one, or another attempt's."""
        self.ask("record_placed", self.attempt(recent).item.id, self._sid(recent, other), pod)

    def _sid(self, recent: int, other: int) -> str:
        """The attempt's own (0), a second one (1), or that of the attempt before it (2)."""
        attempt = self.attempt(recent + 1 if other == 2 else recent)
        return f"CA{attempt.item.id.int & 0xFFFFFFFF}-{int(other == 1)}"

    @precondition(lambda self: self.books.attempts)
    @rule(recent=_recent, other=st.sampled_from((0, 0, 0, 1)), pod=_pods)
    def answered(self, recent: int, other: int, pod: str | None) -> None:
        """Somebody picked up."""
        self.ask("record_answered", self.attempt(recent).item.id, self._sid(recent, other), pod)

    @precondition(lambda self: self.books.attempts)
    @rule(
        recent=_recent, status=st.sampled_from(ENDS), other=st.sampled_from((None, None, 0, 0, 1, 2)), pod=_pods,
        duration_s=st.integers(1, 120), bad=st.booleans(),
    )  # fmt: skip
    def ended(self, recent: int, status: str, other: int | None, pod: str | None, duration_s: int, bad: bool) -> None:
        """Somebody says how a call ended: in time, late, twice, in contradiction, or about another call."""
        sid = None if other is None or status not in FINAL else self._sid(recent, other)
        evidence = Evidence(
            status, sid, duration_s if status == "completed" else None,
            BAD_NUMBER if bad and status == "notPlaced" else None,
        )  # fmt: skip
        self.ask("record_ended", self.attempt(recent).item.id, evidence, pod)

    @precondition(lambda self: self.books.attempts)
    @rule(leader=_leaders, recent=_recent)
    def cancel(self, leader: int, recent: int) -> None:
        """Somebody wants the call to end, or never to begin."""
        self.ask("request_cancel", self.epochs[-1 - leader], self.attempt(recent).item.id)

    @precondition(lambda self: self.books.attempts)
    @rule(leader=_leaders, recent=_recent, right=_usually, over=st.sampled_from((False, False, False, True)))
    def settle(self, leader: int, recent: int, right: bool, over: bool) -> None:
        """The operator posts what a call cost, for the end that it saw; sometimes more than was held for it."""
        attempt = self.attempt(recent)
        seen = attempt.end_status if right else "completed"
        self._settle(leader, Charge(attempt.item.id, self._lines(attempt, seen, over), seen))

    @rule(leader=_leaders, over=_usually)
    def settle_all(self, leader: int, over: bool) -> None:
        """The operator settles whatever is over in one batch, and some of it twice."""
        ended = [attempt for attempt in self.books.attempts.values() if attempt.state in {"ended", "settled"}]
        self._settle(leader, *(Charge(a.item.id, self._lines(a, a.end_status, not over), a.end_status) for a in ended))

    def _settle(self, leader: int, *charges: Charge) -> None:
        if charges:
            self.ask("settle", self.epochs[-1 - leader], list(charges))

    def _lines(self, attempt: Attempt, seen: str | None, over: bool) -> list[Line]:
        if seen != "completed":
            return []
        most = attempt.item.amount * (2 if over else 1)
        return [Line(VOICE, 1 + over, most // 2), Line(STREAM, 1, most - most // 2)]

    @precondition(lambda self: self.books.attempts)
    @rule(leader=_leaders, recent=_recent, price=st.sampled_from((0, 5, 10, 35, 80)))
    def correct(self, leader: int, recent: int, price: int) -> None:
        """The carrier's list has another price."""
        self.ask("correct", self.epochs[-1 - leader], self.attempt(recent).item.id, price)

    @precondition(lambda self: self.books.attempts)
    @rule(leader=_leaders, recent=_recent)
    def finish(self, leader: int, recent: int) -> None:
        """A session is over: its person is done in the run."""
        self.ask("finish", self.epochs[-1 - leader], self.attempt(recent).item.place)

    @precondition(lambda self: self.books.attempts)
    @rule(recent=st.integers(0, 3), steps=st.integers(1, 5), end=st.sampled_from(ENDS))
    def go_on(self, recent: int, steps: int, end: str) -> None:
        """What mostly happens next with an attempt, and then."""
        for _ in range(steps):
            attempt = self.attempt(recent)
            match attempt.state:
                case "granted":
                    self.ask("begin_dial", attempt.item.id, attempt.item.pod, attempt.nonce or self.next_id())
                case "dialing":
                    if end == "notPlaced":
                        self.ask("record_ended", attempt.item.id, Evidence(end), None)
                    else:
                        self.ask("record_placed", attempt.item.id, self._sid(recent, 0), None)
                case "placed":
                    said = Evidence(end, duration_s=70 if end == "completed" else None)
                    self.ask("record_ended", attempt.item.id, said, None)
                case "ended" | "settled":
                    lines = self._lines(attempt, attempt.end_status, over=False)
                    self._settle(0, Charge(attempt.item.id, lines, attempt.end_status))

    @rule(leader=_leaders, person=st.integers(0, PEOPLE - 1), end=st.sampled_from(ENDS))
    def call(self, leader: int, person: int, end: str) -> None:
        """A call as it should be."""
        self._call(leader, CAMPAIGNS[0], person, end)

    def _call(self, leader: int, campaign: str, person: int, end: str) -> None:
        if self._grant(leader, campaign, person) is not None:
            self.go_on(0, 4, end)

    def _grant(self, leader: int, campaign: str, person: int) -> Attempt | None:
        """Holds for a call as it should be; the attempt, if it was granted."""
        place = Place(campaign, RUNS[0], person)
        number = 1 + sum(1 for _ in self.books.attempts_of(place))
        item = Item(self.next_id(), place, number, 20, self._covering(place))
        self.ask("hold", self.epochs[-1 - leader], [item])
        return self.books.attempts.get(item.id)

    @rule(person=st.integers(0, PEOPLE - 1), hours=st.sampled_from(HOURS), pause_s=st.sampled_from((0, 40)))
    def reschedule(self, person: int, hours: str, pause_s: int) -> None:
        """Between holds and dials somebody applies other hours, or another pace."""
        campaign, others = CAMPAIGNS[person % len(CAMPAIGNS)], (person, (person + 1) % PEOPLE)
        granted = [attempt for each in others if (attempt := self._grant(0, campaign, each)) is not None]
        self.ask("mirror_campaign", campaign, False, hours, pause_s)
        for attempt in granted:
            self.ask("begin_dial", attempt.item.id, attempt.item.pod, self.next_id())

    @rule(person=st.integers(0, PEOPLE - 1), days=st.sampled_from((0, 1, 1)), looked=st.booleans())
    def overspend(self, person: int, days: int, looked: bool) -> None:
        """A call costs more than was held. Perhaps a day passes; perhaps somebody looks; the next one is asked for."""
        today, generation = self._window(WindowKind.DAILY, BUDGETS[0]), self.generations[BUDGETS[0]]
        self._limit(0, BUDGETS[0], today, limit=160, generation=generation)
        attempt = self._grant(0, CAMPAIGNS[0], person)
        if attempt is None:
            return
        self.go_on(0, 3, "completed")
        self._settle(0, Charge(attempt.item.id, self._lines(attempt, "completed", over=True), "completed"))
        self.renew(0, days)
        overrun = [key for key, account in self.books.accounts.items() if account.overrun]
        if looked and overrun:
            self.ask("clear_overruns", overrun[-1:])
            self.renew(0, 0)
        self._grant(0, CAMPAIGNS[0], (person + 1) % PEOPLE)

    @invariant()
    def the_books_are_right(self) -> None:
        """After every step."""
        assert self.books.now >= BEGINNING
        self.watch.look(self.books)
        if self.other is not None:
            self.other.compare(self.books)
