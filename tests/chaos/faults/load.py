"""What goes on while a fault lasts: an operator, workers and a gateway, through engines that live on after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from tests.chaos import moves
from tests.chaos.client import hand
from tests.chaos.history import HistoryWriter, Outcome
from tests.chaos.player import FollowingLedger, Player
from tests.chaos.world import MICROS, PEOPLE, RUNS, World, pod_of
from tests.integration.books import NAMESPACE, RING

from callfleet_core.db.engine import create_engine
from callfleet_core.dialing import DialStore, EndEvidence
from callfleet_core.pricing import CostLine

HANDS: Final = 8
RESERVED: Final = 40  # people whom only the probe calls
APPLICATION: Final = "chaos-faults"
# So long nothing fails, and nobody waits longer than that, before it is said that all is well again.
QUIET_S: Final = 2.5
_AGAIN_S: Final = 0.1


class WatchedHistory(HistoryWriter):
    """A history that knows what is not answered yet, and when something failed last."""

    def __init__(self, path: Path, prefix: str) -> None:
        super().__init__(path, prefix)
        self.open: dict[str, float] = {}
        self.failed_at = 0.0
        self.failures = 0
        self.longest_s = 0.0

    def invoked(self, key: str, name: str, args: dict[str, Any]) -> None:
        """Asked."""
        self.open[key] = time.monotonic()
        super().invoked(key, name, args)

    def answered(self, key: str, outcome: Outcome, value: Any) -> None:
        """Answered: a refusal by the protocol is no failure."""
        super().answered(key, outcome, value)
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - self.open.pop(key))
        if outcome != "ok" and value != "StaleEpoch" and not str(value).startswith("23505"):
            self.failed_at = now
            self.failures += 1

    def is_quiet(self) -> bool:
        """Whether nothing failed for a while, and nobody waits for longer."""
        now = time.monotonic()
        return now - self.failed_at >= QUIET_S and all(now - asked < QUIET_S for asked in self.open.values())


@dataclass
class Load:
    """The running load: `engines` are the operator's, and the workers' and gateways'."""

    player: Player
    history: WatchedHistory
    engines: tuple[AsyncEngine, AsyncEngine]
    _called: int = 0

    async def probe(self) -> None:
        """Calls somebody whom nobody else calls, from the hold to the settlement; each step until it succeeds."""
        while not await _call(self.player, PEOPLE + self._called % RESERVED):
            self._called += 1
            await asyncio.sleep(_AGAIN_S)
        self._called += 1

    async def settled_down(self, deadline: float) -> bool:
        """Waits until all is quiet. False where the deadline comes first."""
        while not self.history.is_quiet():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_AGAIN_S)
        return True


@asynccontextmanager
async def load(url: str, folder: Path, seed: str, world: World) -> AsyncIterator[Load]:
    """Works while the block runs."""
    engines = (create_engine(url, application=APPLICATION), create_engine(url, application=APPLICATION))
    history = WatchedHistory(folder / "load.jsonl", "load")
    operator, callers = engines
    player = Player(
        Random(seed),  # noqa: S311  # a test's choices, not a secret
        world,
        operator,
        FollowingLedger(operator),
        DialStore(callers, RING.of_namespace(NAMESPACE)),
        history,
        lambda _: None,
    )
    over = asyncio.Event()
    hands = [asyncio.create_task(hand(player, over.is_set)) for _ in range(HANDS)]
    try:
        yield Load(player, history, engines)
    finally:
        over.set()
        await asyncio.gather(*hands)
        for engine in engines:
            await engine.dispose()


async def _call(player: Player, person: int) -> bool:
    """One call through the whole protocol. False where the grant was lost on the way, as an expired one is."""
    attempt = player.uuid()
    amount = MICROS
    item = {
        "id": str(attempt), "person": person, "run": player.random.randint(1, RUNS), "number": 1, "amount": amount,
        "budgets": [], "expires_s": 120,
    }  # fmt: skip
    if not await _until(lambda: _hold(player, item), "Held"):
        return False
    nonce = player.uuid()
    if not await _until(lambda: _begin(player, attempt, person, nonce), "go"):
        return False
    sid = f"CA-{attempt}"
    await _until(lambda: _placed(player, attempt, sid), "placed", "same")
    await _until(lambda: _ended(player, attempt, sid), True, False)
    return await _until(lambda: _settle(player, attempt, amount), "settled")


async def _until(step: Callable[[], Any], *good: Any) -> bool:
    """Asks until there is an answer. Whether it is a good one."""
    while True:
        answer = await step()
        if answer is not None and answer != "wait":
            return answer in good
        await asyncio.sleep(_AGAIN_S)


async def _hold(player: Player, item: dict[str, Any]) -> Any:
    async def call(key: str) -> list[list[str | None]]:
        return [moves.said(answer) for answer in await player.ledger.hold([moves.request(player, item)])]

    answers = await player.ask("hold", {"epoch": player.ledger.epoch, "items": [item]}, call)
    return None if answers is None else answers[0][1]


async def _begin(player: Player, attempt: UUID, person: int, nonce: UUID) -> Any:
    pod = pod_of(person)

    async def call(key: str) -> list[str | None]:
        decision = await player.dialing.begin_dial(attempt, pod, nonce)
        return [decision.verdict.value, decision.reason]

    answer = await player.ask("begin", {"id": str(attempt), "nonce": str(nonce), "pod": pod}, call)
    return None if answer is None else answer[0]


async def _placed(player: Player, attempt: UUID, sid: str) -> Any:
    async def call(key: str) -> str:
        return (await player.dialing.record_placed(attempt, sid)).value

    return await player.ask("placed", {"id": str(attempt), "sid": sid}, call)


async def _ended(player: Player, attempt: UUID, sid: str) -> Any:
    key = player.history.next_key()
    said = EndEvidence(
        source="callback", status="completed", call_sid=sid, error_code=key, at=datetime.now(UTC), duration_s=60
    )

    async def call(key: str) -> bool:
        return await player.dialing.record_ended(attempt, said)

    return await player.ask("ended", {"id": str(attempt), "status": "completed", "sid": sid}, call, key=key)


async def _settle(player: Player, attempt: UUID, amount: int) -> Any:
    key = player.history.next_key()
    args = {"epoch": player.ledger.epoch, "id": str(attempt), "amount": amount, "seen": "completed"}

    async def call(key: str) -> str:
        return await player.ledger.settle(attempt, [CostLine(key, Decimal(1), amount)], seen="completed")

    return await player.ask("settle", args, call, key=key)
