"""What is changed, and what happens, while people wait counts for them; by the real operator on a real API server."""

from __future__ import annotations

from tests.integration.operator_parts import Operator
from tests.integration.test_admission_queue import begin, body, cycle, ready_pod
from tests.integration.waiting_parts import change, ledger, states


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
