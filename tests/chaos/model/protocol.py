"""The right to dial, as docs/architecture.md says it: the model that PostgreSQL and the planners are compared with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from tests.chaos.model.facts import (
    BAD_NUMBER,
    CAMPAIGNS,
    NOBODY_REACHED,
    NOT_FINAL,
    OPEN,
    OPEN_HOURS,
    PEOPLE,
    RUNS,
    SID_TAKEN,
    STALE,
    UNKNOWN,
    Attempt,
    Campaign,
    Carrier,
    Charge,
    Evidence,
    Item,
    Line,
    Place,
)
from tests.chaos.model.money import HELD, Money, Said

VOICE, CORRECTION = "carrier_voice_minutes", "carrier_voice_correction"


class Protocol(Money):
    """Everything that can be asked, and its answer."""

    def __init__(self, epoch: int = 0) -> None:
        super().__init__(epoch)
        self.stopped = False
        self.attempts: dict[UUID, Attempt] = {}
        self.campaigns = {name: Campaign() for name in CAMPAIGNS}
        self.carriers = {"fast": Carrier(), "slow": Carrier(pause_s=40), "real": Carrier(simulated=False)}
        self.consents = dict.fromkeys(range(PEOPLE), True)
        places = (Place(campaign, run, person) for campaign in CAMPAIGNS for run in RUNS for person in range(PEOPLE))
        self.done: dict[Place, bool] = dict.fromkeys(places, False)
        # Found again without walking over a day's attempts: those of a place, those that were open, whose SID it is.
        self._of_place: defaultdict[Place, list[Attempt]] = defaultdict(list)
        self._opened: dict[UUID, Attempt] = {}
        self._sids: dict[str, Attempt] = {}

    def stop(self, stopped: bool) -> None:
        """The installation-wide stop."""
        self.stopped = stopped

    def mirror_campaign(self, campaign: str, suspended: bool, hours: str, pause_s: float) -> None:
        """Says whether a campaign is suspended, when it may call, and how long it waits from one call to the next."""
        known = self.campaigns[campaign]
        known.suspended, known.hours, known.pause_s = suspended, hours, pause_s

    def hours_are_open(self, place: Place) -> bool:
        """Whether a call to this person may begin now by the campaign's schedule."""
        return self.campaigns[place.campaign].hours in OPEN_HOURS

    def consent(self, person: int, given: bool) -> None:
        """Revokes a person's consent, or gives it again."""
        self.consents[person] = given

    def finish(self, epoch: int, place: Place) -> str | None:
        """A person is done in a run."""
        if epoch != self.epoch:
            return STALE
        if place in self.done:
            self.done[place] = True
        return None

    def gate(self, person: int, carrier: str) -> str | None:
        """Why a person may not be called with an account."""
        if self.stopped:
            return "Stopped"
        if not self.consents[person]:
            return "NoConsent"
        return None if carrier in self.carriers and self.carriers[carrier].simulated else "DoNotCall"

    def hold(self, epoch: int, items: Sequence[Item]) -> list[Said] | str:
        """In the order given, each whole or not at all; the same id again gets what it got.

        A number that several items of a batch are for is the first one's that may be called: the others wait, whatever
        the money says of that one.
        """
        if epoch != self.epoch:
            return STALE
        first: dict[Place, tuple[UUID, Said]] = {}
        tried: set[int] = set()
        answers = []
        for item in items:
            if item.place not in first:
                first[item.place] = item.id, self._hold(item, tried)
            id_, said = first[item.place]
            answers.append(said if id_ == item.id else Said("NumberBusy"))
        return answers

    def _hold(self, item: Item, tried: set[int]) -> Said:
        if item.id in self.attempts:
            return HELD if self.attempts[item.id].state == "granted" else Said("Closed")
        reason = self.not_to_be_called(item)
        if reason is None and item.place.person in tried:
            reason = "NumberBusy"
        if reason is not None:
            return Said(reason)
        tried.add(item.place.person)
        refusal = self.refusal(item)
        if refusal is not None:
            return refusal
        self._keep(Attempt(item, self.now))
        self.post(item.id, item.accounts, "hold", item.amount, 0)
        return HELD

    def _keep(self, attempt: Attempt) -> None:
        id_ = attempt.item.id
        self.attempts[id_] = self._opened[id_] = attempt
        self._of_place[attempt.item.place].append(attempt)

    def not_to_be_called(self, item: Item) -> str | None:
        """Why nobody may be called for an item, whatever the money says: not now, not this person, not again."""
        place, campaign = item.place, self.campaigns[item.place.campaign]
        if campaign.suspended or campaign.closed:
            return "Suspended"
        reason = self.gate(place.person, item.carrier)
        if reason is not None:
            return reason
        if self.done.get(place, True):
            return "Closed"
        if not self.hours_are_open(place):
            return "OutsideCallingHours"
        if self._is_called(item):
            return "Closed"
        is_busy = any(attempt.item.place.person == place.person for attempt in self.open_attempts())
        return "NumberBusy" if is_busy else None

    def _is_called(self, item: Item) -> bool:
        """Nobody is called again in a run but whom nobody reached, in order, and as often as is allowed."""
        past = list(self.attempts_of(item.place))
        return (
            sum(attempt.counts for attempt in past) >= item.max_attempts
            or any(attempt.state != "settled" or attempt.end_status not in NOBODY_REACHED for attempt in past)
            or any(attempt.item.number >= item.number for attempt in past)
        )

    def attempts_of(self, place: Place) -> Iterator[Attempt]:
        """A person's attempts in a run; one that was revoked was none."""
        return (each for each in self._of_place.get(place, ()) if each.state != "revoked")

    def open_attempts(self) -> Iterator[Attempt]:
        """What may be dialled or talked on."""
        for id_, attempt in list(self._opened.items()):
            if attempt.state in OPEN:
                yield attempt
            else:  # nothing is opened twice
                del self._opened[id_]

    def revoke(self, epoch: int, id_: UUID, reason: str) -> str:
        """Takes back what is only granted."""
        if epoch != self.epoch:
            return STALE
        attempt = self.attempts.get(id_)
        if attempt is not None and attempt.state == "granted":
            self._release(attempt, reason)
        return attempt.state if attempt else UNKNOWN

    def _release(self, attempt: Attempt, reason: str) -> None:
        attempt.state, attempt.reason = "revoked", reason
        self.post(attempt.item.id, attempt.item.accounts, "release", -attempt.item.amount, 0)

    def begin_dial(self, id_: UUID, pod: str, nonce: UUID) -> tuple[str, str | None]:
        """Go, wait or refused; a refusal of what is granted gives the money back."""
        attempt = self.attempts.get(id_)
        if attempt is None:
            return "refused", "UnknownAttempt"
        if attempt.state == "dialing" and (attempt.nonce, attempt.owner_pod) == (nonce, pod):
            return "go", None
        if attempt.state != "granted":
            return "refused", "Revoked" if attempt.state == "revoked" else "AlreadyBegun"
        if attempt.item.pod != pod:
            return "refused", "WrongPod"  # another pod's mistake takes nothing away
        reason = self._dial_refusal(attempt)
        if reason is not None:
            self._release(attempt, reason)
            return "refused", reason
        if not self.hours_are_open(attempt.item.place):
            self._release(attempt, "OutsideCallingHours")
            return "refused", "OutsideCallingHours"
        paces = (self.campaigns[attempt.item.place.campaign], self.carriers[attempt.item.carrier])
        if any(pace.makes_wait(self.now) for pace in paces):
            return "wait", "Pacing"
        for pace in paces:
            pace.next_dial_at = self.now + timedelta(seconds=pace.pause_s)
        attempt.state, attempt.nonce, attempt.owner_pod, attempt.begun_at = "dialing", nonce, pod, self.now
        return "go", None

    def _dial_refusal(self, attempt: Attempt) -> str | None:
        """All that was true when the money was held is checked again, but for the money: that is held."""
        if attempt.expires_at <= self.now:
            return "Expired"
        if attempt.cancel_requested:
            return "Canceled"
        campaign = self.campaigns[attempt.item.place.campaign]
        if campaign.suspended or campaign.closed:
            return "Suspended"
        for key in sorted(attempt.item.accounts, key=list(self.accounts).index):
            account = self.accounts[key]
            if account.closed:
                return "BudgetNotFound"
            if account.suspended:
                return "Suspended"
            if not account.is_open(self.now):
                return "WindowClosed"
        return self.gate(attempt.item.place.person, attempt.item.carrier)

    def _owned(self, id_: UUID, pod: str | None) -> Attempt | None:
        """A pod's word counts only while it owns the call; the gateway's (None) always."""
        attempt = self.attempts.get(id_)
        return None if attempt is None or (pod is not None and attempt.owner_pod != pod) else attempt

    def _is_taken(self, sid: str | None, by: Attempt) -> bool:
        return sid is not None and self._sids.get(sid, by) is not by

    def record_placed(self, id_: UUID, sid: str, pod: str | None = None) -> str:
        """The call's SID, set once."""
        attempt = self._owned(id_, pod)
        if attempt is None:
            return "closed" if pod is not None else "unknown_attempt"
        if attempt.sid is not None:
            return "same" if attempt.sid == sid else "second_sid"
        if attempt.state != "dialing" and attempt.end_status not in NOT_FINAL:
            return "closed"
        if self._is_taken(sid, attempt):
            return SID_TAKEN
        attempt.sid, attempt.placed_at = sid, self.now
        self._sids[sid] = attempt
        attempt.state = "placed" if attempt.state == "dialing" else attempt.state
        return "placed"

    def record_answered(self, id_: UUID, sid: str, pod: str | None = None) -> bool:
        """Somebody picked up; said once, of the call that it is."""
        attempt = self._owned(id_, pod)
        if attempt is None or attempt.sid != sid or attempt.answered_at is not None:
            return False
        if attempt.state not in {"placed", "ended", "settled"}:
            return False
        attempt.answered_at = self.now
        return True

    def record_ended(self, id_: UUID, evidence: Evidence, pod: str | None = None) -> bool | str:
        """The carrier's final word, once. What was not final is replaced by it, before or after it was settled."""
        attempt = self._owned(id_, pod)
        if attempt is None or (attempt.sid is not None and evidence.sid not in {None, attempt.sid}):
            return False  # the word about another call
        final = evidence.status not in NOT_FINAL
        is_news = attempt.state in {"dialing", "placed"} or (final and attempt.end_status in NOT_FINAL)
        if not is_news or (not final and attempt.sid is not None):
            return False
        if self._is_taken(evidence.sid, attempt):
            return SID_TAKEN
        if attempt.state == "settled":
            attempt.reason = "LateEvidence"
        else:
            attempt.state = "ended"
        attempt.sid, attempt.end_status = attempt.sid or evidence.sid, evidence.status
        if attempt.sid is not None:
            self._sids[attempt.sid] = attempt
        attempt.duration_s, attempt.ended_at = evidence.duration_s, self.now
        attempt.counts = evidence.status != "notPlaced" or evidence.error_code == BAD_NUMBER
        return True

    def request_cancel(self, epoch: int, id_: UUID) -> str | None:
        """Mirrors a cancellation."""
        if epoch != self.epoch:
            return STALE
        if id_ in self.attempts:
            self.attempts[id_].cancel_requested = True
        return None

    def settle(self, epoch: int, charges: Sequence[Charge]) -> list[str] | str:
        """Posts what ended calls cost, each once, and only for the end that was priced."""
        return STALE if epoch != self.epoch else [self._settle(*charge) for charge in charges]

    def _settle(self, id_: UUID, lines: Sequence[Line], seen: str | None) -> str:
        attempt = self.attempts.get(id_)
        if attempt is None:
            return UNKNOWN
        late = attempt.is_late
        if not (late or attempt.state == "ended") or seen not in {None, attempt.end_status}:
            return attempt.state
        item, actual = attempt.item, sum(line.amount for line in lines)
        self.post(id_, item.accounts, "late" if late else "settle", 0 if late else -item.amount, actual)
        caps = {cap.meter: cap.quantity for cap in item.caps}
        over = {line.meter for line in lines if caps and line.quantity > caps.get(line.meter, 0)}
        for account in (self.accounts[key] for key in item.accounts):
            account.overrun |= actual > item.amount or bool(over)
            account.overrun_meters |= over
        attempt.state, attempt.actual = "settled", actual
        attempt.reason = None if late else attempt.reason
        attempt.costs |= {line.meter: line.amount for line in lines}
        return "settled"

    def correct(self, epoch: int, id_: UUID, price: int) -> int | str | None:
        """Brings the ledger to the carrier's price of a settled call; the difference, None where there is none."""
        if epoch != self.epoch:
            return STALE
        attempt = self.attempts.get(id_)
        if attempt is None or attempt.state != "settled" or attempt.is_late or attempt.end_status in NOT_FINAL:
            return None
        if attempt.sid is None:
            return None  # no call of the carrier's list
        delta = price - attempt.costs.get(VOICE, 0) - attempt.costs.get(CORRECTION, 0)
        if delta == 0:
            return None
        number = 1 + max((e.number for e in self.entries if e.attempt == id_), default=0)
        self.post(id_, attempt.item.accounts, "correction", 0, delta, number)
        attempt.actual = (attempt.actual or 0) + delta
        attempt.costs[CORRECTION] = attempt.costs.get(CORRECTION, 0) + delta
        if delta > 0 and attempt.actual > attempt.item.amount:
            for key in attempt.item.accounts:
                self.accounts[key].overrun = True
        return delta
