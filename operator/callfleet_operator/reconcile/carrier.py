"""A carrier's Secret, looked at again and again while campaigns name it: Secrets are not watched."""

from __future__ import annotations

from callfleet_core.carriers import Source
from callfleet_operator.carriers import source_of
from callfleet_operator.context import Context
from callfleet_operator.objects import Key

EVERY_S = 5.0


async def reconcile(context: Context, key: Key) -> None:
    """One look; the campaigns that name it hear of a change."""
    source = Source(key.namespace, key.name)
    named_by = [item for item in context.store.campaigns() if source_of(item) == source]
    if not named_by:
        context.carriers.forget(source)
        return
    changed = await context.carriers.look(source)
    context.queue.add_after(key, EVERY_S)
    if changed:
        for campaign in named_by:
            context.queue.add(Key("Campaign", key.namespace, campaign.meta.name))
        context.queue.add(Key("Admission"))
