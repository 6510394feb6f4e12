"""What users do in a plan, and what is waited for; without faults each takes a minute or two of virtual time.

Whatever a script does next depends on what everybody can see, never on the time: a fault may delay all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.chaos.plans.operators import FIRST
from tests.chaos.plans.world import NAMESPACE, Script, World
from tests.integration.books import number
from tests.integration.operator_parts import campaign_body

CAMPAIGN, BUDGET = "spring", "us"
NEW_MODEL = "qwen3"
# Longer than any fault keeps everybody from working, and still in its first minute, of which all cost the same.
LONG_S = 55.0
_CONSENT = {"kind": "express-written", "source": "web form", "time": "2026-01-01T00:00:00Z"}


@dataclass(frozen=True)
class Workflow:
    """One. `done` is looked at once the script has ended; calls take `talk_s`."""

    name: str
    script: Script
    done: Callable[[World], bool]
    talk_s: float = 12.0


def campaign(people: int, name: str = CAMPAIGN, slots: int = 2, workers: int = 2, **spec: Any) -> dict[str, Any]:
    """A Campaign with so many people."""
    first = sum(map(ord, name)) % 100 * 10
    contacts = [{"phone": number(first + index), "consent": _CONSENT} for index in range(people)]
    wanted = {
        "contacts": {"inline": contacts},
        "budgetRefs": [{"name": BUDGET}],
        "attempts": {"max": 1},
        "worker": worker(slots, workers),
    }
    return campaign_body(NAMESPACE, name, **{**wanted, **spec})


def worker(slots: int, workers: int, **spec: Any) -> dict[str, Any]:
    """A worker's spec."""
    return {"slotsPerWorker": slots, "maxWorkers": workers, "resources": {"limits": {"memory": "4Gi"}}, **spec}


def budget(total: str) -> dict[str, Any]:
    """A Budget."""
    return {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
        "metadata": {"name": BUDGET, "namespace": NAMESPACE},
        "spec": {"currency": "USD", "timeZone": "UTC", "limits": {"total": total}},
    }  # fmt: skip


def condition(world: World, kind: str, name: str = CAMPAIGN) -> str:
    """A Campaign's condition, as it stands."""
    found = world.get("campaigns", name) or {}
    return next((i["status"] for i in found.get("status", {}).get("conditions", []) if i["type"] == kind), "Unknown")


def in_state(world: World, *states: str) -> list[str]:
    """The names of the sessions in these states."""
    return [item["metadata"]["name"] for item in world.api.all("CallSession") if item["status"].get("state") in states]


def _idle(world: World) -> bool:
    sessions = world.api.all("CallSession")
    return all((item["status"].get("result") or {}).get("settled") for item in sessions) and not world.api.all("Pod")


def finished(world: World) -> bool:
    """Everybody was called, everything is settled, and the workers have gone."""
    return condition(world, "Finished") == "True" and _idle(world)


def gone(world: World) -> bool:
    """Nothing of it is left."""
    return not any(world.api.all(kind) for kind in ("Campaign", "Budget", "CallSession", "Pod"))


async def _begin(world: World, people: int, live: int, **spec: Any) -> None:
    """A campaign of which so many calls are live at the same time."""
    world.apply("budgets", budget("5.00"))
    world.apply("campaigns", campaign(people, **spec))
    await world.until(lambda: len(in_state(world, "InProgress")) == live)


async def _start(world: World) -> None:
    world.apply("budgets", budget("5.00"))
    world.apply("campaigns", campaign(3))


async def _budget(world: World) -> None:
    """Money for one call at a time, and after the first for none."""
    world.apply("budgets", budget("0.1"))
    world.apply("campaigns", campaign(3))
    await world.until(lambda: condition(world, "BudgetExhausted") == "True" and len(in_state(world, "Completed")) == 1)
    world.change("budgets", BUDGET, {"limits": {"total": "5.00"}})


async def _lost(world: World) -> None:
    """A worker's node dies in the middle of its calls; whoever waits is called from another."""
    await _begin(world, 3, live=2, workers=1)
    world.cluster.lose(NAMESPACE, world.api.all("Pod")[0]["metadata"]["name"])


async def _drain(world: World) -> None:
    """Another image: the worker with a call ends with it, and the next is called from a new one."""
    await _begin(world, 2, live=1, slots=1, pacing={"maxConcurrent": 1})
    world.change("campaigns", CAMPAIGN, {"worker": worker(1, 2, image="worker:2", minWorkers=1)})
    await world.until(lambda: len(world.api.all("Pod")) == 2)


async def _cancel(world: World) -> None:
    """One who waits, and one who talks."""
    await _begin(world, 1, live=1)
    world.apply("campaigns", campaign(1, "autumn", suspend=True))
    await world.until(lambda: len(in_state(world, "Pending")) == 1)
    for name in in_state(world, "Pending", "InProgress"):
        world.change("callsessions", name, {"cancel": True})


def _canceled(world: World) -> bool:
    return (
        len(in_state(world, "Canceled")) == 2 and finished(world) and condition(world, "Finished", "autumn") == "True"
    )


async def _delete(world: World) -> None:
    """A campaign that hangs up, and then its budget."""
    await _begin(world, 2, live=2, deletionPolicy="HangUp")
    world.delete("campaigns", CAMPAIGN)
    await world.until(lambda: world.get("campaigns", CAMPAIGN) is None)
    world.delete("budgets", BUDGET)


async def _drained(world: World) -> None:
    """A campaign that lets its calls end."""
    await _begin(world, 2, live=2)
    world.delete("campaigns", CAMPAIGN)
    await world.until(lambda: world.get("campaigns", CAMPAIGN) is None)
    world.delete("budgets", BUDGET)


async def _model(world: World) -> None:
    """Another model, which has to be pulled; the next call is made with it.

    Both people wait before one may be called: a fault that keeps one of the sessions from being made must not decide
    who is called first, and with which model.
    """
    world.apply("budgets", budget("5.00"))
    world.apply("campaigns", campaign(2, pacing={"maxConcurrent": 1}, suspend=True))
    await world.until(lambda: len(in_state(world, "Pending")) == 2)
    world.change("campaigns", CAMPAIGN, {"suspend": False})
    await world.until(lambda: len(in_state(world, "InProgress")) == 1)
    agent = (world.get("campaigns", CAMPAIGN) or {})["spec"]["agent"]
    world.change("campaigns", CAMPAIGN, {"agent": {**agent, "llm": {"model": NEW_MODEL}}})
    await world.until(lambda: NEW_MODEL in world.models.there)


async def _leader(world: World) -> None:
    """The leader is told to go in the middle of calls, and comes back."""
    await _begin(world, 3, live=2, workers=1)
    await world.stop(FIRST)


WORKFLOWS = {
    item.name: item
    for item in (
        Workflow("start", _start, finished, LONG_S),
        Workflow("budget", _budget, finished),
        Workflow("lost", _lost, finished, LONG_S),
        Workflow("drain", _drain, finished, LONG_S),
        Workflow("cancel", _cancel, _canceled, LONG_S),
        Workflow("delete", _delete, gone, LONG_S),
        Workflow("delete.drained", _drained, gone, LONG_S),
        Workflow("model", _model, finished, LONG_S),
        Workflow("leader", _leader, finished, LONG_S),
    )
}
