"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from callfleet_gateway.context import Gateway, gateway_of

log = structlog.get_logger(__name__)

CHECK_TIMEOUT_S = 2.0

router = APIRouter()
Parts = Annotated[Gateway, Depends(gateway_of)]


@router.get("/health")
async def health() -> dict[str, str]:
    """The process lives; says nothing of what it depends on."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(gateway: Parts) -> JSONResponse:
    """200 once PostgreSQL and Redis have answered, and from then on until the gateway drains; which of them do now.

    A part that goes away later takes nobody out of service: all gateways share it, and each can still take callbacks,
    or end a call politely, which nobody could whom the carrier does not reach (docs/outages.md).
    """
    database, redis = await _look(gateway)
    gateway.begun = gateway.begun or (database and redis)
    parts = {"postgresql": database, "redis": redis, "accepting": not gateway.draining}
    ready = gateway.begun and not gateway.draining
    return JSONResponse(parts, status_code=200 if ready else 503)


async def _answers(name: str, check: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check
    except (OSError, TimeoutError, RedisError, SQLAlchemyError) as error:
        log.warning("not ready", part=name, error=type(error).__name__)
        return False
    return True


async def _look(gateway: Gateway) -> tuple[bool, bool]:
    """Whether PostgreSQL and Redis answer now."""
    database, redis = await asyncio.gather(
        _answers("postgresql", gateway.check_database()), _answers("redis", gateway.redis.ping())
    )
    gateway.metrics.parts.labels("postgresql").set(database)
    gateway.metrics.parts.labels("redis").set(redis)
    return database, redis


@router.get("/metrics")
async def metrics(gateway: Parts) -> Response:
    """Prometheus text."""
    await _look(gateway)
    return Response(gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)
