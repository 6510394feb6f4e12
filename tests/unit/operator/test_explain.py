"""A session's place in the line for what it lacks, and who stands in no line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.integration.operator_parts import campaign_body

from callfleet.explain import ADVICE
from callfleet_core.api.callsession import Reason
from callfleet_operator.objects import Budget, Campaign, Session, format_time
from callfleet_operator.plan.cluster import Cluster
from callfleet_operator.plan.explain import Ahead, Explanation, plan_explanation

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
SPACE = "sales"


def stored(body: dict[str, Any]) -> dict[str, Any]:
    """A body as the API server would have it."""
    server = {"uid": str(UUID(int=1)), "resourceVersion": "1", "creationTimestamp": "2026-11-22T08:00:00Z"}
    return {**body, "metadata": {"namespace": SPACE, **body["metadata"], **server}}


def campaign(name: str, money: tuple[str, str] | None = None, **spec: Any) -> Campaign:
    """A Campaign, and what its status says that is held and spent."""
    body = stored(campaign_body(SPACE, name, contacts={"listRef": {"name": "people"}}, **spec))
    return Campaign.of({**body, "status": {"money": {"held": money[0], "spent": money[1]}} if money else {}})


def session(owner: str, position: int, reason: str | None = None, state: str = "Pending", **status: Any) -> Session:
    meta = {"name": f"{owner}-{position}", "annotations": {"callfleet.dev/position": str(position)}}
    spec = {"campaign": owner, "contactID": str(UUID(int=position))}
    return Session.of(stored({"metadata": meta, "spec": spec, "status": {"state": state, "reason": reason, **status}}))


def budget(name: str, scope: str = "Referenced", **status: Any) -> Budget:
    spec = {"scope": scope, "limits": {"total": "10.00"}}
    return Budget.of(stored({"metadata": {"name": name}, "spec": spec, "status": status}))


def place(cluster: Cluster, name: str) -> tuple[int, dict[str, int]] | None:
    """The place in the line, and how many of each campaign come before."""
    line = explained(cluster, name).line
    return None if line is None else (line.place, {item.campaign: item.sessions for item in line.ahead})


def windows(found: Explanation) -> list[tuple[str, str, str]]:
    return [(item.owner, item.name, item.kind) for item in found.windows]


def explained(cluster: Cluster, name: str) -> Explanation:
    found = next(item for item in cluster.sessions if item.meta.name == name)
    return plan_explanation(cluster, found, NOW)


def test_those_of_a_pool_stand_in_one_line_by_weight_and_by_what_is_open() -> None:
    sessions = [
        *(session("first", index, "NoCapacity") for index in range(3)),
        session("second", 9, state="InProgress"),
        *(session("second", index, "NoCapacity") for index in range(3)),
    ]
    cluster = Cluster([campaign("first"), campaign("second", weight=20)], [], sessions)
    # In calls of weight 10: the first's stand at 1, 2, 3; the second's at 1, 1.5, 2, as one of its is open already.
    assert place(cluster, "first-0") == (1, {})
    assert place(cluster, "second-0") == (2, {"first": 1})
    assert place(cluster, "first-1") == (4, {"first": 1, "second": 2})


def test_another_pool_and_a_suspended_campaign_are_no_rivals() -> None:
    others = [campaign("large", worker={"slotsPerWorker": 10}), campaign("resting", suspend=True)]
    sessions = [session(name, 0, "NoCapacity") for name in ("large", "resting", "zest")]
    assert place(Cluster([*others, campaign("zest")], [], sessions), "zest-0") == (1, {})


def test_priority_comes_before_weight() -> None:
    urgent = Session.of(
        stored(
            {
                "metadata": {"name": "urgent-0"},
                "spec": {"campaign": "urgent", "contactID": str(UUID(int=1)), "priority": 5},
                "status": {"state": "Pending", "reason": "NoCapacity"},
            }
        )
    )
    cluster = Cluster(
        [campaign("a", weight=100), campaign("urgent", weight=1)], [], [session("a", 0, "NoCapacity"), urgent]
    )
    line = explained(cluster, "a-0").line
    assert line is not None
    assert line.ahead == (Ahead("urgent", 5, 1),)


@pytest.mark.parametrize("reason", sorted({*Reason} - {Reason.NO_CAPACITY, Reason.BUDGET_HELD, Reason.PACING}))
def test_who_waits_for_something_of_its_own_stands_in_no_line(reason: Reason) -> None:
    later = format_time(NOW + timedelta(minutes=5))
    cluster = Cluster(
        [campaign("a")], [], [session("a", 0, reason.value, retryAt=later), session("a", 1, "NoCapacity")]
    )
    assert place(cluster, "a-0") is None
    assert place(cluster, "a-1") == (1, {})


def test_a_retry_that_is_due_keeps_its_contacts_place() -> None:
    due = session("a", 0, "RetryScheduled", retryAt=format_time(NOW))
    assert place(Cluster([campaign("a")], [], [due, session("a", 1, "NoCapacity")]), "a-1") == (2, {"a": 1})


def test_held_money_is_waited_for_by_those_whom_a_budget_covers_together() -> None:
    shared, own = [{"name": "shared"}], [{"name": "own"}]
    campaigns = [campaign("a", budgetRefs=shared), campaign("b", budgetRefs=shared), campaign("c", budgetRefs=own)]
    window = {"kind": "Total", "limit": "10.00", "held": "0.90", "spent": "9.00", "left": "0.10"}
    sessions = [session(name, 0, "BudgetHeld", shortfall="0.05") for name in "abc"]
    cluster = Cluster(campaigns, [budget("shared", windows=[window]), budget("own")], sessions)
    assert place(cluster, "b-0") == (2, {"a": 1})
    assert place(cluster, "c-0") == (1, {})
    found = explained(cluster, "b-0")
    assert (found.shortfall, found.short, windows(found)) == (
        "0.05",
        ("Budget shared",),
        [("Budget", "shared", "Total")],
    )
    everybody = Cluster(campaigns, [budget("all", scope="Namespace")], sessions)
    assert place(everybody, "c-0") == (3, {"a": 1, "b": 1})


def test_each_campaigns_own_total_is_waited_for_by_itself_and_shown() -> None:
    limits = {"daily": "9.00", "total": "10.00"}
    campaigns = [campaign(name, money=("0.90", "9.00"), limits=limits) for name in "ab"]
    cluster = Cluster(campaigns, [], [session(name, 0, "BudgetHeld", shortfall="0.05") for name in "ab"])
    for name in "ab":
        assert place(cluster, f"{name}-0") == (1, {})
        found = explained(cluster, f"{name}-0")
        assert (found.short, windows(found)) == ((f"Campaign {name}",), [("Campaign", name, "Total")])
        assert found.line is not None
        assert not found.line.beyond_namespace
    (window,) = found.windows
    assert (window.limit, window.held, window.spent) == ("10.00", "0.90", "9.00")


def test_calls_that_no_budget_covers_wait_for_the_installations_limits_together() -> None:
    attempt = {"id": str(UUID(int=7)), "number": 1, "held": "0.84"}
    # The one with a limit of its own has much left: its calls cost less than that.
    limited = campaign("a", money=("0.84", "20.00"), limits={"total": "1000.00"})
    covered = campaign("c", budgetRefs=[{"name": "own"}])
    sessions = [session("a", 9, state="InProgress", attempt=attempt)]
    sessions += [session(name, 0, "BudgetHeld", shortfall="0.05") for name in "abc"]
    cluster = Cluster([limited, campaign("b"), covered], [budget("own")], sessions)
    assert place(cluster, "a-0") == (2, {"b": 1})
    found = explained(cluster, "a-0")
    assert found.short == ("the installation's limits of calls that no Budget covers",)
    assert found.windows == ()
    assert found.line is not None
    assert found.line.beyond_namespace
    assert place(cluster, "c-0") == (1, {})


def test_a_budget_that_tells_nothing_is_short_where_the_campaigns_own_limit_has_room() -> None:
    attempt = {"id": str(UUID(int=7)), "number": 1, "held": "0.84"}
    mine = campaign("a", money=("0.84", "20.00"), limits={"total": "1000.00"}, budgetRefs=[{"name": "untold"}])
    sessions = [session("a", 9, state="Dialing", attempt=attempt), session("a", 0, "BudgetHeld", shortfall="0.05")]
    found = explained(Cluster([mine], [budget("untold")], sessions), "a-0")
    assert (found.short, found.windows) == (("Budget untold",), ())


def test_another_campaign_that_cannot_be_read_matters_where_others_stand_in_line() -> None:
    bodies = [stored(campaign_body(SPACE, name, contacts={"listRef": {"name": "people"}})) for name in "ab"]
    bodies[1]["spec"]["shape"] = "round"
    waiting = [
        {"metadata": {"name": f"a-{index}"}, "spec": {"campaign": "a", "contactID": str(UUID(int=index))}}
        for index in range(2)
    ]
    statuses = [{"reason": "NoCapacity"}, {"reason": "Pacing", "retryAt": format_time(NOW)}]
    bodies[0]["spec"]["pacing"] = {"callsPerSecond": "0.5"}
    told = zip(waiting, statuses, strict=True)
    cluster = Cluster.of(bodies, [], [{**stored(body), "status": status} for body, status in told])
    assert [item.name for item in explained(cluster, "a-0").unreadable] == ["b"]
    assert explained(cluster, "a-1").unreadable == ()


def test_who_shares_a_budget_and_waits_for_a_limit_of_its_own_is_no_rival() -> None:
    shared = [{"name": "shared"}]
    own = campaign("a", money=("0.90", "9.00"), limits={"total": "10.00"}, budgetRefs=shared)
    total = {"kind": "Total", "limit": "50.00", "held": "5.00", "spent": "40.00", "left": "5.00"}
    sessions = [session("a", 0, "BudgetHeld", shortfall="0.05"), session("b", 0, "BudgetHeld", shortfall="0.10")]
    cluster = Cluster([own, campaign("b", budgetRefs=shared)], [budget("shared", windows=[total])], sessions)
    assert place(cluster, "b-0") == (1, {})
    assert place(cluster, "a-0") == (1, {})
    found = explained(cluster, "a-0")
    assert found.short == ("Campaign a",)
    assert windows(found) == [("Campaign", "a", "Total"), ("Budget", "shared", "Total")]
    # Who waits for a slot only takes the Budget's money as well.
    first = session("a", 0, "NoCapacity")
    assert place(Cluster(cluster.campaigns, cluster.budgets, [first, sessions[1]]), "b-0") == (2, {"a": 1})


@pytest.mark.parametrize(
    ("retry_at", "kinds"),
    [("2026-11-23T00:00:00Z", ["Daily"]), ("2026-12-01T00:00:00Z", ["Daily", "Monthly"]), (None, ["Total"])],
)
def test_spent_money_is_looked_for_in_the_windows_that_end_by_the_next_try(
    retry_at: str | None, kinds: list[str]
) -> None:
    limits = {"daily": "1.00", "monthly": "5.00", "total": "10.00"}
    spent = session("a", 0, "BudgetExhausted", shortfall="0.05", **({"retryAt": retry_at} if retry_at else {}))
    found = explained(Cluster([campaign("a", money=("0.00", "9.50"), limits=limits)], [], [spent]), "a-0")
    assert (found.short, [item.kind for item in found.windows]) == (("Campaign a",), kinds)
    assert found.line is None


def test_a_campaigns_own_limits_are_its_own_line() -> None:
    paced, other = campaign("paced", pacing={"maxConcurrent": 1}), campaign("a")
    sessions = [
        session("paced", 9, state="Dialing"), session("paced", 0, "Pacing"), session("paced", 1, "Pacing"),
        session("a", 0, "NoCapacity"),
    ]  # fmt: skip
    cluster = Cluster([paced, other], [], sessions)
    assert place(cluster, "paced-1") == (2, {"paced": 1})
    assert place(cluster, "a-0") == (1, {})  # whoever waits for a limit of its own takes nobody's slot


def test_what_is_called_or_canceled_stands_in_no_line() -> None:
    sessions = [session("a", 0, state="Dialing"), session("a", 1, state="Completed")]
    cluster = Cluster([campaign("a")], [], sessions)
    assert [place(cluster, item.meta.name) for item in sessions] == [None, None]


def test_every_reason_has_advice() -> None:
    assert set(ADVICE) == set(Reason)
