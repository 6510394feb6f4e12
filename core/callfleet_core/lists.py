"""Contact lists in the database: imported whole or not at all, each import a new version.

A list has up to a million contacts and is never held in memory: it streams into a table of the transaction, and all
else is SQL. What it says of consent holds from the moment that the import commits; campaigns that name the list follow
within seconds (callfleet_core.runs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.contactlist import EMPTY, ContactListError, Row, same_number
from callfleet_core.contacts import ContactIn, keep_zones
from callfleet_core.db.patience import statements_within
from callfleet_core.hashkey import assert_hash_key
from callfleet_core.privacy import keep_names
from callfleet_core.subjects import Subjects

MAX_LISTED: Final = 1_000_000
# Problems told by row; more are only counted.
MAX_PROBLEMS = 1_000
PROGRESS_EVERY = 1_000
NAMES_PAGE = 5_000
# One import's transaction; a million contacts take some two minutes.
IMPORT_TIMEOUT_S = 1_800


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with a row; it names nobody."""

    row: int
    text: str


class ImportRefusedError(ContactListError):
    """Nothing was imported; `problems` are the first MAX_PROBLEMS of `total`, by row."""

    def __init__(self, problems: list[RowProblem], total: int) -> None:
        super().__init__(f"{total} rows cannot be used, so nothing was imported: correct them and import again")
        self.problems = problems
        self.total = total


@dataclass(frozen=True)
class Imported:
    """What an import did, or with `dry_run` would do; `version` is None then."""

    version: int | None
    contacts: int
    joined: int
    left: int
    without_consent: int


@dataclass(frozen=True)
class ListInfo:
    """A list, and the campaigns whose runs took their contacts from it."""

    namespace: str
    name: str
    version: int
    contacts: int
    imported_at: datetime
    campaigns: tuple[str, ...]


class ContactLists:
    """The lists of all namespaces, for whoever imports them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def import_rows(
        self,
        namespace: str,
        name: str,
        rows: Iterable[Row],
        subjects: Subjects,
        *,
        dry_run: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Imported:
        """Replaces a list by `rows`, in their order, or leaves everything as it was.

        `subjects` has the installation's keys: contacts are keyed by one, and what is personal is encrypted.
        `on_progress` is told the rows read so far, every PROGRESS_EVERY rows. Raises ImportRefusedError for rows that
        cannot be used, ContactListError for an empty or too long list, HashKeyError for another installation's key.
        """
        async with self._engine.begin() as connection:  # of its own: the row that it locks is everybody's
            await assert_hash_key(connection, subjects)
        async with (
            self._engine.connect() as connection,
            connection.begin() as transaction,
            statements_within(connection, IMPORT_TIMEOUT_S),
        ):
            await connection.execute(text(_STAGE))
            problems = await _stage(connection, _Staging(namespace, subjects), rows, on_progress)
            await problems.add_same_numbers(connection)
            problems.refuse()
            imported = await _compare(connection, namespace, name)
            if dry_run:
                await transaction.rollback()
                return imported
            return await _replace(connection, namespace, name, imported, subjects)

    async def lists(self, namespace: str | None = None) -> list[ListInfo]:
        """All lists, or a namespace's."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_LISTS), {"namespace": namespace})
            return [ListInfo(**{**row, "campaigns": tuple(row["campaigns"])}) for row in rows.mappings()]

    async def delete(self, namespace: str, name: str) -> int:
        """Deletes a list, with what it said of consent; answers how many contacts it had.

        Campaigns that name it call nobody of it any more. Raises ContactListError when there is none.
        """
        async with self._engine.begin() as connection, statements_within(connection, IMPORT_TIMEOUT_S):
            names = {"namespace": namespace, "name": name}
            contacts = await connection.scalar(text(_DELETE), names)
            if contacts is None:
                raise ContactListError(f"there is no list {name} in namespace {namespace}: callfleet contacts lists")
            await connection.execute(text(_REVOKE_ALL), {"origin": origin(namespace, name)})
            return int(contacts)


@dataclass(frozen=True)
class _Staging:
    """Makes staged rows of contacts."""

    namespace: str
    subjects: Subjects

    def row(self, number: int, position: int, contact: ContactIn) -> tuple[Any, ...]:
        sealed, consent = self.subjects.seal(self.namespace, contact), contact.consent
        person = (sealed.id, sealed.number_hash, sealed.phone, sealed.name, sealed.dial_prefix)
        zones = (list(sealed.time_zones), contact.time_zone)
        key = (sealed.key_version, sealed.wrapped_key)
        stated = (consent.kind, consent.source, consent.given_at) if consent else (None, None, None)
        return (number, position, *person, *zones, *key, *stated)


async def _stage(
    connection: AsyncConnection, staging: _Staging, rows: Iterable[Row], on_progress: Callable[[int], None] | None
) -> _Problems:
    """Streams the rows into the transaction's own table; the problems are those of single rows."""
    problems = _Problems()
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, psycopg.AsyncConnection):
        raise TypeError("contact lists are imported over psycopg")
    read = 0
    async with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        for read, (number, item) in enumerate(rows, start=1):
            if read > MAX_LISTED:
                raise ContactListError(f"more than {MAX_LISTED:,} contacts: split the list")
            if isinstance(item, ContactIn):
                await copy.write_row(staging.row(number, read - 1, item))
            else:
                problems.add(number, str(item))
            if on_progress is not None and read % PROGRESS_EVERY == 0:
                on_progress(read)
    if read == 0:
        raise ContactListError(EMPTY)
    await connection.execute(text("ANALYZE imported"))
    return problems


def origin(namespace: str, name: str) -> str:
    """What a list's consents are known by; no campaign's origin has two slashes."""
    return f"{namespace}/lists/{name}"


class _Problems:
    """The first problems, and how many there are."""

    def __init__(self) -> None:
        self._kept: list[RowProblem] = []
        self._total = 0

    def add(self, row: int, problem: str) -> None:
        self._total += 1
        if len(self._kept) < MAX_PROBLEMS:
            self._kept.append(RowProblem(row, problem))

    async def add_same_numbers(self, connection: AsyncConnection) -> None:
        """Rows that have the number of an earlier one."""
        rows = (await connection.execute(text(_SAME), {"limit": MAX_PROBLEMS})).all()
        self._kept += [RowProblem(row.row, same_number(row.first)) for row in rows]
        self._kept = sorted(self._kept, key=lambda problem: problem.row)[:MAX_PROBLEMS]
        self._total += rows[0].total if rows else 0

    def refuse(self) -> None:
        """Raises ImportRefusedError when there are any."""
        if self._total:
            raise ImportRefusedError(self._kept, self._total)


async def _compare(connection: AsyncConnection, namespace: str, name: str) -> Imported:
    """How the staged list differs from the one that is there."""
    row = (await connection.execute(text(_COMPARE), {"namespace": namespace, "name": name})).one()
    return Imported(None, row.contacts, row.joined, row.left_it, row.without_consent)


async def _replace(
    connection: AsyncConnection, namespace: str, name: str, imported: Imported, subjects: Subjects
) -> Imported:
    """Puts the staged list in the place of the one that is there, consents and all."""
    names = {"namespace": namespace, "name": name}
    stated = {"origin": origin(namespace, name)}
    # Two imports of one list at once: the second waits, and replaces what the first one made.
    await connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:origin, 0))"), stated)
    await connection.execute(text(_CONTACTS), {"namespace": namespace})
    await connection.execute(text(_KEEP_ZONES))
    await _keep_names(connection, namespace, subjects)
    await connection.execute(text(_CONSENTS), stated)
    await connection.execute(text(_REVOKE), stated)
    await connection.execute(text(_DELETE), names)
    version = await connection.scalar(text(_INSERT), {**names, "contacts": imported.contacts})
    await connection.execute(text(_ENTRIES), {"version": version})
    return Imported(version, imported.contacts, imported.joined, imported.left, imported.without_consent)


async def _keep_names(connection: AsyncConnection, namespace: str, subjects: Subjects) -> None:
    """The names of those who were stored already, page by page."""
    after = UUID(int=0)
    while True:
        rows = await connection.execute(text(_KNOWN), {"after": after, "page": NAMES_PAGE})
        known = [{**row, "namespace": namespace} for row in rows.mappings()]
        if not known:
            return
        names = {row["id"]: subjects.open(row).name for row in known}
        await keep_names(connection, subjects, namespace, names)
        after = known[-1]["id"]


_STAGE = """
CREATE TEMP TABLE imported (row integer, position integer, id uuid, number_hash text, phone bytea, name bytea,
    dial_prefix text, time_zones text[], time_zone text, key_version integer, wrapped_key bytea, kind text,
    source text, given_at timestamptz) ON COMMIT DROP
"""
_COPY = "COPY imported FROM STDIN"

_SAME = """
SELECT row, first, count(*) OVER () AS total
FROM (SELECT row, min(row) OVER (PARTITION BY id) AS first FROM imported) AS numbers
WHERE row <> first ORDER BY row LIMIT :limit
"""

_OLD = """SELECT e.contact_id AS id FROM contact_lists l JOIN contact_list_entries e USING (version)
    WHERE l.namespace = :namespace AND l.name = :name"""

_COMPARE = f"""
SELECT count(n.id) AS contacts, count(*) FILTER (WHERE o.id IS NULL) AS joined,
       count(*) FILTER (WHERE n.id IS NULL) AS left_it,
       count(n.id) FILTER (WHERE n.kind IS NULL) AS without_consent
FROM imported n FULL JOIN ({_OLD}) o ON o.id = n.id
"""  # noqa: S608  # a constant of this module

# By id, as every writer of contacts does, so that two at once never deadlock.
_CONTACTS = """
INSERT INTO contacts (id, namespace, number_hash, phone, name, dial_prefix, key_version, wrapped_key, time_zones)
SELECT id, :namespace, number_hash, phone, name, dial_prefix, key_version, wrapped_key, time_zones
FROM imported ORDER BY id
ON CONFLICT (namespace, number_hash) DO NOTHING
"""
_KEEP_ZONES = keep_zones("imported r")

# Those who have a key already: what was staged of them is under one that nobody keeps.
_KNOWN = """
SELECT i.id, i.phone, i.name, i.key_version, i.wrapped_key FROM imported i JOIN contacts c USING (id)
WHERE c.wrapped_key IS NOT NULL AND c.wrapped_key <> i.wrapped_key AND i.id > :after ORDER BY i.id LIMIT :page
"""

_CONSENTS = """
INSERT INTO consents (contact_id, kind, source, given_at, origin)
SELECT id, kind, source, given_at, :origin FROM imported WHERE kind IS NOT NULL ORDER BY id
ON CONFLICT (contact_id, kind, source, given_at, origin) DO UPDATE SET revoked_at = NULL
WHERE consents.revoked_at IS NOT NULL
"""

_REVOKE = """
UPDATE consents c SET revoked_at = clock_timestamp() WHERE c.origin = :origin AND c.revoked_at IS NULL
AND NOT EXISTS (SELECT 1 FROM imported n WHERE n.id = c.contact_id AND n.kind = c.kind AND n.source = c.source
                AND n.given_at = c.given_at)
"""
_REVOKE_ALL = "UPDATE consents SET revoked_at = clock_timestamp() WHERE origin = :origin AND revoked_at IS NULL"

_DELETE = "DELETE FROM contact_lists WHERE namespace = :namespace AND name = :name RETURNING contacts"
_INSERT = """
INSERT INTO contact_lists (namespace, name, contacts) VALUES (:namespace, :name, :contacts) RETURNING version
"""
_ENTRIES = """
INSERT INTO contact_list_entries (version, position, contact_id, time_zone)
SELECT :version, position, id, time_zone FROM imported ORDER BY position
"""

_LISTS = """
SELECT l.namespace, l.name, l.version, l.contacts, l.imported_at,
       ARRAY(SELECT DISTINCT t.campaign FROM campaign_run_lists t JOIN campaigns c ON c.namespace = t.namespace
             AND c.name = t.campaign WHERE t.version = l.version AND NOT c.closed ORDER BY 1) AS campaigns
FROM contact_lists l WHERE CAST(:namespace AS text) IS NULL OR l.namespace = :namespace ORDER BY l.namespace, l.name
"""
