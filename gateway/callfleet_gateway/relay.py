"""Moves a call's media messages between the carrier and the call process, unchanged, as they come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callfleet_gateway.metrics import Metrics

OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
PING_INTERVAL_S = 5.0
PING_TIMEOUT_S = 5.0
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_QUEUED_MESSAGES = 16  # a third of a second of audio: more than that is better felt as backpressure

NORMAL, GOING_AWAY, UNSUPPORTED, INTERNAL_ERROR = 1000, 1001, 1003, 1011


@dataclass(frozen=True)
class End:
    """Which side ended the leg, and with which close code (1006: without one)."""

    by: Literal["carrier", "call"]
    code: int


async def open_leg(url: str) -> ClientConnection:
    """Connects to the call process. Raises OSError, TimeoutError or websockets' InvalidHandshake."""
    return await connect(
        url,
        compression=None,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=PING_INTERVAL_S,
        ping_timeout=PING_TIMEOUT_S,
        max_size=MAX_MESSAGE_BYTES,
        max_queue=MAX_QUEUED_MESSAGES,
        proxy=None,
    )


async def relay(carrier: WebSocket, call: ClientConnection, metrics: Metrics) -> End:
    """Relays until one side ends, then closes the other: a lost call process frees the carrier's TwiML.

    Each direction waits for its receiver (backpressure); messages keep their order.
    """
    directions = [
        asyncio.create_task(_to_call(carrier, call, metrics)),
        asyncio.create_task(_to_carrier(carrier, call, metrics)),
    ]
    try:
        done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        end = next(task for task in directions if task in done).result()
    finally:
        for task in directions:
            task.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
    if end.by == "carrier":
        await call.close(_sendable(end.code))
    elif end.code not in {NORMAL, GOING_AWAY}:
        await _close_carrier(carrier, INTERNAL_ERROR)
    else:
        await _close_carrier(carrier, end.code)
    return end


async def _to_call(carrier: WebSocket, call: ClientConnection, metrics: Metrics) -> End:
    count = metrics.media_bytes.labels("inbound")
    while True:
        message = await carrier.receive()
        if message["type"] == "websocket.disconnect":
            return End("carrier", int(message.get("code") or GOING_AWAY))
        text = message.get("text")
        if text is None:
            await _close_carrier(carrier, UNSUPPORTED)
            return End("carrier", UNSUPPORTED)
        try:
            await call.send(text)
        except ConnectionClosed:
            return End("call", _code(call))
        count.inc(len(text))


async def _to_carrier(carrier: WebSocket, call: ClientConnection, metrics: Metrics) -> End:
    count = metrics.media_bytes.labels("outbound")
    try:
        async for message in call:
            text = message if isinstance(message, str) else message.decode()
            await carrier.send_text(text)
            count.inc(len(text))
    except ConnectionClosed:
        pass  # closed without a handshake: the code says so
    except UnicodeDecodeError:
        await call.close(UNSUPPORTED)
    except WebSocketDisconnect as error:
        return End("carrier", error.code)
    return End("call", _code(call))


def _code(call: ClientConnection) -> int:
    return 1006 if call.close_code is None else call.close_code


async def _close_carrier(carrier: WebSocket, code: int) -> None:
    try:
        await carrier.close(code)
    except (RuntimeError, WebSocketDisconnect):
        return  # it was closed already, which is all that was wanted


def _sendable(code: int) -> int:
    """Codes that mean "no code was received" may not be sent."""
    return GOING_AWAY if code in {1005, 1006, 1012, 1015} or code < NORMAL else code
