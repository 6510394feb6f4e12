"""`python -m callfleet_gateway`: the gateway as a process."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import ValidationError
from redis.asyncio import Redis
from sqlalchemy import text

from callfleet_core import logs
from callfleet_core.db.engine import create_engine
from callfleet_core.dialing import DialStore
from callfleet_gateway.app import create_app
from callfleet_gateway.carriers import no_accounts
from callfleet_gateway.context import Gateway
from callfleet_gateway.kube import CarriersSecret
from callfleet_gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

REDIS_TIMEOUT_S = 3.0
KEEP_ALIVE_S = 15
MAX_CONNECTIONS = 2_000
STOP_TIMEOUT_S = 5
DRAIN_POLL_S = 0.2


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to `serve`, which lets live legs end first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def uvicorn_config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """How the app is served: no access log (paths hold tokens), no compression of audio."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="off",
        ws_per_message_deflate=False,
        ws_max_size=1024 * 1024,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )


async def _stopped(server: uvicorn.Server, gateway: Gateway) -> None:
    """Waits for SIGTERM or SIGINT, then for the live legs, at most the drain time; then stops the server."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    gateway.draining = True
    log.info("draining", legs=gateway.legs, at_most_s=gateway.settings.callfleet_gateway_drain_s)
    for _ in range(int(gateway.settings.callfleet_gateway_drain_s / DRAIN_POLL_S)):
        if gateway.legs == 0:
            break
        await asyncio.sleep(DRAIN_POLL_S)
    server.should_exit = True


async def serve(settings: GatewaySettings) -> None:
    """Serves until told to stop."""
    engine = create_engine(settings.database_url.get_secret_value(), application="callfleet-gateway")
    redis = Redis.from_url(
        settings.redis_url.get_secret_value(),
        decode_responses=True,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )

    async def check_database() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    accounts = _carriers_secret(settings)
    read = accounts.read if accounts else no_accounts
    app = create_app(settings, DialStore(engine), redis, check_database, read)
    server = _Server(uvicorn_config(app, *settings.listen_address))
    stopping = asyncio.create_task(_stopped(server, app.state.gateway))
    try:
        log.info("gateway starts", listen=settings.callfleet_gateway_listen)
        await server.serve()
    finally:
        stopping.cancel()
        if accounts:
            await accounts.close()
        await redis.aclose()
        await engine.dispose()


def _carriers_secret(settings: GatewaySettings) -> CarriersSecret | None:
    if not settings.callfleet_carriers_secret:
        return None
    return CarriersSecret(settings.callfleet_namespace, settings.callfleet_carriers_secret)


def main() -> int:
    """Runs the gateway; 2 when its settings are wrong."""
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        problems = "; ".join(f"{str(p['loc'][0]).upper()}: {p['msg']}" for p in error.errors(include_input=False))
        print(f"callfleet_gateway: set the environment right: {problems}", file=sys.stderr)  # noqa: T201
        return 2
    logs.configure("gateway", settings.log_level)
    for name in ("httpx", "websockets.client", "websockets.server", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)  # their lines hold paths with tokens
    uvloop.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
