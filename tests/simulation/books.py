"""The ledger of the simulation: the protocol's model (tests/chaos/model), in virtual time, for a day's people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tests.chaos.model.facts import Attempt, Campaign, Carrier, Item, Line, Place
from tests.chaos.model.money import Said
from tests.chaos.model.protocol import Protocol
from tests.simulation.scenario import NAMESPACE

from callfleet_core.ledger import Attempt as AttemptRow
from callfleet_core.ledger import HoldRequest
from callfleet_operator.plan.hours import Hours, is_open

ACCOUNT = "AC" + "0" * 32
# Quantities, such as minutes, are compared in thousandths.
MILLI = 1_000
UNSETTLED = frozenset({"granted", "dialing", "placed", "ended"})


@dataclass
class Beside:
    """What an attempt's row has that the model does not need."""

    request: HoldRequest
    cancel_requested_at: datetime | None = None
    lookups_empty: int = 0
    last_lookup_at: datetime | None = None


class Books(Protocol):
    """The model with a clock of its own, people's hours, and rows as PostgreSQL gives them."""

    def __init__(self, now: Callable[[], datetime], people: Sequence[tuple[str, ...]], calls_per_second: float) -> None:
        self._clock = now
        super().__init__()
        self.zones = people
        self.campaigns = {}
        self.consents = dict.fromkeys(range(len(people)), True)
        self.done = {}
        self.carriers = {ACCOUNT: Carrier(pause_s=1 / calls_per_second, next_dial_at=now())}
        self.hours: dict[str, Hours | None] = {}
        self.beside: dict[UUID, Beside] = {}
        self.of_session: defaultdict[str, list[Attempt]] = defaultdict(list)
        self._unsettled: dict[UUID, Attempt] = {}
        self._places: dict[UUID, int] = {}
        self._rows: dict[UUID, tuple[object, AttemptRow]] = {}

    @property
    def now(self) -> datetime:
        """The loop's."""
        return self._clock()

    @now.setter
    def now(self, _: datetime) -> None:
        """The model's own beginning is another day's."""

    def mirror(self, name: str, *, suspended: bool, closed: bool, pause_s: float, hours: Hours | None) -> None:
        """What begin_dial may count on."""
        campaign = self.campaigns.setdefault(name, Campaign(next_dial_at=self.now))
        campaign.suspended, campaign.closed, campaign.pause_s = suspended, closed, pause_s
        self.hours[name] = hours

    def hours_are_open(self, place: Place) -> bool:
        """By the newest schedule that was mirrored."""
        hours = self.hours.get(place.campaign)
        return hours is None or is_open(hours, self.zones[place.person], self.now)

    def ask_to_hold(self, epoch: int, requests: Sequence[HoldRequest]) -> list[Said] | str:
        """Holds in one batch."""
        items = [_item(request) for request in requests]
        answers = self.hold(epoch, items)
        for request in requests:
            attempt = self.attempts.get(request.attempt_id)
            if attempt is not None and request.attempt_id not in self.beside:
                self.beside[request.attempt_id] = Beside(request)
                self._unsettled[request.attempt_id] = attempt
                self._places[request.attempt_id] = len(self._places)
                self.of_session[request.session_name].append(attempt)
        return answers

    def request_cancel(self, epoch: int, id_: UUID) -> str | None:
        """Mirrors a cancellation."""
        answer = super().request_cancel(epoch, id_)
        if answer is None and id_ in self.beside and self.beside[id_].cancel_requested_at is None:
            self.beside[id_].cancel_requested_at = self.now
        return answer

    def is_behind(self, attempt: Attempt, other: UUID) -> bool:
        """Whether an attempt was granted after another one."""
        return self._places[attempt.item.id] > self._places[other]

    def has_open(self) -> bool:
        """Whether anything may end or expire by itself."""
        return any(attempt.end_status != "unresolved" for attempt in self.unsettled())

    def unsettled(self) -> Iterator[Attempt]:
        """What is open, or ended and not settled; and what was settled before the carrier's last word came."""
        for id_, attempt in list(self._unsettled.items()):
            waits = attempt.end_status in {"unresolved", "notPlaced"}  # late evidence may still come
            if attempt.state in UNSETTLED or attempt.is_late:
                yield attempt
            elif not waits:
                del self._unsettled[id_]

    def knows_call(self, sid: str) -> bool:
        """Whether some attempt has this call."""
        return sid in self._sids

    def waits_s(self, id_: UUID) -> float:
        """How long an attempt that was told to wait is to wait."""
        item = self.attempts[id_].item
        paces = (self.campaigns[item.place.campaign], self.carriers[item.carrier])
        return max((each.next_dial_at - self.now).total_seconds() for each in paces)

    def latest(self, session_name: str) -> Attempt | None:
        """A session's newest attempt that was not revoked."""
        past = [each for each in self.of_session.get(session_name, ()) if each.state != "revoked"]
        return max(past, key=lambda each: each.item.number) if past else None

    def row(self, attempt: Attempt) -> AttemptRow:
        """An attempt as the operator reads it; what is settled is remembered, since retries are looked up by it."""
        if attempt.state != "settled":
            return self._row(attempt)
        signature = attempt.end_status, attempt.reason, attempt.actual
        known = self._rows.get(attempt.item.id)
        if known is None or known[0] != signature:
            known = self._rows[attempt.item.id] = signature, self._row(attempt)
        return known[1]

    def _row(self, attempt: Attempt) -> AttemptRow:
        item, beside = attempt.item, self.beside[attempt.item.id]
        request = beside.request
        past = [each for each in self.of_session[request.session_name] if each.state != "revoked"]
        past = [each for each in past if each.item.number <= item.number]
        return AttemptRow(
            id=item.id, state=attempt.state, number=item.number, namespace=NAMESPACE, campaign=item.place.campaign,
            run_id=item.place.run, contact_id=request.contact_id, session_name=request.session_name,
            session_uid=request.session_uid, account_sid=item.carrier, currency=item.currency,
            hold_micros=item.amount, time_limit_s=request.time_limit_s, ring_timeout_s=request.ring_timeout_s,
            max_queue_s=request.max_queue_s, granted_pod_uid=item.pod, granted_at=attempt.granted_at,
            expires_at=attempt.expires_at, begun_at=attempt.begun_at, placed_at=attempt.placed_at,
            answered_at=attempt.answered_at, ended_at=attempt.ended_at,
            cancel_requested_at=beside.cancel_requested_at, call_sid=attempt.sid, reason=attempt.reason,
            end_status=attempt.end_status, duration_s=attempt.duration_s, actual_micros=attempt.actual,
            lookups_empty=beside.lookups_empty, last_lookup_at=beside.last_lookup_at, disposition=None,
            uncovered=any(self._is_gone(key) for key in item.accounts), counts=attempt.counts,
            tries=sum(each.counts for each in past), not_placed=sum(not each.counts for each in past),
            over=attempt.expires_at <= self.now,
        )  # fmt: skip

    def _is_gone(self, key: str) -> bool:
        account = self.accounts[key]
        return account.closed or not account.is_open(self.now)


def person_id(person: int) -> UUID:
    """A person's id."""
    return UUID(int=person + 1)


def person_of(contact: UUID) -> int:
    """Whose id it is."""
    return contact.int - 1


def _item(request: HoldRequest) -> Item:
    place = Place(request.campaign, request.run_id, person_of(request.contact_id))
    return Item(
        request.attempt_id, place, request.number, request.amount_micros,
        tuple(key.split("/", 1)[1] for key in request.accounts), request.currency, request.account_sid,
        request.pod_uid, request.max_attempts, request.expires_after_s,
        tuple(Line(line.meter, int(line.quantity * MILLI), line.amount_micros) for line in request.caps),
    )  # fmt: skip
