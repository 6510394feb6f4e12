"""How a REST request is answered when a fault strikes it: refused, failed, late, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from callfleet_simulator.carrier import Carrier
from callfleet_simulator.errors import ApiError, LostReplyError, server_error, too_many_requests
from callfleet_simulator.faults import Kind, Operation

T = TypeVar("T")
Cut = Callable[[Request], None]


async def answered(carrier: Carrier, operation: Operation, to: str | None, act: Callable[[], T | Awaitable[T]]) -> T:
    """What `act` answers, unless a fault says otherwise. Raises ApiError and LostReplyError."""
    faults = carrier.faults
    if faults.strike(Kind.TOO_MANY_REQUESTS, to, request=operation):
        raise too_many_requests("a fault that was asked for")
    failure = faults.strike(Kind.SERVER_ERROR, to, request=operation)
    if failure and not failure.fault.placed:
        raise server_error(failure.fault.status)
    result = act()
    if isinstance(result, Awaitable):
        result = await result
    if failure:
        raise server_error(failure.fault.status)
    if late := faults.strike(Kind.SLOW_REPLY, to, request=operation):
        await asyncio.sleep(late.after_s)
    if faults.strike(Kind.LOST_REPLY, to, request=operation):
        raise LostReplyError
    return result


async def refused(_request: Request, error: Exception) -> Response:
    """An ApiError as Twilio answers it: JSON; what fails in front of the API (502, 504, ...) is a page."""
    if not isinstance(error, ApiError):
        raise error
    if error.status > 500 and error.status != 503:
        return HTMLResponse(f"<html><body><h1>{error.status}</h1></body></html>", error.status)
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if error.status == 401 else None
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


async def no_such_request(request: Request, error: Exception) -> Response:
    """A path or method that the API does not have."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 405:
        return await refused(request, ApiError(405, 20004, "Method not allowed"))
    return await refused(request, ApiError(404, 20404, f"The requested resource {request.url.path} was not found"))


async def lost(request: Request, _error: Exception) -> Response:
    """Closes the connection without an answer."""
    cut: Cut | None = getattr(request.app.state, "cut", None)
    if cut is None:
        raise RuntimeError("lostReply needs the simulator's own server (callfleet_simulator.server)")
    cut(request)
    return Response(status_code=500)  # goes nowhere: the connection is closed
