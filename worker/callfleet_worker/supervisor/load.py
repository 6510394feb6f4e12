"""What the pod's processes use, and whether that leaves room for another call (P3 of docs/requirements.md)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import psutil
import structlog

# Above these a pod takes no further call; it takes calls again below the lower ones.
MOST_PROCESSOR, PROCESSOR_AGAIN = 0.80, 0.70
MOST_MEMORY, MEMORY_AGAIN = 0.90, 0.85
# Processor time is averaged: whoever understands a sentence takes all cores for a second.
WINDOW_S = 15.0
SAMPLE_S = 5.0

_log = structlog.get_logger(__name__)


class Usage(NamedTuple):
    """What all processes of the pod have used: processor time since they began, in seconds, and memory, in bytes."""

    processor_s: float
    memory_bytes: int


def usage_of_pod() -> Usage:
    """Of this process and all below it; memory that several share counts once (PSS)."""
    this = psutil.Process()
    processor_s, memory_bytes = 0.0, 0
    for process in (this, *this.children(recursive=True)):
        try:
            times, memory = process.cpu_times(), process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has just ended; its parent has its time
        processor_s += times.user + times.system + times.children_user + times.children_system
        memory_bytes += memory
    return Usage(processor_s, memory_bytes)


@dataclass(frozen=True)
class Allowance:
    """What the pod may use: processor cores, and bytes of memory; None: nobody has said, and nothing is refused."""

    cores: float | None
    memory_bytes: int | None


class Load:
    """Shares of the allowance: `processor` as the mean of the last 15 s, `memory` now; both 0 until they are known."""

    def __init__(
        self,
        allowance: Allowance,
        *,
        usage: Callable[[], Usage] = usage_of_pod,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowance, self._usage, self._clock = allowance, usage, clock
        self._samples: deque[tuple[float, float]] = deque()
        self.processor = self.memory = 0.0
        self.full: str | None = None

    async def watch(self) -> None:
        """Looks each five seconds, in a thread, until it is cancelled."""
        while True:
            self.take(await asyncio.to_thread(self._usage))
            await asyncio.sleep(SAMPLE_S)

    def take(self, usage: Usage) -> None:
        """Judges by one more look; `full` says afterwards what keeps the pod from another call."""
        now = self._clock()
        self._samples.append((now, usage.processor_s))
        while now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()
        since, before_s = self._samples[0]
        if self._allowance.cores and now - since >= WINDOW_S - SAMPLE_S:
            self.processor = max(0.0, usage.processor_s - before_s) / (now - since) / self._allowance.cores
        if self._allowance.memory_bytes:
            self.memory = usage.memory_bytes / self._allowance.memory_bytes
        was, self.full = self.full, self._judge()
        if bool(was) != bool(self.full):
            _log.warning(
                "no further calls for now" if self.full else "takes calls again",
                processor=round(self.processor, 2),
                memory=round(self.memory, 2),
            )

    def _judge(self) -> str | None:
        again = self.full is not None
        if self.processor > (PROCESSOR_AGAIN if again else MOST_PROCESSOR):
            return f"above {MOST_PROCESSOR:.0%} of the processor: raise limits.cpu, or lower slotsPerWorker"
        if self.memory > (MEMORY_AGAIN if again else MOST_MEMORY):
            return f"above {MOST_MEMORY:.0%} of the memory: raise limits.memory, or lower slotsPerWorker"
        return None
