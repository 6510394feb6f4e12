"""A worker that stores what was said long after the carrier's last word: its session says it all the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import NAMESPACE, OWNER
from tests.integration.restored import World, open_world

from callfleet_core.records import CallOutcome, CallRecords
from callfleet_operator.objects import Key
from callfleet_operator.reconcile import session


async def test_a_disposition_that_comes_late_is_seen(
    engine: AsyncEngine, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(engine, server) as world:
        attempt = await world.called(0)
        looks = Looks(world, monkeypatch)
        assert await looks.go_on(90) == "answered"
        await CallRecords(engine).finish(attempt, CallOutcome(disposition="incomplete", turns=2), None, [], owner=OWNER)
        assert await looks.go_on(200) == "incomplete"
        before = looks.taken
        await looks.go_on(3_600)
        assert looks.taken - before <= 1  # the end of its time to live


async def test_what_is_never_stored_is_looked_for_a_few_times_only(
    engine: AsyncEngine, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(engine, server) as world:
        await world.called(0)
        looks = Looks(world, monkeypatch)
        assert await looks.go_on(3_600) == "answered"
        assert looks.taken < 14


class Looks:
    """The first session, looked at whenever it asks to be, by a clock of ours."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        self._world = world
        self._key = Key("CallSession", NAMESPACE, world.name(0))
        self._now_s = 0.0
        self._due_s: float | None = 0.0
        context = world.operator.context
        began = datetime.now(UTC)
        context.now = lambda: began + timedelta(seconds=self._now_s)
        monkeypatch.setattr(context.queue, "add_after", self._later)

    def _later(self, key: Key, delay_s: float) -> None:
        if key == self._key:
            due_s = self._now_s + delay_s
            self._due_s = due_s if self._due_s is None else min(due_s, self._due_s)

    async def go_on(self, until_s: float) -> str:
        """Takes every look that is due until then; answers the session's disposition."""
        while self._due_s is not None and self._due_s <= until_s:
            self._now_s, self._due_s = self._due_s, None
            self.taken += 1
            await self._world.operator.see()
            await session.reconcile(self._world.operator.context, self._key)
        self._now_s = until_s
        found = self._world.server.request("GET", self._world.path(0))
        return str(found["status"]["result"]["disposition"])
