"""Contacts, their consent, and the campaigns that may call them: PostgreSQL's truth, not Kubernetes'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
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
    """A contact as a source states it; the number is already E.164."""

    phone: str
    name: str | None
    consent: ConsentIn | None


def contact_id(namespace: str, number: str, key: bytes) -> UUID:
    """The contact's opaque id in its namespace, the same for the same number and key."""
    return uuid5(_CONTACT_NAMESPACE, phone.contact_digest(namespace, number, key).hex())


def session_name(campaign: str, run_id: str, contact: UUID) -> str:
    """A session's deterministic name: campaign, run, 13 characters of the hash of both and the contact's id."""
    # Of campaign and run, too: "leads" in run "2026-01" and "leads-2026" in run "01" must not meet.
    value, characters = int(uuid5(contact, f"{campaign}/{run_id}").hex, 16), []
    for _ in range(SESSION_HASH_LENGTH):
        value, digit = divmod(value, 32)
        characters.append(_BASE32[digit])
    return f"{campaign}-{run_id.lower()}-{''.join(characters)}"


class ContactBook:
    """Contacts, and the mirror of the campaigns that may call them."""

    def __init__(self, engine: AsyncEngine, key: bytes, epoch: Callable[[], int] | None = None) -> None:
        """`epoch`: the leader's, which every write must carry; an importer that leads nothing gives none."""
        self._engine = engine
        self._key = key
        self._epoch = epoch

    async def mirror_campaign(
        self, *, namespace: str, name: str, uid: str, generation: int, suspended: bool, closed: bool
    ) -> None:
        """Says what begin_dial may count on: suspended or deleted campaigns dial nobody."""
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(
                text(_MIRROR_CAMPAIGN),
                {
                    "namespace": namespace, "name": name, "uid": uid, "generation": generation,
                    "suspended": suspended, "closed": closed,
                },
            )  # fmt: skip

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

    async def allow(self, numbers: Sequence[str]) -> None:
        """Replaces the numbers that a real carrier may dial."""
        hashes = [phone.number_hash(number, self._key) for number in numbers]
        async with self._engine.begin() as connection:
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

    async def refusals(self, calls: Sequence[tuple[UUID, str | None]]) -> list[str | None]:
        """The gate's word on calling each contact with the account of that SID now, in their order; None: they may be.

        The ledger asks the same gate again when it holds the money, and once more when the call is dialled.
        """
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT gate_refusal(asked.id, asked.account) FROM unnest(CAST(:ids AS uuid[]),"
                    " CAST(:accounts AS text[])) WITH ORDINALITY AS asked (id, account, place) ORDER BY place"
                ),
                {"ids": [contact for contact, _ in calls], "accounts": [account for _, account in calls]},
            )
            return list(rows.scalars())


_MIRROR_CAMPAIGN = """
INSERT INTO campaigns (namespace, name, uid, generation, suspended, closed)
VALUES (:namespace, :name, :uid, :generation, :suspended, :closed)
ON CONFLICT (namespace, name) DO UPDATE SET uid = EXCLUDED.uid, generation = EXCLUDED.generation,
    suspended = EXCLUDED.suspended,
    closed = EXCLUDED.closed OR (campaigns.closed AND campaigns.uid = EXCLUDED.uid)
WHERE campaigns.uid <> EXCLUDED.uid OR campaigns.generation <= EXCLUDED.generation
"""
