"""A demo in the middle and at its end, for the tests of what is shown of it."""

from __future__ import annotations

from typing import Any

from callfleet.demo.scene import Books, Budget, Saying, Scene, Talk, make_scene

TYPES = {"interested": "YesNo", "property": "Choice", "budget": "Money", "timeline": "DateRange"}


def session(position: int, name: str, **status: Any) -> dict[str, Any]:
    """A CallSession object."""
    annotations = {"callfleet.dev/position": str(position)}
    return {"metadata": {"name": f"spring-leads-1-{name}", "annotations": annotations}, "status": status}


def ended(position: int, name: str, disposition: str, cost: str = "0.036") -> dict[str, Any]:
    """A settled one."""
    result = {"disposition": disposition, "durationSeconds": 92, "cost": cost, "settled": True}
    return session(position, name, state="Completed", result=result)


def waiting(position: int, name: str) -> dict[str, Any]:
    """One that waits for money."""
    return session(position, name, state="Pending", reason="BudgetExhausted", shortfall="0.014")


SESSIONS = [
    waiting(2, "casey"),
    ended(0, "alex", "qualified"),
    session(1, "bailey", state="InProgress", worker="pool-1-0", attempt={"id": "x", "number": 1, "held": "0.036"}),
    waiting(3, "devon"),
]
NAMES = {f"spring-leads-1-{name.lower()}": name for name in ("Alex", "Bailey", "Casey", "Devon")}
BUDGET = Budget("demo-budget", "USD", 90_000, 36_000, 36_000)
TALK = Talk("Bailey", True, 43.2, [Saying(True, "Are you looking for a house?"), Saying(False, "A condo, please.")])


def middle() -> Scene:
    """One has been called, one is on the line, two wait for money."""
    return make_scene(75.0, SESSIONS, Books(NAMES, [BUDGET], [TALK]))


def call(contact: str, disposition: str, fields: dict[str, str] | None, **more: Any) -> dict[str, Any]:
    """A call of the summary."""
    lead = None if fields is None else {"score": "0.85", "interest": "yes", "fields": fields}
    return {
        "contact": contact,
        "state": "Completed",
        "disposition": disposition,
        "duration_s": 92,
        "cost": "0.036",
        "lead": lead,
        "turns": 4,
        "decided_by": {"grammar": 3, "llm": 1, "template": 0},
        "latency_ms_p50": 812,
        **more,
    }


def summary(**changes: Any) -> dict[str, Any]:
    """What `--json` would print."""
    fields = {"interested": "yes", "property": "condo", "budget": "450000", "timeline": "2026-05-01/2026-05-31"}
    return {
        "sessions": {"total": 4, "completed": 2, "failed": 0, "canceled": 0, "waiting_budget": 2},
        "budget": {"limit": "0.09", "held": "0.00", "spent": "0.072", "spent_carrier": "0.072"},
        "carrier_billed": "0.072",
        "overspent": False,
        "first_dial_s": 93.4,
        "calls": [call("Alex", "qualified", fields), call("Bailey", "incomplete", None)],
        **changes,
    }
