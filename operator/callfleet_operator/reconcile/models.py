"""The models that campaigns ask for: looked for, and pulled, before calls are made with them."""

from __future__ import annotations

from callfleet_operator.context import Context

EVERY_S = 5.0


async def reconcile(context: Context) -> None:
    """One look at what is asked for; pulls go on by themselves."""
    alive = (campaign for campaign in context.store.campaigns() if not campaign.meta.deleted)
    await context.models.look(campaign.spec.agent.llm.model for campaign in alive)
