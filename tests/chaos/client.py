"""A client process: three hands that play until all clients together have done enough, or somebody kills it."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final
from unittest.mock import patch

from tests.chaos import moves
from tests.chaos.defects import client_parts
from tests.chaos.history import HistoryWriter
from tests.chaos.player import CUT, Known, Player
from tests.chaos.settling import settle_all
from tests.chaos.world import World
from tests.integration.books import NAMESPACE, RING

from callfleet_core.db import outages
from callfleet_core.db.engine import create_engine

_HANDS: Final = 3
_LOOK_AFTER: Final = 120  # steps
_BATCHES: Final = (10, 20, 40, 80)
_TAKE_EPOCH: Final = 0.0015


@dataclass(frozen=True)
class Task:
    """What a client is to do. `done` has a place for each client's count of operations; `target` is for all."""

    url: str
    folder: Path
    seed: str
    index: int
    life: int
    done: MutableSequence[int]
    target: int
    defect: str | None

    @property
    def name(self) -> str:
        """The client's, with which of its lives it is."""
        return f"{self.index}.{self.life}"


def main(task: Task) -> None:
    """The process. Nothing that PostgreSQL undid is tried again here: a deadlock of our own making is to be seen."""
    with patch.object(outages, "TRIES", 1):
        asyncio.run(_play(task))


async def _play(task: Task) -> None:
    ledger_class, store_class = client_parts(task.defect)
    engine = create_engine(task.url, pool_size=_HANDS + 2, application=f"chaos-{task.name}")
    player = Player(
        Random(f"{task.seed}/{task.name}"),  # noqa: S311  # a test's choices, not a secret
        World.load(task.folder / "world.json"),
        engine,
        ledger_class(engine),
        store_class(engine, RING.of_namespace(NAMESPACE)),
        HistoryWriter(task.folder / f"{task.name}.jsonl", task.name),
        _counter(task),
    )
    try:
        await asyncio.gather(*(hand(player, _is_over(task)) for _ in range(_HANDS)))
    finally:
        await engine.dispose()


def _counter(task: Task) -> Callable[[int], None]:
    def count(items: int) -> None:
        task.done[task.index] += items

    return count


def _is_over(task: Task) -> Callable[[], bool]:
    """Enough is done, or nobody waits for us any more."""
    parent = multiprocessing.parent_process()
    return lambda: sum(task.done) >= task.target or (parent is not None and not parent.is_alive())


async def hand(player: Player, is_over: Callable[[], bool]) -> None:
    """Plays until it is over."""
    steps = 0
    while not is_over():
        if player.ledger.epoch == 0 or player.refused_in_a_row > 3 or steps % _LOOK_AFTER == 0:
            await _look(player)
        steps += 1
        await _step(player)


async def _step(player: Player) -> None:
    choose = player.random
    chance = choose.random()
    if chance < _TAKE_EPOCH:
        await moves.take_epoch(player)
    elif chance < 0.03:
        await moves.set_limit(player)
    elif chance < 0.04:
        await moves.look(player)
    elif chance < 0.11 or not player.known:
        await moves.hold(player, 1)
    elif chance < 0.19:
        await moves.hold(player, choose.choice(_BATCHES))
    elif chance < 0.21:
        await settle_all(player)
    else:
        await moves.move(player, choose.choice(list(player.known.values())))


async def _look(player: Player) -> None:
    """Follows the leader, and sees what the others hold."""
    try:
        await player.ledger.follow()
        player.refused_in_a_row = 0
        attempts = await player.ledger.unsettled_attempts()
    except CUT:
        await asyncio.sleep(0.05)
        return
    people = {person: index for index, person in enumerate(player.world.people)}
    for attempt in attempts:
        known = player.known.get(attempt.id)
        if known is None:
            known = Known(attempt.id, people[attempt.contact_id], int(attempt.run_id), attempt.hold_micros)
            player.remember(known)
        known.state = attempt.state if attempt.state != "settled" else "ended"
        known.end_status = attempt.end_status
        if attempt.call_sid is not None and attempt.call_sid not in known.sids:
            known.sids.insert(0, attempt.call_sid)
