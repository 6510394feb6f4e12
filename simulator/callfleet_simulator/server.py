"""Runs a carrier behind uvicorn; also as a fixture on a free loopback port."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import uvicorn
from fastapi import FastAPI, Request

from callfleet_simulator.app import create_app
from callfleet_simulator.carrier import Carrier

BACKLOG = 128
START_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Running:
    """A listening simulator. `url` is what `client.api.base_url` is set to."""

    url: str
    carrier: Carrier


def listener(host: str, port: int) -> socket.socket:
    """A bound socket, so that port 0 is known before the server starts. Raises OSError when taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound


class _Server(uvicorn.Server):
    """uvicorn that leaves the process's signals alone: it would raise them again before calls have ended."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: FastAPI) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            lifespan="off",
            backlog=BACKLOG,
            server_header=False,
            proxy_headers=False,
        )
    )


def _cut(server: uvicorn.Server, request: Request) -> None:
    """Closes the connection on which this request came, with nothing more said on it."""
    peer = None if request.client is None else (request.client.host, request.client.port)
    for connection in list(server.server_state.connections):
        transport = getattr(connection, "transport", None)
        if transport is not None and transport.get_extra_info("peername")[:2] == peer:
            transport.abort()


async def serve(carriers: Sequence[Carrier], host: str, port: int) -> None:
    """Serves an account or several until SIGINT or SIGTERM, then ends the calls and delivers what is owed."""
    bound = listener(host, port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    # The carriers are left first, so that the API still answers while calls end and callbacks go out.
    async with serving(create_app(carriers[0], carriers[1:]), bound), AsyncExitStack() as stack:
        for carrier in carriers:
            await stack.enter_async_context(carrier)
        await stop.wait()


@asynccontextmanager
async def running(carrier: Carrier, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Running]:
    """The simulator as a library: `async with running(Carrier(...)) as simulator`."""
    bound = listener(host, port)
    async with serving(create_app(carrier), bound), carrier:
        yield Running(f"http://{host}:{bound.getsockname()[1]}", carrier)


@asynccontextmanager
async def serving(app: FastAPI, bound: socket.socket) -> AsyncIterator[None]:
    """Any app on a bound socket, for as long as the block lasts; installs no signal handlers."""
    server = _server(app)
    app.state.cut = partial(_cut, server)
    task = asyncio.create_task(server.serve([bound]))
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not server.started:
                if task.done():
                    await task
                await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
