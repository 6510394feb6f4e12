"""The benchmark's other questions: how soon a session is bound, and how soon after a restart or a leader's death."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from pathlib import Path
from uuid import uuid4

from tests.integration.apiserver import ApiServer
from tests.integration.books import SUBJECTS
from tests.integration.operator_parts import GROUP
from tests.performance import usage
from tests.performance.admission_world import LOOK_AHEAD, NAMESPACE, Size, World, world
from tests.performance.apiclient import until

from callfleet_core.runs import CampaignRuns, Run, RunContact
from callfleet_operator import manifests
from callfleet_operator.objects import Campaign

# So many of the first sessions find no worker yet: their waits are the workers' starts.
WARM_UP_SHARE = 0.4
WAIT_S = 1_800.0


async def bind_p99_ms(server: ApiServer, url: str, folder: Path, size: Size, per_s: float) -> float:
    """From a session's creation, by whom it may be, to its bind, when so many are created a second."""
    async with world(server, url, folder, size) as here:
        await here.apply("arrivals", lookAhead=1)
        campaign, people = await _arrivals(here)
        posted: dict[str, float] = {}
        began = time.monotonic()
        for index, contact in enumerate(people):
            await asyncio.sleep(max(0.0, began + index / per_s - time.monotonic()))
            posted[contact.session_name] = time.monotonic()
            body = manifests.session(campaign, contact, None)
            await here.api.call("POST", f"{GROUP}/{NAMESPACE}/callsessions", body, gone_is_fine=True)
        await here.finished()
        counted = list(posted)[int(len(posted) * WARM_UP_SHARE) :]
        took = [here.workers.bound_at[name] - posted[name] for name in counted if name in here.workers.bound_at]
    return 1000 * statistics.quantiles(took, n=100)[98]


async def _arrivals(here: World) -> tuple[Campaign, list[RunContact]]:
    """The campaign as it is, and its people from the last to the first: the operator begins with the first."""
    runs, run = CampaignRuns(here.engine, SUBJECTS), Run(NAMESPACE, "arrivals", "1")

    async def loaded() -> bool:
        return (await runs.counts(run)).total >= here.size.sessions

    await until(loaded, WAIT_S)
    campaign = Campaign.of(await here.api.call("GET", f"{GROUP}/{NAMESPACE}/campaigns/arrivals"))
    return campaign, (await runs.due(run, here.size.sessions))[::-1]


async def restart(server: ApiServer, url: str, folder: Path, size: Size, objects: int) -> tuple[float, float]:
    """An operator starts beside so many sessions that wait: seconds to its first bind, and its peak in MB."""
    async with world(server, url, folder, size) as here:
        names = [f"waiting-{index}" for index in range(-(-objects // LOOK_AHEAD))]
        for name in names:
            await here.apply(name, suspend=True)
        wanted = min(objects, len(names) * size.sessions)

        async def all_wait() -> bool:
            return await here.sessions_left() >= wanted

        await until(all_wait, WAIT_S)
        (first,) = here.operators
        await here.end_operator(first, signal.SIGKILL)
        for name in names:
            await here.api.call("PATCH", f"{GROUP}/{NAMESPACE}/campaigns/{name}", {"spec": {"suspend": False}})
        began, identity = time.monotonic(), f"again-{uuid4().hex[:6]}"
        await here.start_operator(identity)
        took_s = await _next_bind(here, began) - began
        return took_s, usage.peak_mb(here.operators[identity].pid)


async def failover_s(server: ApiServer, url: str, folder: Path, size: Size) -> float:
    """A leader is killed in the middle of its work: seconds until the one that stood by binds a session."""
    async with world(server, url, folder, size) as here:
        (first,) = here.operators
        await here.start_operator(f"second-{uuid4().hex[:6]}")
        await here.apply("failover")
        while len(here.workers.bound_at) < size.sessions / 10:
            await _next_bind(here, time.monotonic())
        await here.end_operator(first, signal.SIGKILL)
        killed = time.monotonic()
        # What the dead one had bound is seen within this second; a Lease runs for longer.
        return await _next_bind(here, killed + 1.0) - killed


async def _next_bind(here: World, after: float) -> float:
    """When the first session after that moment was bound."""
    later: list[float] = []

    async def bound() -> bool:
        later[:] = [at for at in here.workers.bound_at.values() if at > after]
        return bool(later)

    await until(bound, WAIT_S)
    return min(later)
