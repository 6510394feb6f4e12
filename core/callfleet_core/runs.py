"""Who is to be called in a run of a campaign, and who was: it outlives every Kubernetes object.

A run's contacts come from what the campaign states (inline, ConfigMap, Secret) or from a contact list in the database.
Nothing here reads a whole run: it may have a million contacts.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.contactlist import ContactListError
from callfleet_core.contacts import ContactIn, keep_zones, session_name
from callfleet_core.ledger.fencing import fenced
from callfleet_core.privacy import keep_names
from callfleet_core.subjects import Subjects

# Contacts that one transaction moves in or out of a run: short enough that a new leader never waits for its epoch.
PAGE = 20_000


class Run(NamedTuple):
    """A run of a campaign."""

    namespace: str
    campaign: str
    run_id: str


class ListUse(NamedTuple):
    """That a run takes its contacts from a list of its namespace."""

    run: Run
    list_name: str


@dataclass(frozen=True)
class RunContact:
    """A contact's place in a campaign's run; no number, no name."""

    contact_id: UUID
    position: int
    session_name: str
    state: str | None
    disposition: str | None


@dataclass(frozen=True)
class RunCounts:
    """How many contacts a run has, and how many of them are done."""

    total: int
    done: int


class CampaignRuns:
    """The runs of campaigns."""

    def __init__(self, engine: AsyncEngine, subjects: Subjects, epoch: Callable[[], int] | None = None) -> None:
        """`epoch`: the leader's, which every write carries."""
        self._engine = engine
        self._subjects = subjects
        self._epoch = epoch

    async def load(self, run: Run, contacts: Sequence[ContactIn]) -> None:
        """Makes the list the run's: contacts, their consent, who belongs to it; doing it again changes nothing.

        Who is no longer listed leaves the run; a consent that this campaign stated before and states no longer is
        revoked.
        """
        rows = [self._row(run, position, contact) for position, contact in enumerate(contacts)]
        names = {UUID(row["id"]): contact.name for row, contact in zip(rows, contacts, strict=True)}
        rows.sort(key=lambda row: str(row["id"]))  # in one order, so that two lists at once never deadlock
        listed = {"rows": json.dumps(rows)}
        origin = {"origin": f"{run.namespace}/{run.campaign}"}
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(text(_LOAD_CONTACTS), listed)
            await connection.execute(text(_KEEP_ZONES), listed)
            await keep_names(connection, self._subjects, run.namespace, names)
            await connection.execute(text(_LOAD_CONSENTS), listed | origin)
            await connection.execute(text(_REVOKE_CONSENTS), listed | origin)
            await connection.execute(text(_LOAD_RUN), listed | run._asdict())
            await connection.execute(text(_UNMARK), run._asdict())
            while await _leave_page(connection, _LEAVE_UNSTATED, {**run._asdict(), **listed}):
                pass

    async def take_list(self, run: Run, list_name: str) -> None:
        """Brings the run to the newest version of its list, page by page; at that version already, changes nothing.

        Who left the list leaves the run, before anybody new joins it. Raises ContactListError when there is no such
        list; nobody belongs to the run then.
        """
        names = {**run._asdict(), "list_name": list_name}
        async with self._engine.connect() as connection:
            found = (await connection.execute(text(_VERSIONS), names)).one()
        if found.newest is None or found.newest != found.taken:
            await self._leave_list({**names, "version": found.newest})
            for start in range(0, found.contacts or 0, PAGE):
                async with fenced(self._engine, self._epoch) as connection:
                    page = {**run._asdict(), "version": found.newest, "start": start, "end": start + PAGE}
                    await connection.execute(text(_JOIN), page)
            await self._mark(run, found.newest)
        if found.newest is None:
            raise ContactListError(
                f"list {list_name} is not there: import it with callfleet contacts import"
                f" --namespace {run.namespace} --list {list_name} FILE.csv"
            )

    async def outdated(self, uses: Sequence[ListUse]) -> set[Run]:
        """Those of the runs whose list has another version than they took; one query for all."""
        if not uses:
            return set()
        asked = json.dumps([{**use.run._asdict(), "list_name": use.list_name} for use in uses])
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_OUTDATED), {"uses": asked})
            return {Run(row.namespace, row.campaign, row.run_id) for row in rows}

    async def counts(self, run: Run) -> RunCounts:
        """How far the run is."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(text(_COUNTS), run._asdict())).one()
            return RunCounts(row.total, row.done)

    async def due(self, run: Run, limit: int, without: Sequence[UUID] = ()) -> list[RunContact]:
        """The first `limit` contacts, in their order, who are not done and not among `without`."""
        async with self._engine.connect() as connection:
            parameters = {**run._asdict(), "limit": limit, "without": list(without)}
            rows = await connection.execute(text(_DUE), parameters)
            return [_contact(run, row) for row in rows]

    async def find(self, run: Run, contact: UUID) -> RunContact | None:
        """A contact's place in the run, or None."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(text(_FIND), {**run._asdict(), "contact": contact})).one_or_none()
            return None if row is None else _contact(run, row)

    async def unlisted(self, run: Run, contacts: Sequence[UUID]) -> set[UUID]:
        """Those of `contacts` who were never on the run's list, or have left it."""
        if not contacts:
            return set()
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_UNLISTED), {**run._asdict(), "contacts": list(contacts)})
            return set(rows.scalars())

    async def finish(self, run: Run, contact: UUID, *, state: str, disposition: str | None) -> None:
        """Marks a contact as done in this run; from then on no attempt is granted for it."""
        parameters = {**run._asdict(), "contact": contact, "state": state, "disposition": disposition}
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(text(_FINISH), parameters)

    async def close_left(self, run: Run, contacts: Sequence[UUID]) -> None:
        """Marks those of `contacts` as done who left the run in a call that is over, and would have had another."""
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(text(_CLOSE_LEFT), {**run._asdict(), "contacts": list(contacts)})

    def _row(self, run: Run, position: int, contact: ContactIn) -> dict[str, Any]:
        sealed, consent = self._subjects.seal(run.namespace, contact), contact.consent
        return {
            "id": str(sealed.id),
            "namespace": run.namespace,
            "position": position,
            "number_hash": sealed.number_hash,
            "phone": b64encode(sealed.phone).decode(),
            "name": None if sealed.name is None else b64encode(sealed.name).decode(),
            "dial_prefix": sealed.dial_prefix,
            "time_zones": sealed.time_zones,
            "time_zone": contact.time_zone,
            "key_version": sealed.key_version,
            "wrapped_key": b64encode(sealed.wrapped_key).decode(),
            "kind": consent.kind if consent else None,
            "source": consent.source if consent else None,
            "given_at": consent.given_at.isoformat() if consent else None,
        }

    async def _leave_list(self, parameters: dict[str, Any]) -> None:
        while True:
            async with fenced(self._engine, self._epoch) as connection:
                if not await _leave_page(connection, _LEAVE_LIST, parameters):
                    return

    async def _mark(self, run: Run, version: int | None) -> None:
        """Remembers the version; what the campaign itself stated, before it named a list, is stated no longer."""
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(text(_UNMARK), run._asdict())
            if version is not None:
                await connection.execute(text(_MARK), {**run._asdict(), "version": version})
            origin = f"{run.namespace}/{run.campaign}"
            await connection.execute(text(_REVOKE_ALL), {"origin": origin})


async def _leave_page(connection: AsyncConnection, statement: str, parameters: dict[str, Any]) -> int:
    """Takes at most PAGE contacts out of a run; answers how many they were."""
    return int((await connection.execute(text(statement), {**parameters, "page": PAGE})).scalar_one())


def _contact(run: Run, row: Row[Any]) -> RunContact:
    name = session_name(run.campaign, run.run_id, row.contact_id)
    return RunContact(row.contact_id, row.position, name, row.state, row.disposition)


_ROWS = """jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (id uuid, namespace text, position integer, number_hash text,
    phone text, name text, dial_prefix text, key_version integer, wrapped_key text, kind text,
    source text, given_at timestamptz, time_zones text[], time_zone text)"""

_LOAD_CONTACTS = f"""
INSERT INTO contacts (id, namespace, number_hash, phone, name, dial_prefix, key_version, wrapped_key, time_zones)
SELECT id, namespace, number_hash, decode(phone, 'base64'), decode(name, 'base64'), dial_prefix, key_version,
       decode(wrapped_key, 'base64'), time_zones FROM {_ROWS}
ON CONFLICT (namespace, number_hash) DO NOTHING
"""  # noqa: S608  # a constant of this module
_KEEP_ZONES = keep_zones(_ROWS)

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

_REVOKE_ALL = "UPDATE consents SET revoked_at = clock_timestamp() WHERE origin = :origin AND revoked_at IS NULL"

_MINE = "namespace = :namespace AND campaign = :campaign AND run_id = :run_id"

# Who is in the run already has the place, and the time zone, that is stated of them now.
_KEEP_PLACE = """
ON CONFLICT (namespace, campaign, run_id, contact_id) DO UPDATE
SET position = EXCLUDED.position, time_zone = EXCLUDED.time_zone
WHERE (campaign_contacts.position, campaign_contacts.time_zone)
    IS DISTINCT FROM (EXCLUDED.position, EXCLUDED.time_zone)
"""

_LOAD_RUN = f"""
INSERT INTO campaign_contacts (namespace, campaign, run_id, contact_id, position, time_zone)
SELECT :namespace, :campaign, :run_id, id, position, time_zone FROM {_ROWS}
{_KEEP_PLACE}
"""  # noqa: S608  # a constant of this module

_JOIN = f"""
INSERT INTO campaign_contacts (namespace, campaign, run_id, contact_id, position, time_zone)
SELECT :namespace, :campaign, :run_id, contact_id, position, time_zone FROM contact_list_entries
WHERE version = :version AND position >= :start AND position < :end
{_KEEP_PLACE}
"""  # noqa: S608  # as above

# Whom nobody tried is forgotten, also with a grant: it is revoked a moment later, and should it be dialled before that,
# its attempt keeps the person from being called again. Who was tried stays, and is done: there is no other attempt, and
# what becomes of one that is still open is written when it ends.
_LEAVE = f"""
WITH gone AS MATERIALIZED (
    SELECT l.contact_id FROM campaign_contacts l WHERE {_MINE} AND l.finished_at IS NULL AND %s LIMIT :page
), tried AS MATERIALIZED (
    SELECT a.contact_id, bool_or(a.state <> 'settled') AS is_open FROM dial_attempts a JOIN gone USING (contact_id)
    WHERE {_MINE} AND a.state NOT IN ('granted', 'revoked') GROUP BY a.contact_id
), closed AS (
    UPDATE campaign_contacts l SET finished_at = clock_timestamp(),
        state = CASE WHEN t.is_open THEN l.state ELSE 'Canceled' END,
        disposition = CASE WHEN t.is_open THEN l.disposition ELSE 'canceled' END
    FROM tried t WHERE {_MINE} AND l.contact_id = t.contact_id RETURNING 1
), forgotten AS (
    DELETE FROM campaign_contacts l USING gone g WHERE {_MINE} AND l.contact_id = g.contact_id
    AND NOT EXISTS (SELECT 1 FROM tried t WHERE t.contact_id = l.contact_id) RETURNING 1
)
SELECT (SELECT count(*) FROM closed) + (SELECT count(*) FROM forgotten)
"""  # noqa: S608  # a constant of this module

_LEAVE_UNSTATED = _LEAVE % f"NOT EXISTS (SELECT 1 FROM {_ROWS} WHERE r.id = l.contact_id)"  # noqa: S608  # as above

# Nobody leaves by a version that was replaced meanwhile: its entries are gone, though its people may not be.
_LEAVE_LIST = (
    _LEAVE
    % """
    NOT EXISTS (SELECT 1 FROM contact_list_entries e WHERE e.version = :version AND e.contact_id = l.contact_id)
    AND (SELECT n.version FROM contact_lists n WHERE n.namespace = :namespace AND n.name = :list_name)
        IS NOT DISTINCT FROM CAST(:version AS bigint)"""
)

_VERSIONS = """
SELECT l.version AS newest, l.contacts, t.version AS taken FROM (VALUES (1)) AS one
LEFT JOIN contact_lists l ON l.namespace = :namespace AND l.name = :list_name
LEFT JOIN campaign_run_lists t ON t.namespace = :namespace AND t.campaign = :campaign AND t.run_id = :run_id
"""

_OUTDATED = """
SELECT u.namespace, u.campaign, u.run_id
FROM jsonb_to_recordset(CAST(:uses AS jsonb)) AS u (namespace text, campaign text, run_id text, list_name text)
LEFT JOIN contact_lists l ON l.namespace = u.namespace AND l.name = u.list_name
LEFT JOIN campaign_run_lists t ON t.namespace = u.namespace AND t.campaign = u.campaign AND t.run_id = u.run_id
WHERE l.version IS DISTINCT FROM t.version
"""

_MARK = """
INSERT INTO campaign_run_lists (namespace, campaign, run_id, version) VALUES (:namespace, :campaign, :run_id, :version)
"""
_UNMARK = f"DELETE FROM campaign_run_lists WHERE {_MINE}"  # noqa: S608  # a constant of this module

_COUNTS = f"SELECT count(*) AS total, count(state) AS done FROM campaign_contacts WHERE {_MINE}"  # noqa: S608  # as above

_DUE = f"""
SELECT contact_id, position, state, disposition FROM campaign_contacts
WHERE {_MINE} AND finished_at IS NULL AND contact_id <> ALL(CAST(:without AS uuid[])) ORDER BY position LIMIT :limit
"""  # noqa: S608  # a constant of this module

_FIND = f"""
SELECT contact_id, position, state, disposition FROM campaign_contacts WHERE {_MINE} AND contact_id = :contact
"""  # noqa: S608  # a constant of this module

_UNLISTED = f"""
SELECT asked.id FROM unnest(CAST(:contacts AS uuid[])) AS asked (id) WHERE NOT EXISTS (
    SELECT 1 FROM campaign_contacts WHERE {_MINE} AND contact_id = asked.id
    AND (finished_at IS NULL OR COALESCE(state, 'Canceled') <> 'Canceled'))
"""  # noqa: S608  # a constant of this module

_CLOSE_LEFT = f"""
UPDATE campaign_contacts SET state = 'Canceled', disposition = 'canceled'
WHERE {_MINE} AND contact_id = ANY(CAST(:contacts AS uuid[])) AND finished_at IS NOT NULL AND state IS NULL
"""  # noqa: S608  # a constant of this module

_FINISH = f"""
UPDATE campaign_contacts SET state = :state, disposition = :disposition,
    finished_at = COALESCE(finished_at, clock_timestamp()) WHERE {_MINE} AND contact_id = :contact
"""  # noqa: S608  # a constant of this module
