"""/health, /readyz and /metrics, on aiohttp, which the Kubernetes client brings along."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


@asynccontextmanager
async def health_server(
    host: str, port: int, *, alive: Callable[[], bool], ready: Callable[[], str | None], registry: CollectorRegistry
) -> AsyncIterator[int]:
    """Serves until the block ends; yields the port. `ready` answers what is missing, or nothing."""

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if alive() else web.Response(status=503, text="stuck\n")

    async def readyz(_request: web.Request) -> web.Response:
        missing = ready()
        return web.Response(text="ready\n") if missing is None else web.Response(status=503, text=f"{missing}\n")

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/health", health), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
