"""What an object is told whose spec this operator cannot read: it was stored under another release's schema."""

from __future__ import annotations

from callfleet_operator.context import Context
from callfleet_operator.objects import Unreadable
from callfleet_operator.plan.session import Status, condition

# What is more than a reader takes in is left out; the rest shows when this is mended.
_MOST = 500


async def tell(context: Context, kind: str, found: Unreadable) -> None:
    """Says on a Campaign or Budget which of its fields keep it from being served; nothing where it says so already."""
    status = plan_status(found, context)
    if any(found.status.get(name) != value for name, value in status.items()):
        context.store.apply(kind, await context.kube.write_status(kind, found.meta, status))


def plan_status(found: Unreadable, context: Context) -> Status:
    """Stalled, and not Ready; what else it said stays."""
    existing, generation = found.status.get("conditions") or [], found.meta.generation
    message = f"{found.problem[:_MOST]}: correct the spec, or run the release that it was written for"
    told = [
        condition(existing, kind, kind == "Stalled", "InvalidSpec", message, context.now(), generation)
        for kind in ("Ready", "Reconciling", "Stalled")
    ]
    kinds = {item["type"] for item in told}
    return {
        "observedGeneration": generation,
        "conditions": [*told, *(item for item in existing if item["type"] not in kinds)],
    }
