"""The keyed queue: one worker a key, nothing lost, failures come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from callfleet_operator.queue import KeyedQueue


@asynccontextmanager
async def running(
    work: Callable[[str], Awaitable[None]], workers: int = 4, expected: tuple[type[Exception], ...] = ()
) -> AsyncIterator[KeyedQueue[str]]:
    queue = KeyedQueue(work, workers, lambda key: key.startswith("one-of-many"), expected)
    task = asyncio.create_task(queue.run())
    yield queue
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is waited for is the world's state, not an event of ours
            await asyncio.sleep(0.005)


async def test_a_key_added_many_times_before_it_is_worked_on_is_worked_on_once() -> None:
    seen: Counter[str] = Counter()

    async def work(key: str) -> None:
        seen[key] += 1

    async with running(work) as queue:
        for _ in range(100):
            queue.add("a")
        await until(lambda: seen["a"] == 1)
        await asyncio.sleep(0.05)
    assert seen["a"] == 1


async def test_a_key_is_never_worked_on_twice_at_once_and_never_lost() -> None:
    active: set[str] = set()
    seen: Counter[str] = Counter()
    clashes = 0

    async def work(key: str) -> None:
        nonlocal clashes
        clashes += key in active
        active.add(key)
        await asyncio.sleep(0.01)
        active.discard(key)
        seen[key] += 1

    async with running(work) as queue:
        queue.add("a")
        await until(lambda: "a" in active)
        queue.add("a")  # while it is being worked on: once more afterwards
        await until(lambda: seen["a"] == 2)
    assert clashes == 0


async def test_a_failure_comes_back() -> None:
    calls = 0

    async def work(_key: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("once")

    async with running(work) as queue:
        queue.add("a")
        await until(lambda: calls >= 2)
        await asyncio.sleep(0.05)
    assert calls == 2


class AnotherWasFirstError(Exception):
    """Is expected."""


async def test_what_is_expected_comes_back_sooner_and_ever_later_until_it_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("callfleet_operator.queue.FIRST_EXPECTED_RETRY_S", 0.01)
    times: list[float] = []

    async def work(_key: str) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) != 8:
            raise AnotherWasFirstError

    async with running(work, expected=(AnotherWasFirstError,)) as queue:
        with capture_logs() as logs:
            queue.add("a")
            await until(lambda: len(times) == 8)
            gaps = [later - earlier for earlier, later in pairwise(times)]
            assert all(gap >= 0.009 * 2**place for place, gap in enumerate(gaps))
            assert [item["log_level"] for item in logs] == ["debug"] * 4 + ["warning"] * 3
            queue.add("a")
            await until(lambda: len(times) == 10)
    assert times[9] - times[8] < gaps[-1]  # a success has made it forget


async def test_an_earlier_wish_wins() -> None:
    done = asyncio.Event()

    async def work(_key: str) -> None:
        done.set()

    async with running(work) as queue:
        queue.add_after("a", 60)
        queue.add_after("a", 0.01)
        async with asyncio.timeout(5):
            await done.wait()
    assert done.is_set()


async def test_two_keys_are_worked_on_at_once() -> None:
    meeting, met = asyncio.Barrier(2), set[str]()

    async def work(key: str) -> None:
        async with asyncio.timeout(5):
            await meeting.wait()
        met.add(key)

    async with running(work) as queue:
        queue.add("a")
        queue.add("b")
        await until(lambda: meeting.n_waiting == 0 and len(queue) == 0)
    assert met == {"a", "b"}


async def test_what_concerns_all_does_not_wait_behind_the_many_nor_they_behind_it() -> None:
    order: list[str] = []

    async def work(key: str) -> None:
        order.append(key)
        await asyncio.sleep(0.001)

    async with running(work, 2) as queue:
        for index in range(1_000):
            queue.add(f"one-of-many-{index}")
        for index in range(100):
            queue.add(f"all-{index}")
        await until(lambda: "all-99" in order)
        # One worker for each line; nobody had to wait for the other's end.
        assert 50 < len([key for key in order if key.startswith("one-of-many")]) < 200
        await until(lambda: len(order) == 1_100)
