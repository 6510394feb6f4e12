"""Call processes: spawned ahead of time, handed one attempt each, watched until they end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import structlog

from callfleet_worker.supervisor.services import end, piper_socket, whisper_socket

READY_TIMEOUT_S = 120.0
MAX_LINE_BYTES = 64 * 1024

_log = structlog.get_logger(__name__)


class CallProcessError(Exception):
    """A call process could not be started or spoke out of turn; its log on stderr says why."""


class CallProcess:
    """One child; see `callfleet_worker.call.process` for what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def spawn(cls, run_dir: Path) -> Self:
        """Starts a child and waits until its libraries are loaded. Raises CallProcessError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "callfleet_worker.call.process",
            "--whisper", str(whisper_socket(run_dir)), "--piper", str(piper_socket(run_dir)),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            start_new_session=True, limit=MAX_LINE_BYTES,
            env={**os.environ, "LOGURU_LEVEL": "ERROR"},
        )  # fmt: skip
        child = cls(process)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                first = await child._next()
        except TimeoutError:
            first = None
        except asyncio.CancelledError:
            await end(process)
            raise
        if first is None or first["event"] != "ready":
            await end(process)
            raise CallProcessError("a call process did not become ready")
        return child

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.returncode is None

    async def assign(self, attempt_id: UUID, pod_uid: str) -> None:
        """Hands it its one attempt. Raises CallProcessError when it is gone."""
        stdin = self._process.stdin
        if stdin is None or not self.alive:
            raise CallProcessError("the call process is gone")
        stdin.write((json.dumps({"attempt": str(attempt_id), "pod_uid": pod_uid}) + "\n").encode())
        try:
            await stdin.drain()
        except ConnectionError as error:
            raise CallProcessError("the call process is gone") from error

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What it reports, the last of which is `ended`; one is made up when it dies without a word."""
        ended = False
        while (event := await self._next()) is not None:
            ended = event["event"] == "ended"
            yield event
            if ended:
                break
        await self._process.wait()
        if not ended:
            _log.error("a call process died during a call", code=self._process.returncode)
            yield {"event": "ended", "end": "died"}

    async def stop(self) -> None:
        """Ends it; a live call is hung up first."""
        await end(self._process)

    async def _next(self) -> dict[str, Any] | None:
        stdout = self._process.stdout
        if stdout is None:
            return None
        while line := await stdout.readline():
            try:
                event = json.loads(line)
            except ValueError:
                _log.warning("a call process printed something that is no event")
                continue
            if isinstance(event, dict) and "event" in event:
                return event
        return None
