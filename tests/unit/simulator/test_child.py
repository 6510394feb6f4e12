"""A speech process outlives those who lose their patience with it, and is replaced when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from callfleet_simulator.child import SpeechChild
from callfleet_simulator.errors import SpeechError


@pytest.fixture
async def child() -> AsyncIterator[SpeechChild]:
    child = SpeechChild("tests.unit.simulator.echo_process")
    await child.start()
    yield child
    await child.aclose()


async def test_who_no_longer_wants_the_answer_does_not_cost_the_process(child: SpeechChild) -> None:
    first, _ = await child.ask({"name": "first", "takes_s": 0})
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(child.ask({"name": "dropped", "takes_s": 0.1}), 0.02)
    last, payload = await child.ask({"name": "last", "takes_s": 0}, b"words")
    assert (last["name"], payload) == ("last", b"words")
    assert last["pid"] == first["pid"]


async def test_a_process_that_dies_is_replaced_and_its_request_fails(child: SpeechChild) -> None:
    first, _ = await child.ask({"takes_s": 0})
    with pytest.raises(SpeechError, match="gave no answer"):
        await child.ask({"dies": True})
    second, _ = await child.ask({"takes_s": 0})
    assert second["pid"] != first["pid"]


async def test_an_end_in_the_middle_of_a_request_starts_nothing_new() -> None:
    child = SpeechChild("tests.unit.simulator.echo_process")
    await child.start()
    asking = asyncio.create_task(child.ask({"takes_s": 0.2}))
    await asyncio.sleep(0.05)
    await child.aclose()
    await asyncio.gather(asking, return_exceptions=True)
    with pytest.raises(SpeechError, match="not running"):
        await child.ask({"takes_s": 0})
