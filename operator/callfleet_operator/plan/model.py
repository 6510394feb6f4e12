"""Which model serves a campaign's calls, and what its Campaign says of the next one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from callfleet_core.script import CallScript
from callfleet_operator.objects import Campaign

# Where a name without a place is looked for (ollama/ollama, types/model/name.go).
OLLAMA_REGISTRY = "registry.ollama.ai"
OLLAMA_LIBRARY = "library"


@dataclass(frozen=True)
class ModelState:
    """A model on the installation's servers: there on all of them, or why not yet."""

    ready: bool
    reason: str = "Pulling"
    message: str = ""


@dataclass(frozen=True)
class ModelPlan:
    """`serving`: what calls are made with from now on; None: nothing, they wait. `pending`: what is not ready yet."""

    serving: str | None
    pending: str | None
    reason: str
    message: str


def plan_model(campaign: Campaign, state: ModelState) -> ModelPlan:
    """A changed model serves once every server has it; one that cannot be had leaves the old one serving."""
    wanted = campaign.spec.agent.llm.model
    if state.ready:
        return ModelPlan(wanted, None, "Serving", f"calls are made with {wanted}")
    serving = served(campaign.status)
    if serving == wanted:
        # It was there, and calls go on by their templates where it is not.
        return ModelPlan(wanted, None, state.reason, state.message)
    meanwhile = f"; {serving} serves meanwhile" if serving else "; calls wait for it"
    return ModelPlan(serving, wanted, state.reason, state.message + meanwhile)


def served(status: dict[str, Any]) -> str | None:
    """The model that a Campaign's status says calls are made with."""
    serving: str | None = (status.get("model") or {}).get("serving")
    return serving


def serving_script(campaign: Campaign) -> CallScript:
    """What is said and asked in a call that is admitted now, with the model that serves now."""
    script = campaign.spec.script()
    return script.model_copy(update={"llm_model": served(campaign.status) or script.llm_model})


def full_name(model: str) -> str:
    """A model's name as Ollama lists it: without its own registry and library, and without a tag the latest."""
    *place, name = model.split("/")
    if len(place) == 2 and place[0].lower() == OLLAMA_REGISTRY:
        place = place[1:]
    if [part.lower() for part in place] == [OLLAMA_LIBRARY]:
        place = []
    return "/".join([*place, name if ":" in name else f"{name}:latest"])
