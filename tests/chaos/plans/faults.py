"""What may go wrong in a plan, and where: at the operator's n-th write, its n-th request, the n-th event it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import aiohttp
from tests.chaos.api.client import refused
from tests.chaos.api.server import RefusalError

if TYPE_CHECKING:
    from tests.chaos.plans.operators import RunningOperator

Moment = Literal["before", "after"]
HANG_S = 15.0
# stale: killed, and what it is told first when it starts again is old. leave: killed, and away until another leads.
DEATHS = ("kill", "stale", "leave", "freeze")
WATCH_FAULTS = ("drop", "merge", "late")


@dataclass(frozen=True)
class Fault:
    """One fault of a plan. `at` counts writes, requests or events from 0.

    kill: the process ends there, before the write or after it, and starts again. freeze: it stands still while another
    leads. The answers are what a request gets instead of being done, or, `after`, although it was done. Events are
    dropped until the next list, merged, or late beside other kinds'.
    """

    kind: str
    at: int = 0
    moment: Moment = "before"

    @property
    def name(self) -> str:
        """As a plan's name has it."""
        return f"{self.kind}-{self.moment}-{self.at}"


@dataclass
class Faults:
    """The fault of one plan, and what has happened so far."""

    fault: Fault | None = None
    writes: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    events: int = 0
    # When each resourceVersion was made, by the loop's clock.
    versions: list[tuple[float, int]] = field(default_factory=list)
    struck: bool = False
    kill: Callable[[RunningOperator], None] = lambda _: None
    freeze: Callable[[RunningOperator], None] = lambda _: None

    async def before(self, operator: RunningOperator, label: str) -> int:
        """Before a write; answers its index."""
        index = len(self.writes)
        self.writes.append(label)
        await self._meet(operator, index, "before")
        return index

    async def after(self, operator: RunningOperator, index: int) -> None:
        """After a write that was made, before its answer is heard."""
        await self._meet(operator, index, "after")

    async def _meet(self, operator: RunningOperator, index: int, moment: Moment) -> None:
        if self.fault is not None and self.fault.moment == moment and self._hits(index, *DEATHS):
            await self._strike(operator)

    def event(self) -> str | None:
        """An event is about to be told; answers what becomes of it and those that follow, or None."""
        index, self.events = self.events, self.events + 1
        if self.fault is None or self.fault.kind not in WATCH_FAULTS or self.fault.at != index:
            return None
        self.struck = True
        return self.fault.kind

    def version_before(self, seconds: float) -> int:
        """The newest resourceVersion of so long ago."""
        then = asyncio.get_running_loop().time() - seconds
        return max((version for at, version in self.versions if at <= then), default=0)

    async def _strike(self, operator: RunningOperator) -> None:
        self.struck = True
        if self.fault is not None and self.fault.kind == "freeze":
            self.freeze(operator)
            await operator.thawed.wait()
            return
        self.kill(operator)
        await asyncio.sleep(HANG_S)  # ends at once: the task is cancelled

    async def request(self, label: str, do: Callable[[], Awaitable[object]]) -> object:
        """Makes a request, unless its answer is the fault."""
        index = len(self.requests)
        self.requests.append(label)
        if not self._hits(index, *_ANSWERS) or self.fault is None:
            return await do()
        self.struck = True
        if self.fault.moment == "after":
            await do()
        return await _ANSWERS[self.fault.kind]()

    def _hits(self, index: int, *kinds: str) -> bool:
        return self.fault is not None and self.fault.kind in kinds and self.fault.at == index


async def _hang() -> object:
    await asyncio.sleep(HANG_S)
    raise TimeoutError


async def _cut() -> object:
    raise aiohttp.ServerDisconnectedError


def _answer(code: int, reason: str, **headers: str) -> Callable[[], Awaitable[object]]:
    async def answer() -> object:
        raise refused(RefusalError(code, reason), headers)

    return answer


_ANSWERS: dict[str, Callable[[], Awaitable[object]]] = {
    "hang": _hang,
    "cut": _cut,
    "conflict": _answer(409, "Conflict"),
    "expired": _answer(410, "Expired"),
    "busy": _answer(429, "TooManyRequests", **{"Retry-After": "2"}),
    "broken": _answer(500, "InternalError"),
}
ANSWERS = tuple(_ANSWERS)
