"""A Campaign's status, from what its run and its list say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from callfleet_core.runs import RunCounts
from callfleet_operator.objects import Campaign, Session
from callfleet_operator.plan.campaign import ASIDE_AT_MOST, CampaignView, WorkersView, plan_campaign_status, plan_room
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
        balance=None,
        stalled=None,
        recovering=None,
        contacts_problem=problem,
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


def waiting(reason: str, count: int) -> list[Session]:
    spec = {
        "campaign": "spring",
        "runID": "1",
        "contactID": str(UUID(int=7)),
        "currency": "USD",
        "maxDurationSeconds": 60,
    }
    meta = BODY["metadata"] | {"name": f"spring-{reason}"}
    body = {"metadata": meta, "spec": spec, "status": {"state": "Pending", "reason": reason}}
    return [Session.of(body)] * count


def test_who_may_not_be_called_takes_nobodys_place_up_to_a_bound() -> None:
    both = [*waiting("NoConsent", 200), *waiting("DoNotCall", 300)]
    assert plan_room(200, both) == 200
    assert plan_room(200, [*both, *waiting("BudgetHeld", 150)]) == 50
    assert plan_room(200, waiting("NoConsent", ASIDE_AT_MOST + 150)) == 50


@pytest.mark.parametrize(("total", "says_so"), [(5_000, True), (ASIDE_AT_MOST + 1, False)])
def test_a_campaign_says_that_too_many_may_not_be_called(total: int, says_so: bool) -> None:
    view = replace(view_of(RunCounts(total, 0)), sessions=waiting("NoConsent", ASIDE_AT_MOST + 1))
    planned = plan_campaign_status(view, NOW)
    assert planned is not None
    assert ("1001 people may not be called: beyond 1000" in planned["summary"]) is says_so
    assert planned["summary"].endswith("NoConsent: 1001 wait")
