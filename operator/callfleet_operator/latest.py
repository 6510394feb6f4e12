"""Sessions' newest attempts: what many reconcilers ask at the same moment is one query."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from callfleet_core.ledger import Attempt, Ledger

# Long enough for the queue's workers to come by, short beside the query itself.
GATHER_S = 0.003


@dataclass
class _Batch:
    """Asked for by the same query, which has not begun yet."""

    names: set[str] = field(default_factory=set)
    answer: asyncio.Task[dict[str, Attempt]] | None = None


class LatestAttempts:
    """The newest attempts that were not revoked. An answer is never older than its question."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: dict[str, _Batch] = {}

    async def of(self, namespace: str, session_name: str) -> Attempt | None:
        """A session's, or None."""
        batch = self._open.setdefault(namespace, _Batch())
        batch.names.add(session_name)
        if batch.answer is None:
            batch.answer = asyncio.create_task(self._ask(namespace))
        # Who asks may be cancelled; the others still want to know.
        return (await asyncio.shield(batch.answer)).get(session_name)

    async def _ask(self, namespace: str) -> dict[str, Attempt]:
        await asyncio.sleep(GATHER_S)
        names = self._open.pop(namespace).names
        return await self._ledger.latest_attempts(namespace, sorted(names))
