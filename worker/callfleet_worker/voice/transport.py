"""pipecat's socket transport with a small cushion: a busy processor must not make the voice stutter."""

from __future__ import annotations

import asyncio
import time

from fastapi import WebSocket
from pipecat.transports.websocket.fastapi import (
    FastAPIWebsocketOutputTransport,
    FastAPIWebsocketParams,
    FastAPIWebsocketTransport,
)

from callfleet_worker.voice.progress import STANDING_MS

LEAD_S = STANDING_MS / 1000
"""How far ahead of real time audio is written; what stands in the carrier's buffer must be cleared to interrupt."""


class CushionedOutput(FastAPIWebsocketOutputTransport):
    """Writes up to 100 ms ahead of playback instead of one chunk."""

    _played_until = 0.0

    async def _write_audio_sleep(self) -> None:
        now = time.monotonic()
        self._played_until = max(self._played_until, now) + self._send_interval
        await asyncio.sleep(max(0.0, self._played_until - now - LEAD_S))


class CallTransport(FastAPIWebsocketTransport):
    """The transport of one call's socket."""

    def __init__(self, websocket: WebSocket, params: FastAPIWebsocketParams) -> None:
        super().__init__(websocket, params)
        self._output = CushionedOutput(self, self._client, self._params, name=self._output_name)
