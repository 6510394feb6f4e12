"""The gateway as an ASGI app over given parts; nothing here opens a connection by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from redis.asyncio import Redis
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from callfleet_gateway import health, media, webhooks
from callfleet_gateway.carriers import ReadAccounts, no_accounts
from callfleet_gateway.context import Attempts, Check, Gateway
from callfleet_gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)


def create_app(
    settings: GatewaySettings,
    store: Attempts,
    redis: Redis,
    check_database: Check,
    read_accounts: ReadAccounts = no_accounts,
) -> FastAPI:
    """The app. `redis` decodes responses; `check_database` raises when PostgreSQL cannot be used; `read_accounts`
    gives the carrier accounts that campaigns bring."""
    app = FastAPI(title="CallFleet gateway", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.gateway = Gateway(settings, store, redis, check_database, read_accounts)
    for room in (webhooks, media, health):
        app.include_router(room.router)
    app.add_exception_handler(IntegrityError, _contradicted)
    app.add_exception_handler(SQLAlchemyError, _database_gone)
    app.middleware("http")(_count)
    return app


async def _contradicted(_request: Request, error: Exception) -> JSONResponse:
    """409: the books already hold the contrary, e.g. this call's SID on another attempt."""
    log.error("evidence contradicts the books", error=type(error).__name__)
    return JSONResponse({"detail": "this call belongs to another attempt"}, status_code=409)


async def _database_gone(_request: Request, error: Exception) -> JSONResponse:
    """503, so that the carrier tries again; the operator asks the carrier for what stays missing."""
    log.error("database not usable", error=type(error).__name__)
    return JSONResponse({"detail": "the database does not answer; try again"}, status_code=503)


async def _count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    route = request.scope.get("route")
    name = getattr(route, "path", "unknown")  # never the path itself: it holds ids and tokens
    gateway: Gateway = request.app.state.gateway
    gateway.metrics.requests.labels(name, str(response.status_code)).inc()
    return response
