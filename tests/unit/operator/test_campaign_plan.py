"""A Campaign's status, from what its run and its list say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from callfleet_core.runs import RunCounts
from callfleet_operator.objects import Campaign
from callfleet_operator.plan.campaign import CampaignView, WorkersView, plan_campaign_status
from callfleet_operator.plan.model import ModelPlan
from callfleet_operator.plan.session import without_nulls

NOW = datetime(2026, 11, 22, 14, tzinfo=UTC)
BODY: dict[str, Any] = {
    "metadata": {
        "name": "spring", "namespace": "sales", "uid": "u", "generation": 1, "resourceVersion": "1",
        "creationTimestamp": "2026-11-22T09:00:00Z",
    },
    "spec": {
        "contacts": {"listRef": {"name": "spring-2026"}},
        "call": {"from": ["+15550100199"]},
        "agent": {
            "persona": "Robin", "llm": {"model": "m"}, "opening": "Hello.", "closing": "Goodbye.",
            "questions": [{"name": "interested", "type": "YesNo", "ask": ["Are you?"]}],
        },
    },
}  # fmt: skip


SERVED = ModelPlan("m", None, "Serving", "")


def view_of(counts: RunCounts, problem: str | None = None, **before: Any) -> CampaignView:
    return CampaignView(
        campaign=Campaign.of(BODY | before),
        contacts=counts,
        sessions=[],
        workers=WorkersView(),
        accounts=[],
        stalled=None,
        recovering=None,
        contacts_problem=problem,
        sessions_refused=None,
        carrier_problem=None,
        model=SERVED,
    )


def planned_status(counts: RunCounts, problem: str | None, **before: Any) -> dict[str, Any] | None:
    return plan_campaign_status(view_of(counts, problem, **before), NOW)


def status(counts: RunCounts, problem: str | None) -> dict[str, Any]:
    planned = planned_status(counts, problem)
    assert planned is not None
    return planned


def test_a_status_that_says_all_already_is_not_written_again() -> None:
    counts = RunCounts(3, 2)
    stored = without_nulls(status(counts, None))
    assert "pending" not in stored["model"]
    assert planned_status(counts, None, status=stored) is None
    assert planned_status(RunCounts(3, 3), None, status=stored) is not None


@pytest.mark.parametrize(
    ("counts", "problem", "finished", "loaded"),
    [
        (RunCounts(3, 3), None, "True", "3 contacts"),
        (RunCounts(3, 2), None, "False", "3 contacts"),
        (RunCounts(0, 0), None, "False", "0 contacts"),
        # The list was deleted after its first people were called: there may be more to call when it comes back.
        (RunCounts(3, 3), "list spring-2026 is not there", "False", "list spring-2026 is not there"),
    ],
)
def test_a_campaign_is_finished_when_everybody_of_a_list_that_is_there_is_done(
    counts: RunCounts, problem: str | None, finished: str, loaded: str
) -> None:
    planned = status(counts, problem)
    conditions = {item["type"]: item for item in planned["conditions"]}
    assert conditions["Finished"]["status"] == finished
    assert conditions["ContactsLoaded"]["message"] == loaded
    assert planned["progress"] == f"{counts.done}/{counts.total}"


PENDING = ModelPlan("m", "n", "Pulling", "n: 40 %; m serves meanwhile")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ("False", "Reconciled", "")),
        ({"model": PENDING}, ("True", "ModelPending", "n: 40 %; m serves meanwhile")),
        ({"model": ModelPlan("m", None, "Pulling", "a server was added")}, ("False", "Reconciled", "")),
        (
            {"workers": WorkersView(ready=2, earlier=1)},
            ("True", "ReplacingWorkers", "1 of the earlier workers are still there"),
        ),
        ({"workers": WorkersView(draining=1)}, ("False", "Reconciled", "")),  # there are fewer people to call
        # kstatus: what is stalled is not under way.
        ({"model": PENDING, "stalled": ("CurrencyMismatch", "…")}, ("False", "Reconciled", "")),
    ],
)
def test_a_campaign_is_reconciling_while_something_of_its_spec_is_not_in_force(
    changes: dict[str, Any], said: tuple[str, str, str]
) -> None:
    planned = plan_campaign_status(replace(view_of(RunCounts(3, 2)), **changes), NOW)
    assert planned is not None
    (found,) = [item for item in planned["conditions"] if item["type"] == "Reconciling"]
    assert (found["status"], found["reason"], found["message"]) == said
