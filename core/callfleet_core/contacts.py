"""Contacts, their consent, and the campaigns that may call them: PostgreSQL's truth, not Kubernetes'."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core import phone
from callfleet_core.ledger.fencing import fenced

# Contact ids are opaque but repeatable: a name-based UUID over the keyed digest of namespace and number.
_CONTACT_NAMESPACE = UUID("6f4d1c1e-8d0e-5a35-9d5b-3f0a5f0c7a11")
# Thirteen characters of base 32 are 65 bits: two of a million contacts collide once in 74 million campaigns.
SESSION_HASH_LENGTH = 13
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True)
class ConsentIn:
    """A consent as a source of contacts states it."""

    kind: str
    source: str
    given_at: datetime


@dataclass(frozen=True)
class ContactIn:
    """A contact as a source states it; the number is already E.164, the time zone an IANA name, Area/City."""

    phone: str
    name: str | None
    consent: ConsentIn | None
    time_zone: str | None = None


def contact_id(namespace: str, number: str, key: bytes) -> UUID:
    """The contact's opaque id in its namespace, the same for the same number and key."""
    return uuid5(_CONTACT_NAMESPACE, phone.contact_digest(namespace, number, key).hex())


def keep_zones(rows: str) -> str:
    """The statement that gives people who are stored already their numbers' zones: those at which nobody has looked
    yet, or of which the library knows more now. `rows` is what to select them from: id and time_zones, known as r.
    """
    return f"""
UPDATE contacts c SET time_zones = told.time_zones FROM (
    SELECT c.id, r.time_zones FROM {rows} JOIN contacts c USING (id)
    WHERE c.time_zones IS DISTINCT FROM r.time_zones AND c.wrapped_key IS NOT NULL ORDER BY c.id FOR UPDATE OF c
) told WHERE c.id = told.id
"""  # noqa: S608  # its callers' constants


def session_name(campaign: str, run_id: str, contact: UUID) -> str:
    """A session's deterministic name: campaign, run, 13 characters of the hash of both and the contact's id."""
    # Of campaign and run, too: "leads" in run "2026-01" and "leads-2026" in run "01" must not meet.
    value, characters = int(uuid5(contact, f"{campaign}/{run_id}").hex, 16), []
    for _ in range(SESSION_HASH_LENGTH):
        value, digit = divmod(value, 32)
        characters.append(_BASE32[digit])
    return f"{campaign}-{run_id.lower()}-{''.join(characters)}"


@dataclass(frozen=True)
class Prospect:
    """What is known of a call before it is made: what its price depends on, the gate's word, None where it may be made,
    and whether another call to the same number is open."""

    prefix: str
    refusal: str | None
    number_busy: bool


class ContactBook:
    """Contacts, and the mirror of the campaigns that may call them."""

    def __init__(self, engine: AsyncEngine, key: bytes, epoch: Callable[[], int] | None = None) -> None:
        """`epoch`: the leader's, which every write must carry; an importer that leads nothing gives none."""
        self._engine = engine
        self._key = key
        self._epoch = epoch

    async def mirror_campaign(
        self,
        *,
        namespace: str,
        name: str,
        uid: str,
        generation: int,
        suspended: bool,
        closed: bool,
        calls_per_second: Decimal | None = None,
        hours: Mapping[str, Any] | None = None,
    ) -> bool:
        """Says what begin_dial may count on: suspended or deleted campaigns dial nobody, the others at their pace and
        in their hours (as `hours_open` reads them; None: at any hour).

        False, and nothing changed, where a later generation of the same object was mirrored before, or it was gone.
        """
        async with fenced(self._engine, self._epoch) as connection:
            done = await connection.execute(
                text(_MIRROR_CAMPAIGN),
                {
                    "namespace": namespace, "name": name, "uid": uid, "generation": generation,
                    "suspended": suspended, "closed": closed, "pace": calls_per_second,
                    "hours": None if hours is None else json.dumps(hours),
                },
            )  # fmt: skip
            return done.rowcount == 1

    async def close_campaign(self, namespace: str, name: str) -> None:
        """Says that there is no such Campaign any more; one that is made again has another UID and dials again."""
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(
                text("UPDATE campaigns SET closed = true WHERE namespace = :namespace AND name = :name"),
                {"namespace": namespace, "name": name},
            )

    async def open_campaigns(self) -> list[tuple[str, str]]:
        """Namespace and name of every campaign that may dial, as PostgreSQL has it."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text("SELECT namespace, name FROM campaigns WHERE NOT closed"))
            return [(row.namespace, row.name) for row in rows]

    async def next_dials(self) -> dict[tuple[str, str], datetime]:
        """When each campaign whose own pace makes it wait may dial next, by namespace and name.

        In UTC, by PostgreSQL's clock; never later than one interval from now.
        """
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_NEXT_DIALS))
            return {(row.namespace, row.name): row.next_dial_at for row in rows}

    async def allow(self, numbers: Sequence[str]) -> None:
        """Replaces the numbers that a real carrier may dial, as the leader's settings say them."""
        hashes = [phone.number_hash(number, self._key) for number in numbers]
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(
                text("DELETE FROM dial_allowlist WHERE number_hash <> ALL(:hashes)"), {"hashes": hashes}
            )
            await connection.execute(
                text("INSERT INTO dial_allowlist SELECT unnest(CAST(:hashes AS text[])) ON CONFLICT DO NOTHING"),
                {"hashes": hashes},
            )

    async def prefixes(self, contacts: Sequence[UUID]) -> dict[UUID, str]:
        """The beginning of each contact's number: what its price depends on."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT id, dial_prefix FROM contacts WHERE id = ANY(:ids)"), {"ids": list(contacts)}
            )
            return {row.id: row.dial_prefix for row in rows}

    async def prospects(self, calls: Sequence[tuple[str, str | None]]) -> list[Prospect]:
        """What is known of calling each contact, by id, with the account of that SID now; in their order.

        The ledger asks the same gate again when it holds the money, and once more when the call is dialled.
        """
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text(_PROSPECTS),
                {"ids": [contact for contact, _ in calls], "accounts": [account for _, account in calls]},
            )
            return [Prospect(row.prefix, row.refusal, row.busy) for row in rows]

    async def callee_zones(self, contacts: Sequence[UUID], run: tuple[str, str, str]) -> dict[UUID, tuple[str, ...]]:
        """The time zones in which each of these people may be, as the run (namespace, campaign, run) knows them; none:
        nobody knows."""
        namespace, campaign, run_id = run
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text(_CALLEE_ZONES),
                {"ids": list(contacts), "namespace": namespace, "campaign": campaign, "run_id": run_id},
            )
            return {row.id: tuple(row.zones) for row in rows}

    async def refusals(self, calls: Sequence[tuple[UUID, str | None]]) -> list[str | None]:
        """The gate's word on each of these calls, in their order; None: it may be made."""
        return [item.refusal for item in await self.prospects([(str(contact), account) for contact, account in calls])]


_MIRROR_CAMPAIGN = """
INSERT INTO campaigns (namespace, name, uid, generation, suspended, closed, calls_per_second, hours)
VALUES (:namespace, :name, :uid, :generation, :suspended, :closed, :pace, CAST(:hours AS jsonb))
ON CONFLICT (namespace, name) DO UPDATE SET uid = EXCLUDED.uid, generation = EXCLUDED.generation,
    suspended = EXCLUDED.suspended, calls_per_second = EXCLUDED.calls_per_second, hours = EXCLUDED.hours,
    closed = EXCLUDED.closed
WHERE campaigns.uid <> EXCLUDED.uid OR (campaigns.generation <= EXCLUDED.generation
    AND (EXCLUDED.closed OR NOT campaigns.closed))
"""
_NEXT_DIALS = """
SELECT namespace, name, next_dial_at FROM campaigns
WHERE NOT closed AND pace_wait(next_dial_at, dial_interval(calls_per_second), clock_timestamp()) IS NOT NULL
"""
_CALLEE_ZONES = """
SELECT id, callee_zones(:namespace, :campaign, :run_id, id) AS zones FROM unnest(CAST(:ids AS uuid[])) AS asked (id)
"""
# One statement for all who wait: the gate is inlined, and the open numbers, few beside them, are read once.
_PROSPECTS = """
SELECT COALESCE(c.dial_prefix, '') AS prefix, g.reason AS refusal,
       COALESCE(c.number_hash IN (
           SELECT number_hash FROM dial_attempts WHERE state IN ('granted', 'dialing', 'placed')), false) AS busy
FROM unnest(CAST(CAST(:ids AS text[]) AS uuid[]), CAST(:accounts AS text[]))
    WITH ORDINALITY AS asked (id, account, place)
LEFT JOIN contacts c ON c.id = asked.id
CROSS JOIN LATERAL gate(asked.id, asked.account) g
ORDER BY asked.place
"""
