"""The call's media leg: where the gateway finds it (Redis), and the live conversation's state beside it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from callfleet_core.crypto import DataKey
from callfleet_core.dialing import DialOrder

LEG_GRACE_S = 120
# A grant lives for 120 s: waiting longer for Redis is in vain.
REDIS_WAIT_S = 100.0
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 2.0
PROBE_TTL_S = 5
CONVERSATION_TTL_S = 3_600  # I2 of docs/requirements.md
# What a state is encrypted as, see callfleet_core.crypto.
STATE = "conversation.state"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LegAddress:
    """Where this process listens, and the word that opens it."""

    host: str
    port: int
    secret: str


class LegRegistry:
    """Writes `leg:{attempt}` and `conversation:{call}`, both with a time to live."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def writable(self, attempt_id: UUID, stop: asyncio.Event) -> bool:
        """Whether a leg could be registered now; waited for while the grant can live, unless it is to `stop`."""
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        deadline = loop.time() + REDIS_WAIT_S
        while not stop.is_set():
            try:
                await self._redis.set(f"probe:{attempt_id}", "", ex=PROBE_TTL_S)
                return True
            except (RedisError, OSError) as error:
                _log.warning("Redis takes no leg: check REDIS_URL", error=type(error).__name__)
            if loop.time() + pause_s > deadline:
                return False
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, pause_s * 2)
        return False

    async def register(self, order: DialOrder, address: LegAddress) -> None:
        """Must be done before the call is placed. Raises RedisError."""
        key = f"leg:{order.attempt_id}"
        fields: dict[Any, Any] = {
            "host": address.host,
            "port": address.port,
            "generation": order.generation,
            "secret": address.secret,
        }
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping=fields)
            pipe.expire(key, order.time_limit_s + order.ring_timeout_s + order.max_queue_s + LEG_GRACE_S)
            await pipe.execute()

    async def register_again(self, order: DialOrder, address: LegAddress) -> None:
        """A Redis that started again has forgotten the leg of a call that still rings; failing is noted."""
        try:
            await self.register(order, address)
        except (RedisError, OSError) as error:
            _log.warning("the leg was not registered again", error=type(error).__name__)

    async def forget(self, attempt_id: UUID) -> None:
        """The call is over; a failure is left to the time to live."""
        try:
            await self._redis.delete(f"leg:{attempt_id}")
        except RedisError as error:
            _log.warning("the leg stays until it expires", error=type(error).__name__)

    async def keep_conversation(self, call_id: UUID, state: str, key: DataKey) -> None:
        """Keeps the live state (JSON) for an hour, under the person's key, since it quotes what they said.

        Losing Redis costs only resumption, so a failure is noted.
        """
        try:
            await self._redis.set(f"conversation:{call_id}", key.encrypt(STATE, state), ex=CONVERSATION_TTL_S)
        except RedisError as error:
            _log.warning("the live conversation is not in Redis", error=type(error).__name__)
