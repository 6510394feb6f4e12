"""Who must not be called: whoever said so in a call, and whom somebody put on the list. By keyed hashes of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.audit import word
from callfleet_core.hashkey import assert_hash_key
from callfleet_core.phone import number_hash
from callfleet_core.subjects import Subjects

# A namespace like any other in the list, but that it stands for all of them.
EVERYWHERE = ""
MAX_LISTED = 1_000


@dataclass(frozen=True)
class Listed:
    """A number on the list. `attempt_id`: the call in which the person said so."""

    number_hash: str
    namespace: str
    source: str
    attempt_id: UUID | None
    since: datetime


class DoNotCallList:
    """The list, for whoever owns the schema and has the installation's keys.

    Raises HashKeyError with another hash key than the installation's: what it says of a number would be wrong. A change
    without somebody's name and reason raises WordMissingError.
    """

    def __init__(self, engine: AsyncEngine, subjects: Subjects) -> None:
        self._engine, self._subjects = engine, subjects

    async def put(self, namespace: str, number: str, *, actor: str, reason: str) -> bool:
        """Puts an E.164 number on the list, audited; False where it is on it already."""
        return await self._set(namespace, number, listed=True, actor=actor, reason=reason)

    async def take_off(self, namespace: str, number: str, *, actor: str, reason: str) -> bool:
        """Takes an E.164 number off the list, audited; False where it is not on it."""
        return await self._set(namespace, number, listed=False, actor=actor, reason=reason)

    async def of_number(self, number: str) -> list[Listed]:
        """Where an E.164 number is on the list."""
        return await self._read("WHERE number_hash = :hash ORDER BY namespace", hash=self._hash(number))

    async def newest(self, namespace: str | None, limit: int) -> list[Listed]:
        """The latest numbers of a namespace, or of all."""
        where = "" if namespace is None else "WHERE namespace = :namespace"
        return await self._read(f"{where} ORDER BY since DESC LIMIT :limit", namespace=namespace, limit=limit)

    async def knows(self, namespace: str) -> bool:
        """Whether anything of CallFleet was ever in a namespace: a name that is mistyped protects nobody."""
        async with self._engine.connect() as connection:
            return bool(await connection.scalar(text(_KNOWS), {"namespace": namespace}))

    async def _set(self, namespace: str, number: str, *, listed: bool, actor: str, reason: str) -> bool:
        who, why = word(actor, reason)
        async with self._engine.begin() as connection:
            await assert_hash_key(connection, self._subjects)
            answer = await connection.execute(
                text("SELECT do_not_call_set(:namespace, :hash, :listed, :actor, :reason)"),
                {
                    "namespace": namespace, "hash": self._hash(number), "listed": listed,
                    "actor": who, "reason": why,
                },
            )  # fmt: skip
            return bool(answer.scalar_one())

    def _hash(self, number: str) -> str:
        return number_hash(number, self._subjects.hash_key)

    async def _read(self, which: str, **parameters: object) -> list[Listed]:
        async with self._engine.begin() as connection:
            await assert_hash_key(connection, self._subjects)
            rows = await connection.execute(
                text(f"SELECT {_COLUMNS} FROM do_not_call {which}"),  # noqa: S608  # names of our own
                parameters,
            )
            return [Listed(**row) for row in rows.mappings()]


_KNOWS = """
SELECT EXISTS (SELECT 1 FROM contacts WHERE namespace = :namespace)
    OR EXISTS (SELECT 1 FROM campaigns WHERE namespace = :namespace)
    OR EXISTS (SELECT 1 FROM contact_lists WHERE namespace = :namespace)
"""
_COLUMNS = ", ".join(Listed.__dataclass_fields__)
