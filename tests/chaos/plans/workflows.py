"""What users do in a plan, and what is waited for; without faults each takes a minute or two of virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.chaos.plans.world import NAMESPACE, Script, World
from tests.integration.books import number
from tests.integration.operator_parts import campaign_body

CAMPAIGN, BUDGET = "spring", "us"
_CONSENT = {"kind": "express-written", "source": "web form", "time": "2026-01-01T00:00:00Z"}


@dataclass(frozen=True)
class Workflow:
    """One. `done` is looked at once the script has ended."""

    name: str
    script: Script
    done: Callable[[World], bool]


def campaign(people: int, **spec: Any) -> dict[str, Any]:
    """A Campaign with so many people, two calls a worker."""
    contacts = [{"phone": number(index), "consent": _CONSENT} for index in range(people)]
    wanted = {
        "contacts": {"inline": contacts},
        "budgetRefs": [{"name": BUDGET}],
        "attempts": {"max": 1},
        "worker": {"slotsPerWorker": 2, "maxWorkers": 2, "resources": {"limits": {"memory": "4Gi"}}},
    }
    return campaign_body(NAMESPACE, CAMPAIGN, **{**wanted, **spec})


def budget(total: str) -> dict[str, Any]:
    """A Budget."""
    return {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
        "metadata": {"name": BUDGET, "namespace": NAMESPACE},
        "spec": {"currency": "USD", "timeZone": "UTC", "limits": {"total": total}},
    }  # fmt: skip


def finished(world: World) -> bool:
    """Everybody was called, everything is settled, and the workers have gone."""
    found = world.get("campaigns", CAMPAIGN)
    conditions = {item["type"]: item["status"] for item in (found or {}).get("status", {}).get("conditions", [])}
    sessions = world.api.all("CallSession")
    settled = all((item["status"].get("result") or {}).get("settled") for item in sessions)
    return conditions.get("Finished") == "True" and settled and not world.api.all("Pod")


async def _start(world: World) -> None:
    world.apply("budgets", budget("5.00"))
    world.apply("campaigns", campaign(3))


WORKFLOWS = {item.name: item for item in (Workflow("start", _start, finished),)}
