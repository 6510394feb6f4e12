"""The carrier's media WebSocket: checked, then joined with the process that talks."""

from __future__ import annotations

from uuid import UUID

import structlog
from fastapi import APIRouter, WebSocket
from redis.exceptions import RedisError
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidHandshake

from callfleet_gateway.context import Gateway, gateway_of
from callfleet_gateway.legs import WAIT_S, LegError, find_leg
from callfleet_gateway.patience import PartAwayError, patiently
from callfleet_gateway.relay import open_leg, relay

log = structlog.get_logger(__name__)

ROUTE = "/twilio/media/{attempt_id}/{token}"

router = APIRouter()


@router.websocket(ROUTE)
async def media(socket: WebSocket, attempt_id: UUID, token: str) -> None:
    """Relays one leg until either side ends it."""
    gateway = gateway_of(socket)
    try:
        signed = await patiently(lambda: _is_signed(gateway, socket, attempt_id, token), WAIT_S)
    except PartAwayError as error:
        gateway.metrics.legs_refused.labels(error.part).inc()
        return await _refuse(socket, 503, str(error))
    if not signed:
        gateway.metrics.signature_failures.labels(ROUTE).inc()
        return await _refuse(socket, 403, "signature or token do not fit")
    if gateway.draining or gateway.legs >= gateway.settings.callfleet_gateway_max_legs:
        gateway.metrics.legs_refused.labels("draining" if gateway.draining else "full").inc()
        return await _refuse(socket, 503, "no room for another media leg")
    gateway.legs += 1
    gateway.metrics.legs.set(gateway.legs)
    try:
        await _join(gateway, socket, attempt_id)
    finally:
        gateway.legs -= 1
        gateway.metrics.legs.set(gateway.legs)
    return None


async def _is_signed(gateway: Gateway, socket: WebSocket, attempt_id: UUID, token: str) -> bool:
    """True when the account of the attempt signed the handshake and made its token."""
    signature = socket.headers.get("x-twilio-signature")
    view = await gateway.store.attempt_view(attempt_id) if signature else None
    check = await gateway.carriers.of(view.account_sid) if view else None
    return check is not None and check.media_token_is(attempt_id, token) and check.stream(socket.url.path, signature)


async def _join(gateway: Gateway, socket: WebSocket, attempt_id: UUID) -> None:
    call = await _open(gateway, attempt_id)
    if call is None:
        return await _refuse(socket, 502, "the call's process is not there")
    try:
        await socket.accept()
        end = await relay(socket, call, gateway.metrics)
        log.info("media leg ended", attempt=str(attempt_id), by=end.by, code=end.code)
    finally:
        await call.close()
    return None


async def _open(gateway: Gateway, attempt_id: UUID) -> ClientConnection | None:
    """The call process's socket, or None with the reason counted and logged."""
    try:
        leg = await find_leg(gateway.redis, attempt_id)
        if leg is not None:
            return await open_leg(leg.url(attempt_id))
        reason = "unregistered"
    except LegError as error:
        reason = "malformed"
        log.error("unusable leg", attempt=str(attempt_id), error=str(error))
    except RedisError as error:
        reason = "redis"
        log.error("leg not looked up", attempt=str(attempt_id), error=type(error).__name__)
    except (OSError, TimeoutError, InvalidHandshake) as error:
        reason = "unreachable"
        log.error("call process not reached", attempt=str(attempt_id), error=type(error).__name__)
    gateway.metrics.legs_refused.labels(reason).inc()
    log.warning("media leg refused", attempt=str(attempt_id), reason=reason)
    return None


async def _refuse(socket: WebSocket, status: int, reason: str) -> None:
    await socket.send_denial_response(PlainTextResponse(reason, status_code=status))
