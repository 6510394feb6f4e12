"""Is this the database that was trusted last, and how is one that is not brought up to date again?

A restored backup, a promoted standby or a database that was replaced has forgotten calls: it admits nobody until they
are booked again from the carrier's lists (docs/decisions/0018). The operator's writes carry its epoch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.audit import word
from callfleet_core.carriers import Source
from callfleet_core.contacts import ContactIn
from callfleet_core.errors import CallFleetError
from callfleet_core.ledger.fencing import fenced
from callfleet_core.phone import number_hash
from callfleet_core.runs import Run
from callfleet_core.subjects import Subjects


class DatabaseReplacedError(CallFleetError):
    """The database is not the one that this operator has worked with; it must start again, and look."""


@dataclass(frozen=True)
class DatabaseState:
    """Which database this is (`identity`), which one was trusted, and how far a recovery is."""

    identity: str
    trusted_identity: str | None
    witness: UUID | None
    previous_witness: UUID | None
    recovering_since: datetime | None
    recovering_from: datetime | None
    recovery_reason: str | None
    recovery_passes: int
    recovery_pass_at: datetime | None
    recovery_problem: str | None


@dataclass(frozen=True)
class RecoveryStatus:
    """What an auditor sees; `is_another`: admission is closed because the database is not the trusted one."""

    recovering_since: datetime | None
    recovering_from: datetime | None
    recovery_reason: str | None
    recovery_passes: int
    recovery_pass_at: datetime | None
    recovery_problem: str | None
    trusted_at: datetime | None
    is_another: bool | None


class Booked(StrEnum):
    """What became of one of the carrier's calls."""

    KNOWN = "Known"
    ADOPTED = "Adopted"
    RECOVERED = "Recovered"
    NUMBER_OPEN = "NumberOpen"


@dataclass(frozen=True)
class RunToClose:
    """A run in which a person may have been called, and who they are there."""

    namespace: str
    campaign: str
    run_id: str
    contact_id: UUID


@dataclass(frozen=True)
class LostCall:
    """One of the carrier's calls as it is booked; the columns of SQL's lost_call. It names no person."""

    call_sid: str
    account_sid: str
    created_at: datetime
    status: str
    final: bool
    duration_s: int | None
    ended_at: datetime | None
    attempt_id: UUID
    number_hash: str
    contact_id: UUID
    namespace: str
    campaign: str
    run_id: str
    session_name: str
    session_uid: str
    pod_uid: str
    from_number: str
    currency: str
    hold_micros: int
    accounts: tuple[str, ...]
    time_limit_s: int
    ring_timeout_s: int
    max_queue_s: int
    time_zone: str
    script: str
    disposition: str
    closes: tuple[RunToClose, ...] = ()


@dataclass(frozen=True)
class ListedAccount:
    """A carrier account; `used`: it has placed calls not long before the database's memory ends, or has open ones."""

    account_sid: str
    source: Source
    used: bool


class RecoveryBook:
    """The operator's side: is it the same database, and what must be booked again."""

    def __init__(self, engine: AsyncEngine, subjects: Subjects, epoch: Callable[[], int]) -> None:
        """`epoch`: the leader's, which every write carries."""
        self._engine, self._subjects, self._epoch = engine, subjects, epoch

    async def state(self) -> DatabaseState:
        """Which database this is now; one query."""
        async with self._engine.connect() as connection:
            return DatabaseState(**(await connection.execute(text(_STATE))).mappings().one())

    async def beat(self, known: UUID | None, new: UUID) -> None:
        """Gives the database a new token. Raises DatabaseReplacedError where it has not the one that is known."""
        if not await self._write("recovery_beat(:epoch, :known, :new)", known=known, new=new):
            raise DatabaseReplacedError("the database has another witness than this operator gave it: starting again")

    async def close(self, reason: str, *, since: datetime | None, epoch_outside: int) -> datetime:
        """Closes admission; answers since when calls must be booked again.

        `since`: when the installation was first seen, for a database that knows nothing; `epoch_outside`: the highest
        epoch known outside of it.
        """
        from_: datetime = await self._write(
            "recovery_close(:epoch, :reason, CAST(:since AS timestamptz), :outside)",
            reason=reason, since=since, outside=epoch_outside,
        )  # fmt: skip
        return from_

    async def passed(self, found: int, problem: str | None) -> int:
        """Notes that all lists were read, with so many calls found, or why they were not; answers the complete ones."""
        passes: int | None = await self._write(
            "recovery_passed(:epoch, :found, CAST(:problem AS text))", found=found, problem=problem
        )
        return passes or 0

    async def open(self) -> bool:
        """Opens admission, if two readings in a row found nothing new."""
        return bool(await self._write("recovery_open(:epoch)"))

    async def book(self, call: LostCall) -> Booked:
        """Books a call once, with what it costs at most, in one transaction."""
        document = json.dumps(asdict(call), default=_plain)
        return Booked(await self._write("ledger_recover(:epoch, CAST(:call AS jsonb))", call=document))

    async def keep_person(self, namespace: str, number: str) -> UUID:
        """The contact's id; stores one who is not known there, without any consent."""
        sealed = self._subjects.seal(namespace, ContactIn(number, None, None))
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(text(_KEEP_PERSON), asdict(sealed))
        return sealed.id

    def hash_of(self, number: str) -> str:
        """What stands for a number in the database."""
        return number_hash(number, self._subjects.hash_key)

    async def listing(self, places: Sequence[RunToClose]) -> set[Run]:
        """Those of the runs on whose list the person is or was."""
        asked = json.dumps([asdict(place) for place in places], default=_plain)
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_LISTING), {"places": asked})
            return {Run(row.namespace, row.campaign, row.run_id) for row in rows}

    async def accounts(self, since: datetime) -> list[ListedAccount]:
        """Every carrier account that the database knows."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_ACCOUNTS), {"since": since})
            return [ListedAccount(row.account_sid, Source(row.namespace, row.name), row.used) for row in rows]

    async def numbers_used(self, account_sid: str, since: datetime) -> set[str]:
        """The numbers from which the account has called for us in the month before."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_NUMBERS), {"account": account_sid, "since": since})
            return set(rows.scalars())

    async def _write(self, function: str, **parameters: object) -> Any:
        async with fenced(self._engine, self._epoch) as connection:
            values = {"epoch": self._epoch(), **parameters}
            return (await connection.execute(text(f"SELECT {function}"), values)).scalar_one()


class RecoveryDesk:
    """The auditor's side: how far it is, and opening by hand."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def status(self) -> RecoveryStatus:
        """How far it is."""
        async with self._engine.connect() as connection:
            return RecoveryStatus(
                **(await connection.execute(text("SELECT * FROM recovery_overview"))).mappings().one()
            )

    async def open(self, actor: str, reason: str) -> bool:
        """Opens admission, whatever was read; false where it is not being rebuilt. Audited. Raises WordMissingError."""
        who, why = word(actor, reason)
        async with self._engine.begin() as connection:
            answer = await connection.execute(
                text("SELECT recovery_open_by_hand(:actor, :reason)"), {"actor": who, "reason": why}
            )
            return bool(answer.scalar_one())


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


_COLUMNS = ", ".join(name for name in DatabaseState.__dataclass_fields__ if name != "identity")
_STATE = f"SELECT database_identity() AS identity, {_COLUMNS} FROM installation"  # noqa: S608  # names of our own
_KEEP_PERSON = """
INSERT INTO contacts (id, namespace, number_hash, phone, name, dial_prefix, key_version, wrapped_key)
VALUES (:id, :namespace, :number_hash, :phone, :name, :dial_prefix, :key_version, :wrapped_key)
ON CONFLICT (namespace, number_hash) DO NOTHING
"""
_LISTING = """
SELECT l.namespace, l.campaign, l.run_id FROM campaign_contacts l
JOIN jsonb_to_recordset(CAST(:places AS jsonb)) AS p (namespace text, campaign text, run_id text, contact_id uuid)
    USING (namespace, campaign, run_id, contact_id)
"""
_ACCOUNTS = """
SELECT k.account_sid, k.source_namespace AS namespace, k.source_name AS name,
       EXISTS (SELECT 1 FROM dial_attempts a WHERE a.account_sid = k.account_sid
               AND a.begun_at >= CAST(:since AS timestamptz) - interval '7 days') AS used
FROM carrier_accounts k ORDER BY k.account_sid
"""
_NUMBERS = """
SELECT DISTINCT from_number FROM dial_attempts
WHERE account_sid = :account AND begun_at >= CAST(:since AS timestamptz) - interval '30 days'
"""
