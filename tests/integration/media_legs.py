"""Call processes for the gateway's tests: listening, and registered in Redis."""

from __future__ import annotations

import socket as socket_module
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import UUID

from redis.asyncio import Redis
from websockets.asyncio.server import Server, ServerConnection, serve

from callfleet_simulator.server import listener

SECRET = "s" * 32


class HasRedis(Protocol):
    """A gateway, in this process or another."""

    @property
    def redis(self) -> Redis:
        """The Redis that it asks."""


@asynccontextmanager
async def call_process(
    gateway: HasRedis,
    attempt: UUID,
    handler: Callable[[ServerConnection], Awaitable[None]],
    receive_buffer: int | None = None,
) -> AsyncIterator[Server]:
    """A process that listens for its call and has registered its leg."""

    async def checked(socket: ServerConnection) -> None:
        assert socket.request is not None
        assert socket.request.path == f"/media/{attempt}/{SECRET}"
        await handler(socket)

    bound = listener("127.0.0.1", 0)
    if receive_buffer is not None:
        bound.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, receive_buffer)
    async with serve(checked, sock=bound, compression=None, max_queue=1) as server:
        await register(gateway, attempt, bound.getsockname()[1])
        yield server


async def register(gateway: HasRedis, attempt: UUID, port: int) -> None:
    leg: dict[Any, Any] = {"host": "127.0.0.1", "port": str(port), "generation": "1", "secret": SECRET}
    result: Any = gateway.redis.hset(f"leg:{attempt}", mapping=leg)
    await result
    await gateway.redis.expire(f"leg:{attempt}", 60)
