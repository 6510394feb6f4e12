"""Plays one plan: a workflow in a world with a fault, until it has ended as it should, or never will."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from tests.chaos.api.face import Api
from tests.chaos.differences import differences
from tests.chaos.plans.database import Databases
from tests.chaos.plans.ending import Ending, revoked, violations
from tests.chaos.plans.faults import Fault, Faults
from tests.chaos.plans.operators import task_factory
from tests.chaos.plans.workflows import WORKFLOWS
from tests.chaos.plans.world import World
from tests.chaos.virtual import VirtualLoop

# A reference has ended when nothing has changed for so long; a plan must be there, and stay, after so long at most.
QUIET_S, PATIENCE_S, LOOK_S = 20.0, 400.0, 5.0


@dataclass(frozen=True)
class Plan:
    """A workflow with a fault; without one it is the reference."""

    workflow: str
    fault: Fault | None = None

    @property
    def name(self) -> str:
        """As it is printed, and replayed by."""
        return self.workflow + (f"/{self.fault.name}" if self.fault else "")


@dataclass
class Result:
    """What came of a plan."""

    ending: Ending
    dials: dict[str, int]
    revoked: dict[str, int]
    wrong: list[str]
    writes: list[str] = field(repr=False)
    requests: list[str] = field(repr=False)
    events: int
    struck: bool
    virtual_s: float
    cpu_s: float
    restarts: int


def play(plan: Plan, databases: Databases, reference: Result | None = None, api: Api | None = None) -> Result:
    """Plays it; compared with a reference, where there is one; on the model of the API server, or on the one given."""
    began_s = time.process_time()
    with databases.one() as url:
        databases.clock.restart()
        loop = VirtualLoop(databases.clock.set)
        loop.set_task_factory(task_factory)
        try:
            result = loop.run_until_complete(_play(plan, url, databases, reference, api))
            result.virtual_s = loop.time()
        finally:
            loop.close()
    result.cpu_s = time.process_time() - began_s
    return result


async def _play(plan: Plan, url: str, databases: Databases, reference: Result | None, api: Api | None) -> Result:
    workflow = WORKFLOWS[plan.workflow]
    world = World(url, databases.clock, Faults(plan.fault), workflow.talk_s, given=api)
    world.begin("first", "second")
    wrong: list[str] = []
    try:
        await workflow.script(world)
        await world.until(lambda: workflow.done(world), PATIENCE_S)
        wrong += await (_settled(world) if reference is None else _as_before(world, reference))
    except TimeoutError:
        wrong.append("the workflow did not end")
        if reference is not None:
            wrong += differences(await world.ending(), reference.ending)
    wrong += world.cluster.problems + await violations(world.engine, world.carrier.dials)
    dials = {str(contact): times for contact, times in sorted(world.carrier.dials.items())}
    if reference is not None and dials != reference.dials:
        wrong.append(f"dials: {dials} instead of {reference.dials}")
    result = Result(
        await world.ending(), dials, await revoked(world.engine), wrong, world.faults.writes, world.faults.requests,
        world.faults.events, world.faults.struck, 0.0, 0.0, len(world.ended),
    )  # fmt: skip
    await world.end()
    return result


async def _settled(world: World) -> list[str]:
    """Waits until nothing changes any more."""
    before, quiet_s = await world.ending(), 0.0
    while quiet_s < QUIET_S:
        await asyncio.sleep(LOOK_S)
        now = await world.ending()
        quiet_s = quiet_s + LOOK_S if now == before else 0.0
        before = now
    return []


async def _as_before(world: World, reference: Result) -> list[str]:
    """Waits until it is as the reference's end, and stays so."""
    found: list[str] = []
    for _ in range(int(QUIET_S / LOOK_S) * 3):
        found = list(differences(await world.ending(), reference.ending))
        if not found:
            break
        await asyncio.sleep(LOOK_S)
    if found:
        return found
    await asyncio.sleep(2 * LOOK_S)
    return list(differences(await world.ending(), reference.ending))
