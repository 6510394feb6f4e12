"""Many at once: bounded, all tried, the first failure told."""

from __future__ import annotations

import asyncio

import pytest

from callfleet_operator.together import each


async def test_no_more_than_so_many_are_under_way_at_once() -> None:
    active, most, done = 0, 0, list[int]()

    async def act(item: int) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.001)
        active -= 1
        done.append(item)

    await each(range(20), act, at_once=3)
    assert most == 3
    assert sorted(done) == list(range(20))


async def test_one_that_fails_keeps_no_other_from_its_turn_and_is_told() -> None:
    done: list[int] = []

    async def act(item: int) -> None:
        if item == 1:
            raise ValueError("one is broken")
        done.append(item)

    with pytest.raises(ValueError, match="one is broken"):
        await each(range(5), act, at_once=2)
    assert sorted(done) == [0, 2, 3, 4]


async def test_whoever_is_cancelled_leaves_nothing_running() -> None:
    ended: list[int] = []

    async def act(item: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(item)

    task = asyncio.create_task(each(range(3), act, at_once=3))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1, 2]
