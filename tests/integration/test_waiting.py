"""What is changed, and what happens, while people wait counts for them; by the real operator on a real API server."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text
from tests.integration.operator_parts import Operator
from tests.integration.test_admission_queue import begin, body, cycle, ready_pod
from tests.integration.waiting_parts import called, change, ledger, shared_budget, states

from callfleet_operator.plan.told import RETOLD_EVERY
from callfleet_operator.reconcile import admission


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


async def test_a_large_call_that_waits_for_money_that_only_a_person_can_free_stops_nobody_else(
    admitting: Operator, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, call = admitting.context, {"from": ["+15550100199"]}

    class Forgetful:
        async def fetch(self, _sid: str) -> None:
            """It has no such call: no duration, for ever."""

    async def client(_sid: str) -> Any:
        return Forgetful()

    monkeypatch.setattr(context.carriers, "client", client)
    admitting.apply(shared_budget(namespace, "0.19"))
    long, short = {**call, "maxDurationSeconds": 600}, {**call, "maxDurationSeconds": 60}
    await begin(admitting, namespace, body(namespace, "large", 0, people=1, suspend=True, call=long))  # 0.18
    await begin(
        admitting, namespace, body(namespace, "small", 100, people=3, pacing={"maxConcurrent": 1}, call=short)
    )  # 0.018
    await ready_pod(admitting, namespace)
    await cycle(admitting, namespace)
    await called(admitting, namespace, "CA" + "8" * 32, duration_s=None)
    async with context.engine.begin() as connection:
        await connection.execute(text("UPDATE dial_attempts SET ended_at = ended_at - interval '11 minutes'"))
    await change(admitting, namespace, "large", {"suspend": False})
    # 0.172 is free, and the large call cannot be made before somebody has resolved the first small one's attempt.
    assert Counter(states(await cycle(admitting, namespace))) == {"BudgetHeld": 1, "Admitted": 2, "Pacing": 1}


async def test_everybody_is_told_why_they_wait_while_money_comes_and_goes(
    admitting: Operator, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each settlement changes what each of those lacks who were told already."""
    monkeypatch.setattr(admission, "MAX_WAITS_A_CYCLE", 4)
    admitting.apply(shared_budget(namespace, "0.05"))
    await begin(admitting, namespace, body(namespace, "spring", 0, people=10))
    await ready_pod(admitting, namespace)
    for _ in range(10):
        sessions = await cycle(admitting, namespace)
        await spend(admitting, namespace)
    assert states(sessions) == ["BudgetExhausted"] * 10
    later = admitting.context.now() + RETOLD_EVERY
    admitting.context.now = lambda: later
    sessions = await cycle(admitting, namespace)
    assert {item.status["shortfall"] for item in sessions} == {"0.05"}
    await spend(admitting, namespace)
    assert await cycle(admitting, namespace) == sessions  # a number waits for its turn


async def spend(running: Operator, namespace: str) -> None:
    """Somebody else's call is settled."""
    key = f"{namespace}/Budget/all/total"
    async with running.context.engine.begin() as connection:
        statement = text("UPDATE accounts SET spent_micros = spent_micros + 1000 WHERE key = :key")
        await connection.execute(statement, {"key": key})
