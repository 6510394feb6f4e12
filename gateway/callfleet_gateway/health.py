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
    """200 when PostgreSQL and Redis answer within 2 s and the gateway is not draining; else 503 and which one."""
    database, redis = await asyncio.gather(
        _answers("postgresql", gateway.check_database()), _answers("redis", gateway.redis.ping())
    )
    parts = {"postgresql": database, "redis": redis, "accepting": not gateway.draining}
    return JSONResponse(parts, status_code=200 if all(parts.values()) else 503)


async def _answers(name: str, check: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check
    except (OSError, TimeoutError, RedisError, SQLAlchemyError) as error:
        log.warning("not ready", part=name, error=type(error).__name__)
        return False
    return True


@router.get("/metrics")
async def metrics(gateway: Parts) -> Response:
    """Prometheus text."""
    return Response(gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)
