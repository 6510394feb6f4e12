"""The same questions, asked of PostgreSQL through core's classes; and what is in its tables, to compare.

Each run of the machine has a namespace, people and carriers of its own, so that runs share a database. Time passes by
moving the instants that are stored: an instant of the model's is always as far from the model's now as the stored one
is from PostgreSQL's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.chaos.model.facts import (
    BEGINNING,
    CAMPAIGNS,
    PEOPLE,
    RUNS,
    SID_TAKEN,
    STALE,
    Charge,
    Evidence,
    Item,
    Line,
    Owner,
    Place,
    hours_named,
)
from tests.chaos.model.money import Said
from tests.chaos.model.protocol import Protocol
from tests.integration.books import CONSENT, KEY, RING, SCRIPT, SUBJECTS

from callfleet_core.contacts import ContactBook, ContactIn
from callfleet_core.dialing import DialStore, EndEvidence
from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import HoldRequest, Ledger, Settlement
from callfleet_core.pricing import CostLine
from callfleet_core.reconciliation import CarrierDay, Reconciliations
from callfleet_core.runs import CampaignRuns, Run
from callfleet_core.windows import Window

_FIRST_NUMBER: Final = 15_550_000_000
_PAUSES_PER_S: Final = {"fast": 99_999, "slow": Decimal("0.025"), "real": 99_999}
_numbers = count(_FIRST_NUMBER)
_spaces = count(1)


class Postgres:
    """One run's part of a database."""

    def __init__(self, engine: AsyncEngine, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        """`run` waits for what is asynchronous."""
        self._engine, self._run = engine, run
        self._space = f"space-{next(_spaces)}"
        self._ledger = Ledger(engine)
        self._dialing = DialStore(engine, RING.of_namespace(self._space))
        self._bill = Reconciliations(engine, lambda: self._ledger.epoch)
        self._runs = CampaignRuns(engine, SUBJECTS, lambda: self._ledger.epoch)
        self._people: list[UUID] = []
        self._delta = timedelta()

    def begin(self) -> int:
        """Makes the campaigns, their people and the carriers; answers the epoch in force."""
        return int(self._run(self._begin()))

    async def _begin(self) -> int:
        epoch = await self._ledger.take_epoch()
        await self._sql("UPDATE installation SET stopped = false")
        for name, per_s in _PAUSES_PER_S.items():
            await self._sql(
                "INSERT INTO carrier_accounts (account_sid, api_base_url, public_url, simulated, calls_per_second)"
                " VALUES (:sid, 'http://127.0.0.1:9', 'http://127.0.0.1:8', :simulated, :per_s)",
                sid=self._carrier(name), simulated=name != "real", per_s=per_s,
            )  # fmt: skip
        people = [ContactIn(f"+{next(_numbers)}", None, CONSENT) for _ in range(PEOPLE)]
        contacts = ContactBook(self._engine, KEY, lambda: self._ledger.epoch)
        for campaign in CAMPAIGNS:
            await contacts.mirror_campaign(
                namespace=self._space, name=campaign, uid="1", generation=1, suspended=False, closed=False
            )
            for run_id in RUNS:
                run = Run(self._space, campaign, run_id)
                await self._runs.load(run, people)
        self._people = [contact.contact_id for contact in await self._runs.due(run, PEOPLE)]
        self._delta = await self._sql("SELECT clock_timestamp()") - BEGINNING
        return epoch

    def ask(self, name: str, *args: Any) -> Any:
        """One operation; the answer in the model's words."""
        try:
            return self._run(getattr(self, f"_{name}")(*args))
        except StaleEpochError:
            return STALE
        except IntegrityError as error:
            if "dial_attempts_call_sid" in str(error):
                return SID_TAKEN
            raise

    async def _sql(self, statement: str, **parameters: Any) -> Any:
        async with self._engine.begin() as connection:
            result = await connection.execute(text(statement), parameters)
            return result.scalar() if result.returns_rows else None

    def _at(self, epoch: int) -> Ledger:
        self._ledger._epoch = epoch  # as if it were the ledger of who took it
        return self._ledger

    def _carrier(self, name: str) -> str:
        return f"AC-{name}-{self._space}"

    def _id(self, id_: UUID) -> UUID:
        return uuid5(id_, self._space)

    def _sid(self, sid: str | None) -> str | None:
        return None if sid is None else f"{sid}-{self._space}"

    def _key(self, key: str) -> str:
        return f"{self._space}/{key}"

    async def _take_epoch(self) -> int:
        return await self._ledger.take_epoch()

    async def _pass_time(self, seconds: int) -> None:
        self._delta -= timedelta(seconds=seconds)
        await self._sql(_PASS, space=self._space, by=timedelta(seconds=seconds))

    async def _stop(self, stopped: bool) -> None:
        await self._sql("UPDATE installation SET stopped = :stopped", stopped=stopped)

    async def _mirror_campaign(self, campaign: str, suspended: bool, hours: str, pause_s: float) -> None:
        schedule = hours_named(hours, _now())
        await ContactBook(self._engine, KEY).mirror_campaign(
            namespace=self._space, name=campaign, uid="1", generation=1, suspended=suspended, closed=False,
            calls_per_second=1 / Decimal(pause_s) if pause_s else None,
            hours=None if schedule is None else schedule.document(),
        )  # fmt: skip

    async def _consent(self, person: int, given: bool) -> None:
        await self._sql(
            "UPDATE consents SET revoked_at = CASE WHEN NOT :given THEN clock_timestamp() END WHERE contact_id = :id",
            given=given, id=self._people[person],
        )  # fmt: skip

    async def _finish(self, epoch: int, place: Place) -> None:
        self._at(epoch)
        run = Run(self._space, place.campaign, place.run)
        await self._runs.finish(run, self._people[place.person], state="Completed", disposition=None)

    async def _set_limit(
        self, epoch: int, owner: Owner, window: Window, currency: str, limit: int | None, suspended: bool, uid: str,
        generation: int,
    ) -> str:  # fmt: skip
        start, end = (None if at is None else at + self._delta for at in (window.start, window.end))
        result = await self._at(epoch).set_limit(
            namespace=self._space, kind=owner.kind, name=owner.name, window=replace(window, start=start, end=end),
            currency=currency, limit_micros=limit, suspended=suspended, uid=uid, generation=generation,
        )  # fmt: skip
        return result.value

    async def _clear_overruns(self, keys: Sequence[str]) -> list[str]:
        fine = await self._sql(
            "SELECT overrun_clear(:keys, 'somebody', 'looked')", keys=[self._key(key) for key in keys]
        )
        return [key.split("/", 1)[1] for key in fine]

    async def _close_account(self, epoch: int, owner: Owner) -> None:
        await self._at(epoch).close_account(namespace=self._space, kind=owner.kind, name=owner.name)

    async def _hold(self, epoch: int, items: Sequence[Item]) -> list[Said]:
        answers = await self._at(epoch).hold([self._request(item) for item in items])
        prefix = len(self._space) + 1
        return [
            Said(each.result.value, each.account[prefix:] if each.account else None, each.shortfall_micros)
            for each in answers
        ]

    def _request(self, item: Item) -> HoldRequest:
        place = item.place
        return HoldRequest(
            attempt_id=self._id(item.id), number=item.number, namespace=self._space, campaign=place.campaign,
            run_id=place.run, contact_id=self._people[place.person], session_name="-".join(map(str, place)),
            session_uid="1", pod_uid=item.pod, amount_micros=item.amount, currency=item.currency,
            accounts=tuple(self._key(key) for key in item.accounts), time_limit_s=120, ring_timeout_s=20,
            max_queue_s=30, account_sid=self._carrier(item.carrier), from_number="+15550100001", time_zone="UTC",
            script=SCRIPT, max_attempts=item.max_attempts, expires_after_s=item.expires_s,
            caps=_costs(item.caps),
        )  # fmt: skip

    async def _revoke(self, epoch: int, id_: UUID, reason: str) -> str:
        return await self._at(epoch).revoke(self._id(id_), reason)

    async def _begin_dial(self, id_: UUID, pod: str, nonce: UUID) -> tuple[str, str | None]:
        decision = await self._dialing.begin_dial(self._id(id_), pod, nonce)
        return decision.verdict.value, decision.reason

    async def _record_placed(self, id_: UUID, sid: str, pod: str | None) -> str:
        return (await self._dialing.record_placed(self._id(id_), str(self._sid(sid)), **_owner(pod))).value

    async def _record_answered(self, id_: UUID, sid: str, pod: str | None) -> bool:
        call_sid = str(self._sid(sid))
        return await self._dialing.record_answered(self._id(id_), _now(), call_sid=call_sid, **_owner(pod))

    async def _record_ended(self, id_: UUID, said: Evidence, pod: str | None) -> bool:
        evidence = EndEvidence.model_validate({
            "source": "callback", "status": said.status, "call_sid": self._sid(said.sid),
            "duration_s": said.duration_s, "error_code": said.error_code, "at": _now(),
        })  # fmt: skip
        return await self._dialing.record_ended(self._id(id_), evidence, **_owner(pod))

    async def _request_cancel(self, epoch: int, id_: UUID) -> None:
        await self._at(epoch).request_cancel(self._id(id_))

    async def _settle(self, epoch: int, charges: Sequence[Charge]) -> list[str]:
        return await self._at(epoch).settle_batch(
            [Settlement(self._id(each.id), _costs(each.lines), each.seen) for each in charges]
        )

    async def _correct(self, epoch: int, id_: UUID, price: int) -> int | None:
        self._at(epoch)
        return await self._bill.correct(self._id(id_), CarrierDay("", _now().date()), price)

    def compare(self, books: Protocol) -> None:
        """Everything that the model knows is in the tables, and nothing else. Raises AssertionError."""
        found = self._run(self._sql(_TABLES, space=self._space))
        accounts = {
            self._key(key): [
                each.currency, each.limit, each.held, each.spent, each.suspended, each.closed, each.overrun,
                sorted(each.overrun_meters), each.uid,
                each.generation, self._instant(each.window.start), self._instant(each.window.end),
            ]
            for key, each in books.accounts.items()
        }  # fmt: skip
        attempts = {
            str(self._id(id_)): [
                each.state, each.reason, each.item.amount, each.owner_pod, self._sid(each.sid), each.end_status,
                each.duration_s, each.counts, each.cancel_requested, each.answered_at is not None, each.actual,
                each.costs,
            ]
            for id_, each in books.attempts.items()
        }  # fmt: skip
        entries = sorted(
            [str(self._id(e.attempt)), self._key(e.account), e.kind, e.number, e.held, e.spent, e.limit]
            for e in books.entries
        )
        assert found["epoch"] == books.epoch
        _alike("accounts", accounts, found["accounts"] or {})
        _alike("attempts", attempts, found["attempts"] or {})
        assert entries == sorted(found["entries"] or [])

    def _instant(self, at: datetime | None) -> float | None:
        return None if at is None else round((at + self._delta).timestamp())


def _costs(lines: Sequence[Line]) -> tuple[CostLine, ...]:
    return tuple(CostLine(line.meter, Decimal(line.quantity), line.amount) for line in lines)


def _owner(pod: str | None) -> dict[str, Any]:
    return {} if pod is None else {"pod_uid": pod, "generation": 1}


def _now() -> datetime:
    return datetime.now(UTC)


def _alike(what: str, expected: dict[str, list[Any]], found: dict[str, list[Any]]) -> None:
    for key in expected.keys() | found.keys():
        assert expected.get(key) == found.get(key), f"{what}, {key}: the model first, then PostgreSQL"


_PASS = """
WITH a AS (
    UPDATE dial_attempts SET granted_at = granted_at - :by, expires_at = expires_at - :by, begun_at = begun_at - :by,
        placed_at = placed_at - :by, answered_at = answered_at - :by, ended_at = ended_at - :by,
        settled_at = settled_at - :by, cancel_requested_at = cancel_requested_at - :by WHERE namespace = :space
), b AS (
    UPDATE accounts SET window_start = window_start - :by, window_end = window_end - :by WHERE namespace = :space
), c AS (
    UPDATE campaigns SET next_dial_at = next_dial_at - :by WHERE namespace = :space
)
UPDATE carrier_accounts SET next_dial_at = next_dial_at - :by WHERE account_sid LIKE '%-' || :space
"""
_TABLES = """
SELECT jsonb_build_object('epoch', (SELECT epoch FROM installation),
    'accounts', (SELECT jsonb_object_agg(key, jsonb_build_array(currency, limit_micros, held_micros, spent_micros,
        suspended, closed, overrun, overrun_meters, limit_uid, limit_generation,
        round(extract(epoch FROM window_start)),
        round(extract(epoch FROM window_end)))) FROM accounts WHERE namespace = :space),
    'attempts', (SELECT jsonb_object_agg(id, jsonb_build_array(state, reason, hold_micros, owner_pod_uid, call_sid,
        end_status, duration_s, counts, cancel_requested_at IS NOT NULL, answered_at IS NOT NULL, actual_micros,
        (SELECT COALESCE(jsonb_object_agg(meter, amount_micros), '{}') FROM cost_lines c WHERE c.attempt_id = a.id)))
        FROM dial_attempts a WHERE namespace = :space),
    'entries', (SELECT jsonb_agg(jsonb_build_array(e.attempt_id, k.key, e.kind, e.number, e.held_micros,
        e.spent_micros, e.limit_micros)) FROM ledger_entries e JOIN accounts k ON k.id = e.account_id
        WHERE k.namespace = :space))
"""
