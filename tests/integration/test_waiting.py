"""What is changed, and what happens, while people wait counts for them; by the real operator on a real API server."""

from __future__ import annotations

from tests.integration.operator_parts import Operator
from tests.integration.test_admission_queue import begin, body, cycle, ready_pod
from tests.integration.waiting_parts import called, change, ledger, states


async def test_a_shorter_call_ends_the_wait_for_the_per_call_limit(admitting: Operator, namespace: str) -> None:
    call = {"from": ["+15550100199"], "maxDurationSeconds": 300}
    await begin(admitting, namespace, body(namespace, "spring", 0, people=3, limits={"perCall": "0.05"}, call=call))
    await ready_pod(admitting, namespace)
    assert states(await cycle(admitting, namespace)) == ["PerCallLimit"] * 3
    await change(admitting, namespace, "spring", {"call": {"maxDurationSeconds": 60}})  # 0.018 a call
    assert states(await cycle(admitting, namespace)) == ["Admitted"] * 3
    limits = "SELECT max(time_limit_s) FROM dial_attempts WHERE namespace = :namespace"
    assert await ledger(admitting, limits, namespace=namespace) == 60


async def test_a_changed_priority_counts_for_those_who_wait(admitting: Operator, namespace: str) -> None:
    low, high = body(namespace, "low", 0, people=6, priority=5), body(namespace, "high", 100, people=6)
    await begin(admitting, namespace, low, high)
    await change(admitting, namespace, "high", {"priority": 100})
    await change(admitting, namespace, "low", {"priority": 0})
    await ready_pod(admitting, namespace)
    sessions = await cycle(admitting, namespace)
    assert {item.spec.campaign for item in sessions if item.state == "Admitted"} == {"high"}


async def test_people_without_a_price_keep_nobody_behind_them_from_being_called(
    admitting: Operator, namespace: str
) -> None:
    spring = body(namespace, "spring", 0, people=3, lookAhead=2)
    for person, london in zip(spring["spec"]["contacts"]["inline"], ("+442079460000", "+442079460001"), strict=False):
        person["phone"] = london
    await begin(admitting, namespace, spring)
    await ready_pod(admitting, namespace)
    assert states(await cycle(admitting, namespace)) == ["NoPrice"] * 2
    await admitting.reconcile(namespace, "spring")
    assert states(await cycle(admitting, namespace)) == ["NoPrice", "NoPrice", "Admitted"]


async def test_who_did_not_answer_and_is_tried_in_hours_keeps_nobody_from_being_called_now(
    admitting: Operator, namespace: str
) -> None:
    terms = {"lookAhead": 2, "pacing": {"maxConcurrent": 1}, "attempts": {"max": 3}}
    await begin(admitting, namespace, body(namespace, "spring", 0, people=4, **terms))
    await ready_pod(admitting, namespace)
    for index in range(2):
        await cycle(admitting, namespace)
        await called(admitting, namespace, f"CA{index:032d}", None, "no-answer")
        await admitting.reconcile(namespace, "spring")
    assert states(await cycle(admitting, namespace))[:3] == ["RetryScheduled", "RetryScheduled", "Admitted"]
