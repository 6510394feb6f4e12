"""One attempt from its grant to its records: begin_dial, one POST, the media leg, the conversation, the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from fastapi import WebSocket
from redis.exceptions import RedisError

from callfleet_core.crypto import DataKey
from callfleet_core.dialing import DialOrder, PlacedResult
from callfleet_core.records import CallOutcome, Owner, Usage
from callfleet_worker.agents.flow import CallPlan
from callfleet_worker.agents.graph import Team
from callfleet_worker.agents.phrases import Phrasebook
from callfleet_worker.agents.scoring import lead_of
from callfleet_worker.agents.state import CallState
from callfleet_worker.call.carrier import Carrier, NotPlaced, Placed, UnknownPlaced
from callfleet_worker.call.credentials import CredentialsError, login
from callfleet_worker.call.ledger import AttemptLedger
from callfleet_worker.call.leg import LegAddress, LegRegistry
from callfleet_worker.call.media_server import StreamStart, media_server
from callfleet_worker.call.record import CallTranscript
from callfleet_worker.llm.client import LlmClient
from callfleet_worker.ports import Dials, Records
from callfleet_worker.settings import WorkerSettings
from callfleet_worker.speech.clients import Recogniser, Speaker
from callfleet_worker.voice.pipeline import CallPipeline

VIEW_POLL_S = 2.0
MEDIA_GRACE_S = 30.0
END_GRACE_S = 60.0

_log = structlog.get_logger(__name__)
Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class CallEnd:
    """What became of an attempt in this process: `end` says where it stopped."""

    end: str
    reason: str | None = None
    call_sid: str | None = None
    outcome: CallOutcome | None = None


@dataclass(frozen=True)
class Services:
    """What a call leans on."""

    settings: WorkerSettings
    dials: Dials
    records: Records
    legs: LegRegistry
    recogniser: Recogniser
    speaker: Speaker


class CallRunner:
    """Runs one attempt. `report` gets dialing, placed and answered as they happen."""

    def __init__(self, services: Services, attempt_id: UUID, pod_uid: str, report: Report) -> None:
        self._services, self._attempt, self._pod, self._report = services, attempt_id, pod_uid, report
        self._done = asyncio.Event()
        self._media = asyncio.Event()
        self._stop = asyncio.Event()
        self._sid: str | None = None
        self._pipeline: CallPipeline | None = None
        self._ledger = AttemptLedger(services.dials, attempt_id, pod_uid)

    def stop(self) -> None:
        """Ends the call as soon as it can be hung up."""
        self._stop.set()

    async def run(self) -> CallEnd:
        """From grant to records. Raises what PostgreSQL raises while nothing is dialled."""
        if not await self._services.legs.writable(self._attempt, self._stop):
            # Nobody could answer this call: its right to dial expires unused, and the person is not tried in vain.
            return CallEnd("refused", reason="Stopping" if self._stop.is_set() else "RedisAway")
        order = await self._ledger.begin(self._stop)
        if isinstance(order, str):
            return CallEnd("refused", reason=order)
        settings = self._services.settings
        llm = self._model(order)
        beside: list[asyncio.Task[Any]] = []
        try:
            try:
                plan = self._plan(order)
                user = login(settings, order.account_sid)
            except (ValueError, KeyError, OSError, CredentialsError) as error:
                # The right to dial is ours already: it is given back, and nobody is called.
                why = str(error) if isinstance(error, CredentialsError) else type(error).__name__
                _log.error("the call cannot be made", attempt=str(self._attempt), error=why)
                await self._ledger.not_placed("unplannable")
                return CallEnd("notPlaced", reason="unplannable")
            team = Team(plan, llm, self._services.speaker.prepare)
            beside.append(asyncio.create_task(self._services.speaker.prepare_all(plan.book.texts())))
            if llm is not None:
                beside.append(asyncio.create_task(llm.warm_up()))
            async with Carrier(order, user) as carrier:
                return await self._dial(order, carrier, team, llm)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._services.legs.forget(self._attempt)
            if llm is not None:
                await llm.close()

    def _plan(self, order: DialOrder) -> CallPlan:
        today = datetime.now(ZoneInfo(order.time_zone)).date()
        return CallPlan(order.script, Phrasebook(order.script, order.attempt_id, order.contact_name), today)

    def _model(self, order: DialOrder) -> LlmClient | None:
        settings = self._services.settings
        if not settings.ollama_base_url:
            return None
        key = settings.ollama_api_key.get_secret_value() if settings.ollama_api_key else None
        return LlmClient(settings.ollama_base_url, order.script.llm_model, api_key=key)

    async def _dial(self, order: DialOrder, carrier: Carrier, team: Team, llm: LlmClient | None) -> CallEnd:
        owner = Owner(self._pod, order.generation)
        key = order.subject_key
        transcript = CallTranscript(self._services.records, self._attempt, owner, key, partial(self._keep, key))

        async def leg(websocket: WebSocket, start: StreamStart) -> None:
            if self._sid == start.call_sid or await self._took(carrier, start.call_sid):
                self._media.set()
                await self._talk(websocket, start, order, carrier, team, transcript)

        secret = secrets.token_urlsafe(24)
        async with media_server(self._services.settings.pod_ip, self._attempt, secret, leg) as address:
            placed = await self._place(order, carrier, address)
            if isinstance(placed, NotPlaced):
                await self._ledger.not_placed(placed.error_code)
                return CallEnd("notPlaced", reason=placed.error_code)
            if isinstance(placed, Placed) and not await self._took(carrier, placed.call_sid):
                return CallEnd("superseded", call_sid=placed.call_sid)
            if isinstance(placed, UnknownPlaced):
                _log.error("whether the call was placed is unknown", attempt=str(self._attempt), reason=placed.reason)
            if not await self._await_media(order, address, certain=isinstance(placed, Placed)):
                if self._stop.is_set() and self._sid is not None:
                    await carrier.hang_up(self._sid)  # nobody is left to answer its media
                return CallEnd("unanswered", call_sid=self._sid)
            async with asyncio.timeout(order.time_limit_s + END_GRACE_S):
                await self._done.wait()
        return await self._finish(team, transcript, llm)

    async def _place(
        self, order: DialOrder, carrier: Carrier, address: LegAddress
    ) -> Placed | NotPlaced | UnknownPlaced:
        """Registers the leg, then sends the one POST; without a leg nobody would answer the call, so it is not sent."""
        if self._stop.is_set():
            return NotPlaced("stopping")
        try:
            await self._services.legs.register(order, address)
        except (RedisError, OSError) as error:
            _log.error("the media leg could not be registered: check REDIS_URL", error=type(error).__name__)
            return NotPlaced("legUnregistered")
        self._report("dialing", {})
        return await carrier.place()

    async def _took(self, carrier: Carrier, call_sid: str) -> bool:
        """Records the SID; a second one, or one for a closed attempt, is hung up. False when this call is not ours."""
        result = await self._ledger.placed(call_sid)
        if result in (PlacedResult.PLACED, PlacedResult.SAME, None):
            self._sid = call_sid
            self._report("placed", {"call_sid": call_sid})
            return True
        _log.error("the call is not this attempt's and is hung up", attempt=str(self._attempt), result=str(result))
        await carrier.hang_up(call_sid)
        return False

    async def _await_media(self, order: DialOrder, address: LegAddress, *, certain: bool) -> bool:
        """Waits for the person to pick up; false when the carrier says that the call ended, or the time is over.

        Meanwhile the leg is registered again and again: it outlives a Redis that does not.
        """
        limit_s = order.ring_timeout_s + order.max_queue_s + (0 if certain else order.time_limit_s)
        deadline = asyncio.get_running_loop().time() + limit_s + MEDIA_GRACE_S
        while asyncio.get_running_loop().time() < deadline and not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(VIEW_POLL_S):
                    await self._media.wait()
                return True
            if await self._ledger.is_over():
                return self._media.is_set()
            await self._services.legs.register_again(order, address)
        return self._media.is_set()

    async def _talk(
        self,
        websocket: WebSocket,
        start: StreamStart,
        order: DialOrder,
        carrier: Carrier,
        team: Team,
        transcript: CallTranscript,
    ) -> None:
        async def hang_up() -> None:
            await carrier.hang_up(start.call_sid)

        answered = asyncio.create_task(self._answer(start.call_sid))
        stopping: asyncio.Task[None] | None = None
        try:
            self._pipeline = CallPipeline(
                websocket,
                start.stream_sid,
                team=team,
                recogniser=self._services.recogniser,
                speaker=self._services.speaker,
                transcript=transcript,
                hang_up=hang_up,
            )
            stopping = asyncio.create_task(self._stopped(self._pipeline))
            await self._pipeline.run(order.time_limit_s)
        finally:
            if stopping is not None:
                stopping.cancel()
            await asyncio.gather(answered, *([stopping] if stopping else []), return_exceptions=True)
            self._done.set()

    async def _answer(self, call_sid: str) -> None:
        await self._ledger.answered(call_sid)
        self._report("answered", {"call_sid": call_sid})

    async def _stopped(self, pipeline: CallPipeline) -> None:
        await self._stop.wait()
        pipeline.end()

    def _keep(self, key: DataKey, state: CallState) -> Coroutine[Any, Any, None]:
        return self._services.legs.keep_conversation(self._attempt, state.model_dump_json(), key)

    async def _finish(self, team: Team, transcript: CallTranscript, llm: LlmClient | None) -> CallEnd:
        if self._pipeline is None:
            raise RuntimeError("a call cannot finish before it began")
        state = self._pipeline.conversation.state
        lead = lead_of(team.plan.script, state, team.plan.today) if state.answers else None
        disposition = state.disposition or "incomplete"
        outcome = await transcript.finish(disposition, lead, self._usage(self._pipeline, llm))
        return CallEnd("completed", call_sid=self._sid, outcome=outcome)

    def _usage(self, pipeline: CallPipeline, llm: LlmClient | None) -> list[Usage]:
        heard_s = Decimal(str(round(self._services.recogniser.decoded_s, 3)))
        used = [
            Usage(meter="stt_seconds", quantity=heard_s, provider="whisper-local"),
            Usage(meter="tts_characters", quantity=Decimal(pipeline.speaking.characters), provider="piper"),
        ]
        if llm is not None:
            used.append(Usage(meter="llm_tokens_in", quantity=Decimal(llm.usage.tokens_in), provider="ollama"))
            used.append(Usage(meter="llm_tokens_out", quantity=Decimal(llm.usage.tokens_out), provider="ollama"))
        return used
