"""Who waits for PostgreSQL and Redis, and for how long."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import IntegrityError, OperationalError

from callfleet_gateway.patience import PartAwayError, patiently


class Part:
    """Fails so often, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)

    async def ask(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


GONE = OperationalError("SELECT 1", {}, ConnectionError("gone"))


async def test_a_part_that_comes_back_is_waited_for() -> None:
    assert await patiently(Part(GONE, RedisConnectionError("gone")).ask) == "answer"


@pytest.mark.parametrize(("failure", "part"), [(GONE, "postgresql"), (RedisConnectionError("gone"), "redis")])
async def test_one_that_stays_away_is_named(failure: Exception, part: str) -> None:
    with pytest.raises(PartAwayError) as caught:
        await patiently(Part(*[failure] * 100).ask, 0.6)
    assert caught.value.part == part


async def test_one_that_hangs_is_not_waited_for_longer() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(PartAwayError):
            await patiently(asyncio.Event().wait, 0.1)


async def test_a_contradiction_is_an_answer() -> None:
    with pytest.raises(IntegrityError):
        await patiently(Part(IntegrityError("INSERT", {}, ValueError("twice"))).ask)
