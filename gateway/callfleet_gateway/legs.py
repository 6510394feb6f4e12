"""Where a call process listens for its call: `leg:{attempt}` in Redis."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

WAIT_S = 5.0
POLL_S = 0.1

_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{16,200}")


class LegError(Exception):
    """The registered leg cannot be used; the call process must register host, port, generation and secret."""


@dataclass(frozen=True)
class Leg:
    """A registered leg. The secret opens the call process's socket: never log it."""

    host: str
    port: int
    generation: int
    secret: str

    def url(self, attempt_id: UUID) -> str:
        """The call process's media socket."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}/media/{attempt_id}/{self.secret}"


def parse_leg(fields: dict[str, str]) -> Leg:
    """Checks what Redis holds. Raises LegError naming the field, not its value."""
    for name, pattern in (("host", _HOST), ("secret", _SECRET)):
        if pattern.fullmatch(fields.get(name, "")) is None:
            raise LegError(f"the leg's {name} is missing or malformed")
    for name in ("port", "generation"):
        if not fields.get(name, "").isdigit() or not 0 < int(fields[name]) < 65_536:
            raise LegError(f"the leg's {name} is missing or malformed")
    return Leg(fields["host"], int(fields["port"]), int(fields["generation"]), fields["secret"])


async def find_leg(redis: Redis, attempt_id: UUID, wait_s: float = WAIT_S) -> Leg | None:
    """The attempt's leg, waited for at most `wait_s`; None when nobody registered one.

    Raises LegError; RedisError when Redis does not answer for so long.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while True:
        try:
            # The client's types do not know that this one is asynchronous.
            fields = await cast("Awaitable[dict[str, str]]", redis.hgetall(f"leg:{attempt_id}"))
        except RedisError:
            if loop.time() >= deadline:
                raise
        else:
            if fields:
                return parse_leg(fields)
            if loop.time() >= deadline:
                return None
        await asyncio.sleep(POLL_S)
