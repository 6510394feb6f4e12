"""People as the database has them: names kept up to date, numbers read, keys rotated and destroyed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.crypto import WrappedKey
from callfleet_core.db.outages import until_done
from callfleet_core.subjects import NAME, Subjects

# Keys that one transaction wraps anew: short enough that nobody waits for it.
ROTATE_PAGE = 1_000


@dataclass(frozen=True)
class Numbers:
    """Whom an attempt dials, and from which number; E.164. Never logged."""

    to: str = field(repr=False)
    from_: str


class Erasure(StrEnum):
    """What became of a wish to be erased."""

    ERASED = "erased"
    UNKNOWN = "unknown"
    OPEN = "open"


class Privacy:
    """The people of all namespaces, for whoever has the installation's keys."""

    def __init__(self, engine: AsyncEngine, subjects: Subjects) -> None:
        self._engine, self._subjects = engine, subjects

    async def numbers(self, attempt_id: UUID) -> Numbers:
        """The two numbers of an attempt, to search the carrier's list by. Raises CryptoError."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT c.id, c.namespace, c.phone, c.key_version, c.wrapped_key, a.from_number"
                    " FROM dial_attempts a JOIN contacts c ON c.id = a.contact_id WHERE a.id = :attempt"
                ),
                {"attempt": attempt_id},
            )
            row = dict(rows.mappings().one())
        return Numbers(self._subjects.open(row).phone, row["from_number"])

    async def erase(self, contact: UUID) -> Erasure:
        """Destroys a person's key; the ledger still balances, and they are never called again."""

        async def erase() -> Erasure:
            async with self._engine.begin() as connection:
                answer = await connection.scalar(text("SELECT erase_contact(:contact)"), {"contact": contact})
                return Erasure(answer)

        return await until_done(erase)

    async def left_to_rotate(self, newest: int) -> int:
        """People whose key is wrapped by an older master key than `newest`."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT count(*) FROM contacts WHERE key_version < :newest"), {"newest": newest}
            )
            return int(rows.scalar_one())

    async def rotate(self, newest: int, on_progress: Callable[[int], None] | None = None) -> int:
        """Wraps every key of an older version anew, page by page; answers how many.

        It may be stopped at any moment and begun again: what is done is done. Raises KeyringError, with what came
        before done, where an old key is missing.
        """
        done = 0
        while page := await self._rotate_page(newest):
            done += page
            if on_progress is not None:
                on_progress(done)
        return done

    async def _rotate_page(self, newest: int) -> int:
        async with self._engine.begin() as connection:
            rows = await connection.execute(text(_OLD_KEYS), {"newest": newest, "page": ROTATE_PAGE})
            new: list[dict[str, object]] = []
            for row in map(dict, rows.mappings()):
                wrapped: WrappedKey = self._subjects.ring(row["namespace"]).wrap(self._subjects.key(row))
                new.append({"id": row["id"], "version": wrapped.version, "wrapped": wrapped.wrapped})
            if new:
                await connection.execute(
                    text("UPDATE contacts SET key_version = :version, wrapped_key = :wrapped WHERE id = :id"), new
                )
            return len(new)


async def keep_names(
    connection: AsyncConnection, subjects: Subjects, namespace: str, names: Mapping[UUID, str | None]
) -> None:
    """Stores the names of people who are stored under another one; the erased stay as they are."""
    rows = await connection.execute(
        text(
            "SELECT id, namespace, name, key_version, wrapped_key FROM contacts"
            " WHERE namespace = :namespace AND id = ANY(:ids) AND wrapped_key IS NOT NULL"
        ),
        {"namespace": namespace, "ids": list(names)},
    )
    changed: list[dict[str, object]] = []
    for row in map(dict, rows.mappings()):
        stored, name = subjects.open(row), names[row["id"]]
        if stored.name != name:
            sealed = None if name is None else stored.key.encrypt(NAME, name)
            changed.append({"id": row["id"], "name": sealed})
    if changed:
        await connection.execute(text("UPDATE contacts SET name = :name WHERE id = :id"), changed)


# SKIP LOCKED: two rotations at once share the work; rows that somebody else holds come with the next page.
_OLD_KEYS = """
SELECT id, namespace, key_version, wrapped_key FROM contacts WHERE key_version < :newest
ORDER BY key_version, id LIMIT :page FOR UPDATE SKIP LOCKED
"""
