"""Which model serves: a changed one once it is there, the old one as long as it is not."""

from __future__ import annotations

from typing import Any

import pytest

from callfleet_operator.objects import Campaign
from callfleet_operator.plan.model import ModelState, full_name, plan_model, served, serving_script

READY = ModelState(ready=True)
PULLING = ModelState(ready=False, reason="Pulling", message="pulling new: 40 %")
FAILED = ModelState(ready=False, reason="PullFailed", message="new cannot be pulled on ollama:11434 (no such model)")


def with_model(wanted: str, serving: str | None) -> Campaign:
    body: dict[str, Any] = {
        "metadata": {
            "name": "spring", "namespace": "sales", "uid": "u", "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "2026-11-22T09:00:00Z",
        },
        "spec": {
            "contacts": {"listRef": {"name": "people"}},
            "call": {"from": ["+15550100199"]},
            "agent": {
                "persona": "Robin", "llm": {"model": wanted}, "opening": "Hello.", "closing": "Goodbye.",
                "questions": [{"name": "interested", "type": "YesNo", "ask": ["Are you?"]}],
            },
        },
        "status": {"model": {"serving": serving, "pending": None}} if serving else {},
    }  # fmt: skip
    return Campaign.of(body)


def test_a_first_model_is_waited_for_until_it_is_there() -> None:
    plan = plan_model(with_model("new", None), PULLING)
    assert (plan.serving, plan.pending, plan.reason) == (None, "new", "Pulling")
    assert plan.message == "pulling new: 40 %; calls wait for it"
    assert plan_model(with_model("new", None), READY).serving == "new"


@pytest.mark.parametrize("state", [PULLING, FAILED])
def test_the_old_one_serves_as_long_as_the_new_one_is_not_there(state: ModelState) -> None:
    plan = plan_model(with_model("new", "old"), state)
    assert (plan.serving, plan.pending, plan.reason) == ("old", "new", state.reason)
    assert plan.message.endswith("; old serves meanwhile")


def test_the_new_one_serves_once_it_is_there() -> None:
    plan = plan_model(with_model("new", "old"), READY)
    assert (plan.serving, plan.pending, plan.reason) == ("new", None, "Serving")


def test_one_that_vanishes_again_goes_on_serving_and_says_so() -> None:
    plan = plan_model(with_model("new", "new"), FAILED)
    assert (plan.serving, plan.pending, plan.reason) == ("new", None, "PullFailed")


def test_calls_are_made_with_the_model_that_serves() -> None:
    assert serving_script(with_model("new", "old")).llm_model == "old"
    assert serving_script(with_model("new", None)).llm_model == "new"
    assert served({}) is None


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("smollm2", "smollm2:latest"),
        ("llama3.1:8b", "llama3.1:8b"),
        ("hf.co:443/a/b", "hf.co:443/a/b:latest"),
        ("library/smollm2", "smollm2:latest"),
        ("registry.ollama.ai/library/llama3.1:8b", "llama3.1:8b"),
        ("Registry.Ollama.AI/Library/smollm2", "smollm2:latest"),
        ("registry.ollama.ai/someone/smollm2", "someone/smollm2:latest"),
        ("someone/smollm2", "someone/smollm2:latest"),
        ("localhost:5000/library/smollm2", "localhost:5000/library/smollm2:latest"),
    ],
)
def test_a_name_is_compared_as_ollama_lists_it(name: str, listed: str) -> None:
    assert full_name(name) == listed
