"""The API server's own checks: samples are accepted, mistakes are refused with a sentence that says what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cluster.world import World

from callfleet.checkout import checkout
from callfleet.installation import InstallError

SAMPLES = sorted((checkout() / "docs" / "samples").glob("*campaign*.yaml"))
PHONE = "+15550100150"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_samples_are_accepted(world: World, path: Path) -> None:
    output = world.installation.kubectl("apply", "-n", world.namespace, "--dry-run=server", "-f", str(path))
    assert "unchanged" in output or "created" in output


def _campaign(world: World, **spec: Any) -> dict[str, Any]:
    return world.campaign([PHONE], suspend=True, **spec)


BAD_CAMPAIGNS: dict[str, tuple[dict[str, Any], str]] = {
    "per call above total": ({"limits": {"perCall": "5.00", "total": "1.00"}}, "must not be above limits.total"),
    "money as a number with a comma": ({"limits": {"total": "1,50"}}, "spec.limits.total"),
    "negative money": ({"limits": {"total": "-1"}}, "spec.limits.total"),
    "no concurrency": ({"pacing": {"maxConcurrent": 0}}, "greater than or equal to 1"),
    "a call without end": ({"call": {"from": [PHONE], "maxDurationSeconds": 99999}}, "less than or equal to 3600"),
    "no number to call from": ({"call": {"from": []}}, "at least 1 items"),
    "a national number": ({"call": {"from": ["5550100"]}}, "spec.call.from[0]"),
    "too many slots": ({"worker": {"slotsPerWorker": 11}}, "less than or equal to 10"),
    "a run ID with capitals": ({"runID": "Spring"}, "spec.runID"),
    "the same number twice": (
        {"contacts": {"inline": [{"phone": PHONE}, {"phone": PHONE}]}},
        "Duplicate value",
    ),
    "nobody to call": ({"contacts": {"inline": []}}, "at least 1 items"),
}


@pytest.mark.parametrize(("spec", "message"), BAD_CAMPAIGNS.values(), ids=BAD_CAMPAIGNS.keys())
def test_a_bad_campaign_is_refused_with_what_to_change(world: World, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InstallError) as raised:
        world.apply(_campaign(world, **spec))
    assert message in str(raised.value)


def test_questions_that_cannot_be_asked_are_refused(world: World) -> None:
    for question, message in (
        ({"name": "a", "type": "Choice", "ask": ["Which?"]}, "at least two entries"),
        ({"name": "a", "type": "YesNo", "ask": ["So?"], "when": {"question": "b", "is": ["yes"]}}, "another question"),
        ({"name": "a", "type": "Smell", "ask": ["So?"]}, "Unsupported value"),
    ):
        body = _campaign(world)
        body["spec"]["agent"] = {**body["spec"]["agent"], "questions": [question]}
        with pytest.raises(InstallError) as raised:
            world.apply(body)
        assert message in str(raised.value)


def test_what_must_not_change_cannot(world: World) -> None:
    world.apply(_campaign(world), world.budget("1.00"))
    for change, message in (
        ({"currency": "EUR"}, "currency cannot be changed"),
        ({"timeZone": "Europe/Berlin"}, "timeZone cannot be changed"),
        ({"contacts": {"inline": [{"phone": "+15550100151"}]}}, "give a new runID"),
    ):
        body = _campaign(world)
        body["spec"] |= change
        with pytest.raises(InstallError) as raised:
            world.apply(body)
        assert message in str(raised.value)
    body = _campaign(world, runID="2")
    body["spec"]["contacts"] = {"inline": [{"phone": "+15550100151"}]}
    assert "configured" in world.apply(body)  # a new run may call others


def test_a_long_name_is_refused(world: World) -> None:
    body = _campaign(world)
    body["metadata"]["name"] = "a" * 41
    with pytest.raises(InstallError, match="at most 40 characters"):
        world.apply(body)


def test_a_suspended_campaign_says_so_and_calls_nobody(world: World) -> None:
    world.apply(_campaign(world), world.budget("1.00"))
    world.until(lambda: world.states() == ["Suspended"], "the session to say that it is suspended", 30)
    (campaign,) = world.installation.objects("campaigns", world.namespace)
    conditions = {item["type"]: item["status"] for item in campaign["status"]["conditions"]}
    assert (conditions["Suspended"], conditions["Ready"], conditions["Stalled"]) == ("True", "True", "False")
    assert world.attempts() == []


def test_a_session_that_no_budget_covers_waits(world: World) -> None:
    world.apply(world.campaign([PHONE]))  # it names a Budget
    world.until(lambda: world.states() == ["BudgetNotFound"], "the missing budget to be named", 30)
    world.apply(world.budget("0.01"))
    world.until(lambda: world.states() == ["BudgetExhausted"], "the found budget to be too small", 30)
    assert world.sessions()[0]["status"]["shortfall"] == "0.026"


def test_columns_read_well(world: World) -> None:
    world.apply(world.budget("1.00"), _campaign(world))
    world.until(lambda: world.states() == ["Suspended"], "a status", 30)
    text = world.installation.kubectl("get", "campaigns", "-n", world.namespace)
    assert text.splitlines()[0].split() == [
        "NAME",
        "READY",
        "REASON",
        "DONE/TOTAL",
        "LIVE",
        "WAITING",
        "HELD",
        "SPENT",
        "AGE",
    ]
    assert all(len(line) <= 120 for line in text.splitlines())
    budgets = world.until(
        lambda: (out := world.installation.kubectl("get", "budgets", "-n", world.namespace)) and "True" in out and out,
        "the budget to be in force",
    )
    assert "1.00" in budgets
