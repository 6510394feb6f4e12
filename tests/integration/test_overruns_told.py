"""A call costs more than was held for it: who waits says which account stopped, and what lets it go on does."""

from __future__ import annotations

from tests.integration.operator_parts import GROUP, Operator
from tests.integration.test_admission_queue import MERGE, begin, body, cycle, ready_pod
from tests.integration.waiting_parts import called, change, shared_budget, states

from callfleet_operator.objects import Key
from callfleet_operator.plan.session import admission_told
from callfleet_operator.reconcile import budget


async def test_each_account_that_was_overrun_is_named_until_its_object_is_changed(
    admitting: Operator, namespace: str
) -> None:
    admitting.apply(shared_budget(namespace, "5.00"))
    await begin(admitting, namespace, body(namespace, "spring", 0, people=2, pacing={"maxConcurrent": 1}))
    await budget.reconcile(admitting.context, Key("Budget", namespace, "all"))
    await ready_pod(admitting, namespace)
    await cycle(admitting, namespace)
    await called(admitting, namespace, "CA" + "7" * 32, duration_s=900)  # three times as long as was held for

    last = (await cycle(admitting, namespace))[-1]
    assert states([last]) == ["Suspended"]
    found = await admitting.reconcile(namespace, "spring")
    (condition,) = [item for item in found["status"]["conditions"] if item["type"] == "Overrun"]
    assert (condition["status"], condition["reason"]) == ("True", "AboveCap")
    assert "change the Campaign or run `callfleet ledger overruns clear`" in condition["message"]
    assert admission_told(last.status) in found["status"]["summary"]

    path = f"{GROUP}/{namespace}/budgets/all"
    admitting.server.request("PATCH", path, {"spec": {"limits": {"total": "6.00"}}}, MERGE)
    await admitting.see()
    await budget.reconcile(admitting.context, Key("Budget", namespace, "all"))
    last = (await cycle(admitting, namespace))[-1]
    told = "the Campaign spring was overrun: correct the price list, then change the Campaign spring or run"
    assert admission_told(last.status).startswith(told)

    await change(admitting, namespace, "spring", {"weight": 11})
    assert states(await cycle(admitting, namespace))[-1] == "Admitted"
    found = await admitting.reconcile(namespace, "spring")
    (condition,) = [item for item in found["status"]["conditions"] if item["type"] == "Overrun"]
    assert (condition["status"], condition["message"]) == ("False", "")


async def test_a_suspended_budget_is_named(admitting: Operator, namespace: str) -> None:
    suspended = shared_budget(namespace, "5.00")
    admitting.apply({**suspended, "spec": {**suspended["spec"], "suspend": True}})
    await begin(admitting, namespace, body(namespace, "spring", 0, people=1))
    (session,) = await cycle(admitting, namespace)
    assert (states([session]), admission_told(session.status)) == (["Suspended"], "the Budget all is suspended")
