"""The call process's own port: the gateway connects to it with this call's secret, once."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
import uvicorn
from fastapi import FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from callfleet_worker.call.leg import LegAddress

START_MESSAGE_TIMEOUT_S = 10.0
MAX_FIRST_MESSAGES = 5
MAX_MESSAGE_BYTES = 1024 * 1024
_POLICY_VIOLATION = 1008

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StreamStart:
    """The carrier's start message, as far as it concerns us."""

    stream_sid: str
    call_sid: str


Leg = Callable[[WebSocket, StreamStart], Awaitable[None]]


class _Server(uvicorn.Server):
    """uvicorn that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def media_server(host: str, attempt_id: UUID, secret: str, leg: Leg) -> AsyncIterator[LegAddress]:
    """Listens on a free port of `host`; `leg` gets the first connection that knows the secret and has started."""
    listening = socket.create_server((host, 0), backlog=8)
    config = uvicorn.Config(
        media_app(attempt_id, secret, leg),
        access_log=False,
        log_config=None,
        lifespan="off",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        server_header=False,
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        yield LegAddress(host, listening.getsockname()[1], secret)
    finally:
        server.should_exit = True
        await serving


def media_app(attempt_id: UUID, secret: str, leg: Leg) -> FastAPI:
    """One route, one call, one connection."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    taken = asyncio.Lock()

    @app.websocket("/media/{attempt}/{word}")
    async def media(websocket: WebSocket, attempt: UUID, word: str) -> None:
        known = attempt == attempt_id and hmac.compare_digest(word.encode(), secret.encode())
        if not known or taken.locked():
            await websocket.close(_POLICY_VIOLATION)
            return
        async with taken:
            await websocket.accept()
            start = await _start_of(websocket)
            if start is None:
                await websocket.close(_POLICY_VIOLATION)
                return
            await leg(websocket, start)

    return app


async def _start_of(websocket: WebSocket) -> StreamStart | None:
    """The start message, which follows `connected`; nothing when it does not come."""
    try:
        async with asyncio.timeout(START_MESSAGE_TIMEOUT_S):
            for _ in range(MAX_FIRST_MESSAGES):
                message = json.loads(await websocket.receive_text())
                if message.get("event") == "start":
                    return StreamStart(str(message["start"]["streamSid"]), str(message["start"]["callSid"]))
    except (TimeoutError, WebSocketDisconnect, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("the media stream did not start", error=type(error).__name__)
    return None
