"""One kind's watch, as kopf has it: a list, then events; some are lost, late, merged, or the list is an old one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from tests.chaos.api.face import Api
from tests.chaos.api.resources import selects
from tests.chaos.api.server import Body, Change
from tests.chaos.plans.faults import Faults

from callfleet_operator.objects import POOL_LABEL

# For so long nothing is brought, by the loop's clock; a stale list is so old.
HELD_S, STALE_S = 6.0, 6.0
Event = tuple[str | None, Body]


class Stream:
    """What one operator is told of one kind, in `events`. `counted`: its events are those of the plan."""

    def __init__(self, kind: str, api: Api, faults: Faults, *, counted: bool) -> None:
        self._kind, self._api, self._faults, self._counted = kind, api, faults, counted
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._held: list[Event] | None = None
        self._how = ""

    def list_anew(self, *, stale: bool = False) -> None:
        """Brings what there is, and nothing of what is gone; a stale one what there was, and the rest later."""
        if not stale:
            for body in filter(self._is_ours, self._api.all(self._kind)):
                self.events.put_nowait((None, body))
            return
        then = self._faults.version_before(STALE_S)
        for body in self._as_of(then):
            self.events.put_nowait((None, body))
        self._hold("late", [(change.type, change.body) for change in self._since(then)])

    def offer(self, change: Change) -> None:
        """Something changed."""
        if change.resource.kind != self._kind or not self._is_ours(change.body):
            return
        how = self._faults.event() if self._counted else None
        if how is not None and self._held is None:
            self._hold(how, [])
        if self._held is None:
            self.events.put_nowait((change.type, change.body))
        else:
            self._held.append((change.type, change.body))

    def _hold(self, how: str, held: list[Event]) -> None:
        self._how, self._held = how, held
        asyncio.get_running_loop().call_later(HELD_S, self._release)

    def _release(self) -> None:
        held, self._held = self._held or [], None
        if self._how == "drop":
            self.list_anew()
            return
        if self._how == "merge":
            held = list({body["metadata"]["uid"]: (what, body) for what, body in held}.values())
        for one in held:
            self.events.put_nowait(one)

    def _is_ours(self, body: Body) -> bool:
        return self._kind != "Pod" or selects(POOL_LABEL, body)

    def _as_of(self, version: int) -> Iterator[Body]:
        found: dict[str, Body] = {}
        for change in self._api.changes:
            if change.version <= version and change.resource.kind == self._kind and self._is_ours(change.body):
                found[change.body["metadata"]["uid"]] = change.body
                if change.type == "DELETED":
                    del found[change.body["metadata"]["uid"]]
        yield from found.values()

    def _since(self, version: int) -> Iterator[Change]:
        for change in self._api.changes:
            if change.version > version and change.resource.kind == self._kind and self._is_ours(change.body):
                yield change
