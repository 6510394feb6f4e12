"""Which slots are free, and in which order they are given away, so that whole GPUs come free. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from callfleet_operator.objects import Pod
from callfleet_operator.plan.admission import Slot


@dataclass(frozen=True)
class Place:
    """A pod that takes calls of a pool's sessions: its slots, how many are taken, and whether it is to be replaced."""

    pool: tuple[str, str]
    pod: Pod
    slots: int
    taken: int
    earlier: bool


def packed_slots(places: Iterable[Place]) -> list[Slot]:
    """Free slots, those to be taken first in front: pods of the pool itself, and the fullest of them first."""
    order = sorted(places, key=lambda item: (item.earlier, -item.taken, item.pod.meta.name))
    return [
        Slot(item.pool, item.pod.meta.name, item.pod.meta.uid)
        for item in order
        if item.pod.ready and item.pod.serves_on
        for _ in range(max(0, item.slots - item.taken))
    ]
