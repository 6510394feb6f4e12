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
    "a day above the month": ({"limits": {"daily": "50.00", "monthly": "10.00"}}, "must not be above limits.monthly"),
    "a call above the day": ({"limits": {"perCall": "5.00", "daily": "1.00"}}, "must not be above limits.daily"),
    "a month above the total": ({"limits": {"monthly": "9.00", "total": "1.00"}}, "must not be above limits.total"),
    "two sources of contacts": (
        {"contacts": {"inline": [{"phone": PHONE}], "secretRef": {"name": "people"}}},
        "exactly one source",
    ),
    "a list beside people": (
        {"contacts": {"inline": [{"phone": PHONE}], "listRef": {"name": "spring-2026"}}},
        "inline, configMapRef, secretRef or listRef",
    ),
    "a list's name in capitals": ({"contacts": {"listRef": {"name": "Spring"}}}, "contacts.listRef.name"),
    "a list without a name": ({"contacts": {"listRef": {}}}, "contacts.listRef.name: Required value"),
    "no source of contacts": ({"contacts": {}}, "exactly one source"),
    "a secret's key with a slash": ({"contacts": {"secretRef": {"name": "people", "key": "a/b"}}}, "secretRef.key"),
    "a currency in small letters": ({"currency": "usd"}, "spec.currency"),
    "a currency's name": ({"currency": "Dollars"}, "spec.currency"),
    "a time zone of another planet": ({"timeZone": "Mars/Olympus"}, "must be a time zone of the IANA database"),
    "a person of another planet": (
        {"contacts": {"inline": [{"phone": PHONE, "timeZone": "Mars/Olympus"}]}},
        "must be a time zone of the IANA database, Area/City",
    ),
    "a priority without bound": ({"priority": 1001}, "less than or equal to 1000"),
    "an unknown deletion policy": ({"deletionPolicy": "Explode"}, "Unsupported value"),
    "a negative time to live": ({"ttlSecondsAfterFinished": -1}, "greater than or equal to 0"),
    "no look-ahead": ({"lookAhead": 0}, "greater than or equal to 1"),
    "no attempts": ({"attempts": {"max": 0}}, "greater than or equal to 1"),
    "more attempts than decent": ({"attempts": {"max": 11}}, "less than or equal to 10"),
    "a retry at once": ({"attempts": {"retryAfterMinutes": {"busy": 0}}}, "greater than or equal to 1"),
    "ringing for ever": ({"call": {"from": [PHONE], "ringTimeoutSeconds": 600}}, "less than or equal to 120"),
    "queueing for ever": ({"call": {"from": [PHONE], "maxQueueSeconds": 3600}}, "less than or equal to 300"),
    "a budget named twice": ({"budgetRefs": [{"name": "a"}, {"name": "a"}]}, "Duplicate value"),
    "a budget's name in capitals": ({"budgetRefs": [{"name": "US"}]}, "budgetRefs[0].name"),
    "more GPUs than a node has": (
        {"worker": {"resources": {"limits": {"nvidia.com/gpu": 9}}}},
        "less than or equal to 8",
    ),
    "a carrier without a name": ({"carrierRef": {}}, "carrierRef.name: Required value"),
    "hours over midnight": (
        {"schedule": {"windows": [{"days": ["Mon"], "from": "22:00", "to": "06:00"}]}},
        "hours over midnight as two windows",
    ),
    "hours without a day": ({"schedule": {"windows": [{"days": [], "from": "09:00", "to": "18:00"}]}}, "at least 1"),
    "a schedule that says nothing": ({"schedule": {"zone": "Callee"}}, "must have windows or notAfter"),
    "memory in words": ({"worker": {"resources": {"limits": {"memory": "much"}}}}, "resources.limits.memory"),
    "an effect that taints do not have": ({"worker": {"tolerations": [{"effect": "Maybe"}]}}, "Unsupported value"),
    "a consent without its time": (
        {"contacts": {"inline": [{"phone": PHONE, "consent": {"kind": "written", "source": "form"}}]}},
        "consent.time: Required value",
    ),
}


@pytest.mark.parametrize(("spec", "message"), BAD_CAMPAIGNS.values(), ids=BAD_CAMPAIGNS.keys())
def test_a_bad_campaign_is_refused_with_what_to_change(world: World, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InstallError) as raised:
        world.apply(_campaign(world, **spec))
    assert message in str(raised.value)


def test_questions_that_cannot_be_asked_are_refused(world: World) -> None:
    for question, message in (
        ({"name": "a", "type": "Choice", "ask": ["Which?"]}, "at least two entries"),
        ({"name": "a", "type": "YesNo", "ask": ["So?"], "when": {"question": "b", "is": ["yes"]}}, "earlier question"),
        ({"name": "a", "type": "Smell", "ask": ["So?"]}, "Unsupported value"),
    ):
        body = _campaign(world)
        body["spec"]["agent"] = {**body["spec"]["agent"], "questions": [question]}
        with pytest.raises(InstallError) as raised:
            world.apply(body)
        assert message in str(raised.value)


BAD_BUDGETS: dict[str, tuple[dict[str, Any], str]] = {
    "no limit": ({"limits": {}}, "at least one of daily, monthly and total"),
    "a day above the month": ({"limits": {"daily": "2.00", "monthly": "1.00"}}, "must not be above limits.monthly"),
    "a month above the total": ({"limits": {"monthly": "2.00", "total": "1.00"}}, "must not be above limits.total"),
    "a scope that does not exist": ({"limits": {"total": "1"}, "scope": "Cluster"}, "Unsupported value"),
    "a time zone of another planet": (
        {"limits": {"total": "1"}, "timeZone": "Mars/Olympus"},
        "must be a time zone of the IANA database",
    ),
    "money as a number": ({"limits": {"total": 5}}, "must be of type string"),
}


@pytest.mark.parametrize(("spec", "message"), BAD_BUDGETS.values(), ids=BAD_BUDGETS.keys())
def test_a_bad_budget_is_refused_with_what_to_change(world: World, spec: dict[str, Any], message: str) -> None:
    body = world.budget("1.00")
    body["spec"] = spec
    with pytest.raises(InstallError) as raised:
        world.apply(body)
    assert message in str(raised.value)


def test_a_sessions_spec_cannot_be_changed_but_canceled(world: World) -> None:
    world.apply(_campaign(world), world.budget("1.00"))
    world.until(lambda: world.states() == ["Suspended"], "a session", 30)
    for patch, message in (
        ({"priority": 5}, "priority cannot be changed"),
        ({"contactID": "0192f0c4-0000-7000-8000-000000000000"}, "contactID cannot be changed"),
    ):
        with pytest.raises(InstallError) as raised:
            world.patch_session(0, {"spec": patch})
        assert message in str(raised.value)
    world.patch_session(0, {"spec": {"cancel": True}})
    with pytest.raises(InstallError, match="stays canceled"):
        world.patch_session(0, {"spec": {"cancel": False}})
    world.until(lambda: world.states() == ["Canceled"], "the cancellation", 30)
    world.until(lambda: _progress(world) == "1/1", "the campaign's count", 30)


def _progress(world: World) -> str:
    (campaign,) = world.installation.objects("campaigns", world.namespace)
    return str(campaign["status"]["progress"])


def test_contacts_from_a_secret_are_taken_whole_or_not_at_all(world: World) -> None:
    campaign = _campaign(world)
    campaign["spec"]["contacts"] = {"secretRef": {"name": "people"}}
    world.apply(world.budget("1.00"), campaign)
    world.until(lambda: "people" in _loaded(world)[1], "the missing Secret to be named", 30)
    header = "phone,name,consent_kind,consent_source,consent_time\n"
    good = "+15550100150,Jane,written,form 7,2026-01-15T10:00:00Z\n"
    _secret(world, header + good + "5550100,,,,\n")
    world.until(lambda: "row 3" in _loaded(world)[1], "the wrong row to be named", 30)
    assert world.sessions() == []
    _secret(world, header + good + "+15550100151,,,,\n")
    world.until(lambda: _loaded(world) == ("True", "2 contacts"), "the list to be loaded", 30)
    world.until(lambda: world.states() == ["Suspended", "Suspended"], "the sessions", 30)


def _loaded(world: World) -> tuple[str, str]:
    (campaign,) = world.installation.objects("campaigns", world.namespace)
    conditions = {item["type"]: item for item in campaign.get("status", {}).get("conditions", [])}
    found = conditions.get("ContactsLoaded", {})
    return found.get("status", ""), found.get("message", "")


def _secret(world: World, text: str) -> None:
    world.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "people"}, "stringData": {"contacts.csv": text}}
    )


def test_a_deleted_campaign_goes_and_takes_its_sessions_with_it(world: World) -> None:
    world.apply(_campaign(world), world.budget("1.00"))
    world.until(lambda: world.states() == ["Suspended"], "a session", 30)
    (campaign,) = world.installation.objects("campaigns", world.namespace)
    assert campaign["metadata"]["finalizers"] == ["callfleet.dev/drain"]
    world.installation.kubectl("delete", "campaign", "spring-leads", "-n", world.namespace, "--timeout=30s")
    world.until(lambda: not world.sessions(), "the sessions to go", 30)
    assert world.rows("SELECT closed FROM campaigns WHERE namespace = %(namespace)s") == [{"closed": True}]


def test_calls_that_no_budget_covers_share_the_installations_account(world: World) -> None:
    world.apply(world.campaign([PHONE], budgetRefs=[], worker={"maxWorkers": 1, "slotsPerWorker": 1}))
    world.until(lambda: world.states() == ["NoCapacity"], "money to be there and a slot to be missing", 30)
    keys = {
        row["key"] for row in world.rows("SELECT key FROM accounts WHERE kind = 'Installation' AND %(namespace)s <> ''")
    }
    assert {key.split("/")[3] for key in keys} == {"daily", "monthly"}


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
