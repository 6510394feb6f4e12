"""The call's transcript and outcome on their way to PostgreSQL, without ever making the conversation wait."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from callfleet_core.crypto import DataKey
from callfleet_core.records import CallOutcome, LeadFields, Owner, Turn, Usage
from callfleet_worker.agents.state import CallState, Disposition
from callfleet_worker.ports import Records
from callfleet_worker.voice.transcript import AgentTurn, UserTurn

LATENCY_WAIT_S = 6.0
MAX_WAITING_TURNS = 500
# While the call goes on, turns that could not be written wait for the next one. After it nobody else knows what was
# said and wished: it is tried for almost as long as the operator looks for it (STORED_WITHIN).
TURN_WITHIN_S = 8.0
END_WITHIN_S = 900.0
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 5.0

OPTED_OUT: Disposition = "optedOut"

_log = structlog.get_logger(__name__)
KeepState = Callable[[CallState], Awaitable[None]]


class _NotOurs(Exception):  # noqa: N818  # no error: another worker goes on with the call
    """Somebody else owns the call by now."""


class CallTranscript:
    """Numbers the turns, writes each as it comes, and counts what the outcome needs (see `voice.transcript`)."""

    def __init__(self, records: Records, call_id: UUID, owner: Owner, key: DataKey, keep_state: KeepState) -> None:
        self._records, self._call_id, self._key, self._keep_state = records, call_id, key, keep_state
        self._owner, self._is_ours = owner, True
        self._waiting: asyncio.Queue[tuple[datetime, UserTurn | AgentTurn]] = asyncio.Queue(MAX_WAITING_TURNS)
        self._unwritten: list[Turn] = []
        self._written = 0
        self._latencies: list[int] = []
        self._decided_by: dict[str, int] = {}
        self._turns = 0
        self._writer = asyncio.ensure_future(self._write())
        self._keeping: set[asyncio.Task[None]] = set()
        self._wish: asyncio.Task[None] | None = None

    def add(self, turn: UserTurn | AgentTurn) -> None:
        """Appends a turn; dropped with an error once 500 wait, which no call reaches."""
        try:
            self._waiting.put_nowait((datetime.now(UTC), turn))
        except asyncio.QueueFull:
            _log.error("a turn was lost: PostgreSQL does not keep up", call=str(self._call_id))

    def keep(self, state: CallState) -> None:
        """Remembers the live state. A wish not to be called is stored at once: this worker may not live to the end."""
        if state.disposition == OPTED_OUT and self._wish is None:
            self._wish = asyncio.ensure_future(self._retried(self._opted_out, END_WITHIN_S))
        task = asyncio.ensure_future(self._keep_state(state))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def finish(self, disposition: str, lead: LeadFields | None, usage: list[Usage]) -> CallOutcome:
        """Writes what is left, then outcome, lead and usage."""
        await self._waiting.join()
        self._writer.cancel()
        # A wish that waits for PostgreSQL still is part of the outcome from now on.
        wish = [] if self._wish is None else [self._wish]
        for task in wish:
            task.cancel()
        await asyncio.gather(self._writer, *self._keeping, *wish, return_exceptions=True)
        outcome = CallOutcome(
            disposition=disposition,
            turns=self._turns,
            decided_by=self._decided_by,
            latency_ms_p50=round(statistics.median(self._latencies)) if self._latencies else None,
        )

        async def store() -> None:
            await self._flush()
            self._check_ours(await self._records.finish(self._call_id, outcome, lead, usage, owner=self._owner))

        await self._retried(store, END_WITHIN_S)
        return outcome

    async def _write(self) -> None:
        while True:
            at, turn = await self._waiting.get()
            try:
                self._unwritten.append(await self._row(at, turn))
                await self._retried(self._flush, TURN_WITHIN_S)
            finally:
                self._waiting.task_done()

    async def _row(self, at: datetime, turn: UserTurn | AgentTurn) -> Turn:
        if isinstance(turn, AgentTurn):
            return Turn(
                agent_type=turn.agent, message_type="assistant", content=turn.text, at=at, metadata=turn.metadata
            )
        metadata = dict(turn.metadata)
        if turn.latency_ms is not None:
            metadata["latency_ms"] = await _known(turn.latency_ms)
            if metadata["latency_ms"] is not None:
                self._latencies.append(metadata["latency_ms"])
        if "decided_by" in metadata:
            self._turns += 1
            self._decided_by[metadata["decided_by"]] = self._decided_by.get(metadata["decided_by"], 0) + 1
        return Turn(agent_type=turn.agent, message_type="user", content=turn.text, at=at, metadata=metadata)

    async def _flush(self) -> None:
        if self._unwritten:
            self._check_ours(
                await self._records.add_turns(
                    self._call_id, self._unwritten, first_seq=self._written, key=self._key, owner=self._owner
                )
            )
            self._written += len(self._unwritten)
            self._unwritten = []

    async def _opted_out(self) -> None:
        self._check_ours(await self._records.opted_out(self._call_id, owner=self._owner))

    @staticmethod
    def _check_ours(ours: bool) -> None:
        if not ours:
            raise _NotOurs

    async def _retried(self, write: Callable[[], Awaitable[None]], within_s: float) -> None:
        """Tries until it is written, with growing pauses, for so long; never again once the call is another's."""
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        deadline = loop.time() + within_s
        while self._is_ours:
            try:
                return await write()
            except _NotOurs:
                self._is_ours = False
                _log.error("the call is another worker's: nothing more of it is written", call=str(self._call_id))
                return None
            except (SQLAlchemyError, OSError) as error:
                _log.warning("writing to PostgreSQL failed", call=str(self._call_id), error=type(error).__name__)
            if loop.time() + pause_s > deadline:
                _log.error("a record could not be written", call=str(self._call_id))
                return None
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
        return None


async def _known(latency: asyncio.Future[int | None]) -> int | None:
    try:
        async with asyncio.timeout(LATENCY_WAIT_S):
            return await asyncio.shield(latency)
    except TimeoutError:
        return None
