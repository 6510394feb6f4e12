"""What was called, said and learned: pages of records for people and reports. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from callfleet_core.crypto import ErasedError
from callfleet_core.db.replica import Reader
from callfleet_core.errors import CallFleetError
from callfleet_core.subjects import SAID, Subjects

MAX_PAGE: Final = 500
BEGINNING, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class CursorError(CallFleetError, ValueError):
    """A place in a list that is none of ours."""


@dataclass(frozen=True)
class Cursor:
    """A place in a list of calls, newest first: what comes next was begun before `begun_at`, or then with a lesser id.

    Unlike a page's number it stays where it is while new calls come.
    """

    begun_at: datetime
    id: UUID

    def text(self) -> str:
        """As a caller keeps it."""
        return f"{self.begun_at.astimezone(UTC).isoformat()}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """What `text` gave. Raises CursorError."""
        begun, _, identity = text.partition("/")
        try:
            at = datetime.fromisoformat(begun)
            return cls(at if at.tzinfo else at.replace(tzinfo=UTC), UUID(identity))
        except ValueError as error:
            raise CursorError("this is no place in a list of calls: take the one that the page before gave") from error


@dataclass(frozen=True)
class CallRecord:
    """A call (D2), by opaque ids; times in UTC, the cost in its currency's units, None until it is settled."""

    id: UUID
    namespace: str
    campaign: str
    run_id: str
    contact_id: UUID
    session: str
    attempt: int
    state: str
    status: str
    disposition: str | None
    begun_at: datetime
    start_time: datetime | None
    end_time: datetime | None
    duration_s: int | None
    currency: str
    cost: Decimal | None
    turns: int
    latency_ms_p50: int | None


@dataclass(frozen=True)
class CallPage:
    """Calls, newest first; `after` is where the next page begins, None at the end."""

    calls: Sequence[CallRecord]
    after: Cursor | None


@dataclass(frozen=True)
class Saying:
    """One thing said (D3). Personal: never logged."""

    seq: int
    agent_type: str
    by_agent: bool
    at: datetime
    content: str = field(repr=False)


@dataclass(frozen=True)
class Lead:
    """What was learned in a call (D4); `fields` are the answers by question."""

    call_id: UUID
    contact_id: UUID
    qualification_score: Decimal
    interest_level: str | None
    budget_qualified: bool | None
    timeline: str | None
    decision_maker: bool | None
    created_at: datetime
    fields: dict[str, Any] = field(repr=False)


class CallHistory:
    """Calls of the past, from a replica where there is one."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(
        self,
        namespace: str,
        *,
        campaign: str | None = None,
        since: datetime = BEGINNING,
        until: datetime = END,
        after: Cursor | None = None,
        limit: int = 50,
    ) -> CallPage:
        """Calls of a namespace or a campaign that were begun in [since, until), newest first; at most 500 a page."""
        limit = max(1, min(limit, MAX_PAGE))
        parameters = {
            "namespace": namespace, "since": since, "until": until, "limit": limit + 1,
            "after_at": after.begun_at if after else END, "after_id": after.id if after else UUID(int=0),
        }  # fmt: skip
        # Two texts, so that each has the plan of its own index.
        query = _OF_NAMESPACE if campaign is None else _OF_CAMPAIGN
        if campaign is not None:
            parameters["campaign"] = campaign
        calls = await self._reader.read(lambda connection: _calls(connection, query, parameters))
        return _page(calls, limit)

    async def of_contact(self, contact: UUID, *, after: Cursor | None = None, limit: int = 50) -> CallPage:
        """A contact's calls, newest first."""
        limit = max(1, min(limit, MAX_PAGE))
        parameters = {
            "contact": contact, "limit": limit + 1,
            "after_at": after.begun_at if after else END, "after_id": after.id if after else UUID(int=0),
        }  # fmt: skip
        calls = await self._reader.read(lambda connection: _calls(connection, _OF_CONTACT, parameters))
        return _page(calls, limit)

    async def call(self, call: UUID) -> CallRecord | None:
        """One call, or None."""
        found = await self._reader.read(lambda connection: _calls(connection, _ONE, {"call": call}))
        return found[0] if found else None

    async def leads_of(self, contact: UUID) -> list[Lead]:
        """What was learned of a contact, newest first."""

        async def work(connection: AsyncConnection) -> list[Lead]:
            rows = await connection.execute(text(_LEADS), {"contact": contact, "limit": MAX_PAGE})
            return [Lead(**row) for row in rows.mappings()]

        return await self._reader.read(work)

    async def conversation(self, call: UUID, subjects: Subjects) -> list[Saying]:
        """What was said in a call, in order; empty when the person was erased. Raises CryptoError."""

        async def work(connection: AsyncConnection) -> list[dict[str, Any]]:
            rows = await connection.execute(text(_SAID), {"call": call})
            return [dict(row) for row in rows.mappings()]

        rows = await self._reader.read(work)
        try:
            key = subjects.key(rows[0]) if rows else None
        except ErasedError:
            return []
        return [
            Saying(
                row["seq"], row["agent_type"], row["message_type"] == "assistant", row["timestamp"],
                key.decrypt(SAID, bytes(row["content"])),
            )
            for row in rows if key is not None
        ]  # fmt: skip


async def _calls(connection: AsyncConnection, query: str, parameters: dict[str, Any]) -> list[CallRecord]:
    rows = await connection.execute(text(query), parameters)
    return [CallRecord(**row) for row in rows.mappings()]


def _page(calls: list[CallRecord], limit: int) -> CallPage:
    kept = calls[:limit]
    return CallPage(kept, Cursor(kept[-1].begun_at, kept[-1].id) if len(calls) > limit else None)


_COLUMNS = """a.id, a.namespace, a.campaign, a.run_id, a.contact_id, a.session_name AS session, a.number AS attempt,
    a.state, c.status, c.disposition, a.begun_at, c.start_time, c.end_time, c.duration AS duration_s, a.currency,
    c.cost, c.turns, c.latency_ms_p50"""

# A call's partition is that of its begin_dial: with the time beside the id, one partition is looked into and not all.
_JOIN = """JOIN calls c ON c.id = a.id
    AND c.created_at BETWEEN a.begun_at - interval '1 minute' AND a.begun_at + interval '1 minute'"""

_PAGE = "AND (a.begun_at, a.id) < (:after_at, :after_id) ORDER BY a.begun_at DESC, a.id DESC LIMIT :limit"

_OF_NAMESPACE = f"""
SELECT {_COLUMNS} FROM dial_attempts a {_JOIN} WHERE a.namespace = :namespace
AND a.begun_at >= :since AND a.begun_at < :until {_PAGE}
"""  # noqa: S608  # constants of this module

_OF_CAMPAIGN = f"""
SELECT {_COLUMNS} FROM dial_attempts a {_JOIN} WHERE a.namespace = :namespace AND a.campaign = :campaign
AND a.begun_at >= :since AND a.begun_at < :until {_PAGE}
"""  # noqa: S608  # constants of this module

_OF_CONTACT = f"""
SELECT {_COLUMNS} FROM dial_attempts a {_JOIN} WHERE a.contact_id = :contact AND a.begun_at IS NOT NULL {_PAGE}
"""  # noqa: S608  # constants of this module

_ONE = f"SELECT {_COLUMNS} FROM dial_attempts a {_JOIN} WHERE a.id = :call"  # noqa: S608  # constants of this module

_LEADS = """
SELECT call_id, contact_id, qualification_score, interest_level, budget_qualified, timeline, decision_maker, created_at,
       fields FROM lead_scores WHERE contact_id = :contact ORDER BY created_at DESC, call_id LIMIT :limit
"""

_SAID = """
SELECT t.seq, t.agent_type, t.message_type, t.timestamp, t.content, k.id, k.namespace, k.key_version, k.wrapped_key
FROM conversations t JOIN dial_attempts a ON a.id = t.call_id JOIN contacts k ON k.id = a.contact_id
WHERE t.call_id = :call ORDER BY t.seq
"""
