"""When a worker takes no further call: above 80 % of its processor, or where its memory is nearly full."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from callfleet_worker.supervisor.load import SAMPLE_S, Allowance, Load, Usage, usage_of_pod

GIB = 1 << 30


class Pod:
    """A pod of two cores and a gibibyte whose use a test states; each look is five seconds later."""

    def __init__(self, cores: float | None = 2.0, memory_bytes: int | None = GIB) -> None:
        self.now, self.used_s = 0.0, 0.0
        self.load = Load(Allowance(cores, memory_bytes), clock=lambda: self.now)
        self.look(processor=0.0)

    def look(self, *, processor: float, memory: float = 0.5, times: int = 1) -> str | None:
        for _ in range(times):
            self.now += SAMPLE_S
            self.used_s += processor * 2.0 * SAMPLE_S
            self.load.take(Usage(self.used_s, int(memory * GIB)))
        return self.load.full


def test_a_pod_above_80_percent_of_its_processor_takes_no_further_call_until_it_is_below_70() -> None:
    pod = Pod()
    assert pod.look(processor=0.79, times=4) is None
    assert "80% of the processor" in (pod.look(processor=0.9, times=3) or "")
    assert pod.look(processor=0.75, times=6) is not None
    assert pod.look(processor=0.6, times=4) is None


def test_a_moment_of_work_is_no_load() -> None:
    pod = Pod()
    pod.look(processor=0.1, times=4)
    assert pod.look(processor=1.0, times=2) is None
    assert pod.look(processor=0.1, times=1) is None


def test_a_pod_whose_memory_is_nearly_full_takes_no_further_call() -> None:
    pod = Pod()
    assert pod.look(processor=0.1, memory=0.89) is None
    assert "90% of the memory" in (pod.look(processor=0.1, memory=0.91) or "")
    assert pod.look(processor=0.1, memory=0.87) is not None
    assert pod.look(processor=0.1, memory=0.8) is None


def test_nothing_is_refused_by_limits_that_nobody_has_said() -> None:
    assert Pod(None, None).look(processor=1.0, memory=1.0, times=5) is None


def test_processes_below_count_while_they_live_and_after_they_ended() -> None:
    before = usage_of_pod()
    burn = "import time\ndata = bytearray(64 << 20)\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = usage_of_pod()
        assert during.processor_s - before.processor_s >= 0.4
        assert during.memory_bytes - before.memory_bytes >= 50 << 20
        child.communicate(b"\n")
    assert usage_of_pod().processor_s - before.processor_s >= 0.4


async def test_it_looks_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callfleet_worker.supervisor.load.SAMPLE_S", 0.01)
    looks = iter(range(1000))
    load = Load(Allowance(1.0, GIB), usage=lambda: Usage(0.0, int(next(looks) > 2) * GIB))
    watching = asyncio.create_task(load.watch())
    async with asyncio.timeout(5):
        while load.full is None:  # noqa: ASYNC110 - a judgement has no event to wait for
            await asyncio.sleep(0.01)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
