"""Contacts, their consent, and who was called in which run of a campaign: PostgreSQL's truth, not Kubernetes'."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core import phone
from callfleet_core.ledger import assert_epoch

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


@dataclass(frozen=True)
class RunContact:
    """A contact's place in a campaign's run; no number, no name."""

    contact_id: UUID
    position: int
    session_name: str
    state: str | None
    disposition: str | None


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
    """The contacts of campaigns."""

    def __init__(self, engine: AsyncEngine, key: bytes, epoch: Callable[[], int] | None = None) -> None:
        """`epoch`: the leader's, which every write must carry; an importer that leads nothing gives none."""
        self._engine = engine
        self._key = key
        self._epoch = epoch

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of the leader. Raises StaleEpochError when another one leads."""
        async with self._engine.begin() as connection:
            if self._epoch is not None:
                await assert_epoch(connection, self._epoch())
            yield connection

    async def mirror_campaign(
        self, *, namespace: str, name: str, uid: str, generation: int, suspended: bool, closed: bool
    ) -> None:
        """Says what begin_dial may count on: suspended or deleted campaigns dial nobody."""
        async with self._writing() as connection:
            await connection.execute(
                text(_MIRROR_CAMPAIGN),
                {
                    "namespace": namespace, "name": name, "uid": uid, "generation": generation,
                    "suspended": suspended, "closed": closed,
                },
            )  # fmt: skip

    async def close_campaign(self, namespace: str, name: str) -> None:
        """Says that there is no such Campaign any more; one that is made again has another UID and dials again."""
        async with self._writing() as connection:
            await connection.execute(
                text("UPDATE campaigns SET closed = true WHERE namespace = :namespace AND name = :name"),
                {"namespace": namespace, "name": name},
            )

    async def open_campaigns(self) -> list[tuple[str, str]]:
        """Namespace and name of every campaign that may dial, as PostgreSQL has it."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text("SELECT namespace, name FROM campaigns WHERE NOT closed"))
            return [(row.namespace, row.name) for row in rows]

    async def load(self, namespace: str, campaign: str, run_id: str, contacts: Sequence[ContactIn]) -> None:
        """Makes the list the run's: contacts, their consent, who belongs to it; doing it again changes nothing.

        Who is no longer listed and was not called yet leaves the run; a consent that this campaign stated before and
        states no longer is revoked.
        """
        rows = [self._row(namespace, campaign, run_id, position, contact) for position, contact in enumerate(contacts)]
        rows.sort(key=lambda row: str(row["id"]))  # in one order, so that two lists at once never deadlock
        listed = {"rows": json.dumps(rows)}
        run = {"namespace": namespace, "campaign": campaign, "run_id": run_id}
        origin = {"origin": f"{namespace}/{campaign}"}
        async with self._writing() as connection:
            await connection.execute(text(_LOAD_CONTACTS), listed)
            await connection.execute(text(_LOAD_CONSENTS), listed | origin)
            await connection.execute(text(_REVOKE_CONSENTS), listed | origin)
            await connection.execute(text(_LOAD_RUN), listed)
            await connection.execute(text(_LEAVE_RUN), listed | run)

    def _row(self, namespace: str, campaign: str, run_id: str, position: int, contact: ContactIn) -> dict[str, Any]:
        identity = contact_id(namespace, contact.phone, self._key)
        consent = contact.consent
        return {
            "id": str(identity),
            "namespace": namespace,
            "campaign": campaign,
            "run_id": run_id,
            "position": position,
            "session_name": session_name(campaign, run_id, identity),
            "number_hash": phone.number_hash(contact.phone, self._key),
            "phone": contact.phone,
            "name": contact.name,
            "kind": consent.kind if consent else None,
            "source": consent.source if consent else None,
            "given_at": consent.given_at.isoformat() if consent else None,
        }

    async def run(self, namespace: str, campaign: str, run_id: str) -> list[RunContact]:
        """The contacts of a run in their order."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT contact_id, position, session_name, state, disposition FROM campaign_contacts"
                    " WHERE namespace = :namespace AND campaign = :campaign AND run_id = :run_id ORDER BY position"
                ),
                {"namespace": namespace, "campaign": campaign, "run_id": run_id},
            )
            return [RunContact(**row) for row in rows.mappings()]

    async def finish(
        self, *, namespace: str, campaign: str, run_id: str, contact: UUID, state: str, disposition: str | None
    ) -> None:
        """Marks a contact as done in this run; from then on no attempt is granted for it."""
        async with self._writing() as connection:
            await connection.execute(
                text(
                    "UPDATE campaign_contacts SET state = :state, disposition = :disposition,"
                    " finished_at = COALESCE(finished_at, clock_timestamp()) WHERE namespace = :namespace"
                    " AND campaign = :campaign AND run_id = :run_id AND contact_id = :contact"
                ),
                {
                    "namespace": namespace, "campaign": campaign, "run_id": run_id, "contact": contact,
                    "state": state, "disposition": disposition,
                },
            )  # fmt: skip

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

_ROWS = """jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (id uuid, namespace text, campaign text, run_id text,
    position integer, session_name text, number_hash text, phone text, name text, kind text, source text,
    given_at timestamptz)"""

_LOAD_CONTACTS = f"""
INSERT INTO contacts (id, namespace, number_hash, phone, name)
SELECT id, namespace, number_hash, phone, name FROM {_ROWS}
ON CONFLICT (namespace, number_hash) DO UPDATE SET name = EXCLUDED.name
WHERE contacts.name IS DISTINCT FROM EXCLUDED.name
"""  # noqa: S608  # a constant of this module

_LOAD_CONSENTS = f"""
INSERT INTO consents (contact_id, kind, source, given_at, origin)
SELECT id, kind, source, given_at, :origin FROM {_ROWS} WHERE kind IS NOT NULL
ON CONFLICT (contact_id, kind, source, given_at, origin) DO UPDATE SET revoked_at = NULL
WHERE consents.revoked_at IS NOT NULL
"""  # noqa: S608  # a constant of this module

_REVOKE_CONSENTS = f"""
UPDATE consents c SET revoked_at = clock_timestamp() WHERE c.origin = :origin AND c.revoked_at IS NULL
AND NOT EXISTS (SELECT 1 FROM {_ROWS} WHERE r.id = c.contact_id AND r.kind = c.kind AND r.source = c.source
                AND r.given_at = c.given_at)
"""  # noqa: S608  # a constant of this module

_LOAD_RUN = f"""
INSERT INTO campaign_contacts (namespace, campaign, run_id, contact_id, position, session_name)
SELECT namespace, campaign, run_id, id, position, session_name FROM {_ROWS}
ON CONFLICT (namespace, campaign, run_id, contact_id) DO UPDATE SET position = EXCLUDED.position
"""  # noqa: S608  # a constant of this module

_LEAVE_RUN = f"""
DELETE FROM campaign_contacts l WHERE l.namespace = :namespace AND l.campaign = :campaign AND l.run_id = :run_id
AND l.finished_at IS NULL AND NOT EXISTS (SELECT 1 FROM {_ROWS} WHERE r.id = l.contact_id)
"""  # noqa: S608  # a constant of this module
