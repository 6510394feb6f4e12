"""Limits that are set, taken away and put back in the middle of a window: they count all that it has cost."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

import pytest
from sqlalchemy import text
from tests.integration.fleet_parts import MERGE, SPRING, Body, Fleet
from tests.integration.operator_parts import GROUP

from callfleet_core.ledger import HoldAnswer, HoldRequest
from callfleet_core.windows import WindowKind, time_zone, window_at
from callfleet_operator.objects import Key, parse_time
from callfleet_operator.reconcile import budget, campaign

CALL: Final = "0.036"  # of 70 s
# A call's worst case is 0.09: so much is left for one more at first, and not after CALL.
FOR_ONE: Final = "0.10"
# Their days overlap, and mostly have the same date.
HERE, THERE = "UTC", "America/Bogota"


class Limits:
    """A campaign with one call at a time, perhaps a Budget of the whole namespace, and what each day costs."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    async def start(self, budget_limits: dict[str, str] | None = None, **spec: Any) -> None:
        """Everything is applied, and a worker is ready."""
        if budget_limits is not None:
            spec_of_it = {"scope": "Namespace", "limits": budget_limits}
            body = {"apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget", "spec": spec_of_it}
            self.fleet.parts.apply({**body, "metadata": {"name": "all", "namespace": self.fleet.namespace}})
        self.fleet.apply(5, **{"pacing": {"maxConcurrent": 1}, "worker": {"minWorkers": 1}, **spec})
        await self.fleet.settled()
        self.fleet.run_pods()
        await self.fleet.look()

    async def call(self) -> None:
        """Whoever is admitted is called, for CALL."""
        (status,) = self.fleet.bound()
        await self.fleet.end(await self.fleet.begin(status))

    async def calls(self) -> int:
        """How many are admitted now."""
        await self.fleet.look(2)
        return len(self.fleet.bound())

    def change(self, **limits: str | None) -> None:
        """The Campaign's, as a user does."""
        self.fleet.change(limits=limits)

    async def windows(self, **limits: str | None) -> dict[str, str]:
        """What the Budget says that it has spent, once its limits are these."""
        path = f"{GROUP}/{self.fleet.namespace}/budgets/all"
        self.fleet.server.request("PATCH", path, {"spec": {"limits": limits}}, MERGE)
        await self.look_at_budget()
        return {item["kind"]: item["spent"] for item in self.fleet.server.request("GET", path)["status"]["windows"]}

    async def look_at_budget(self) -> None:
        await self.fleet.parts.see()
        await budget.reconcile(self.fleet.parts.context, Key("Budget", self.fleet.namespace, "all"))

    async def make_again(self, **spec: Any) -> None:
        """The Campaign is deleted, and applied again."""
        self.fleet.server.request("DELETE", f"{GROUP}/{self.fleet.namespace}/campaigns/{SPRING}")
        await self.fleet.look()
        await self.fleet.parts.see()
        await campaign.reconcile(self.fleet.parts.context, Key("Campaign", self.fleet.namespace, SPRING))
        for item in self.fleet.sessions():  # as the garbage collector does
            name = item["metadata"]["name"]
            self.fleet.server.request("DELETE", f"{GROUP}/{self.fleet.namespace}/callsessions/{name}")
        await self.fleet.parts.tend_sessions(self.fleet.namespace)
        self.fleet.apply(5, runID="2", pacing={"maxConcurrent": 1}, worker={"minWorkers": 1}, **spec)
        await self.fleet.settled()
        self.fleet.run_pods()
        await self.fleet.look()

    async def sql(self, statement: str) -> list[Any]:
        async with self.fleet.parts.context.engine.connect() as connection:
            return list((await connection.execute(text(statement), {"space": self.fleet.namespace})).scalars())


@pytest.fixture
def limits(fleet: Fleet) -> Limits:
    return Limits(fleet)


async def test_a_daily_limit_counts_what_the_day_has_cost_before_it_was_set(limits: Limits) -> None:
    await limits.start()
    await limits.call()
    limits.change(daily=FOR_ONE)
    assert await limits.calls() == 0
    assert limits.fleet.status()["waiting"][0]["reason"] == "BudgetExhausted"
    limits.change(daily="0.20")
    assert await limits.calls() == 1


async def test_a_limit_that_was_taken_away_and_put_back_has_forgotten_nothing(limits: Limits) -> None:
    await limits.start(limits={"monthly": FOR_ONE})
    limits.change(monthly=None)
    assert await limits.calls() == 1
    await limits.call()
    limits.change(monthly=FOR_ONE)
    assert await limits.calls() == 0


async def test_a_budgets_total_counts_what_it_has_cost_before_it_was_set(limits: Limits) -> None:
    await limits.start({"daily": "5.00"})
    await limits.call()
    assert await limits.windows() == {"Daily": CALL}
    assert await limits.windows(total="5.00") == {"Daily": CALL, "Total": CALL}
    assert await limits.windows(daily=None) == {"Total": CALL}
    assert await limits.windows(total=FOR_ONE) == {"Total": CALL}
    assert await limits.calls() == 0


async def test_a_budget_that_is_gone_and_back_counts_in_all_its_windows(limits: Limits) -> None:
    await limits.start({"daily": "5.00"}, budgetRefs=[{"name": "all"}])
    await limits.call()
    path = f"{GROUP}/{limits.fleet.namespace}/budgets"
    body: Body = limits.fleet.server.request("GET", f"{path}/all")
    limits.fleet.server.request("DELETE", f"{path}/all")
    await limits.look_at_budget()
    closed = "SELECT closed FROM accounts WHERE namespace = :space AND kind = 'Budget'"
    assert await limits.sql(closed) == [True] * 3
    assert await limits.calls() == 0  # nobody pays for it
    metadata = {"name": "all", "namespace": limits.fleet.namespace}
    limits.fleet.parts.apply({**body, "metadata": metadata, "spec": {**body["spec"], "limits": {"total": "5.00"}}})
    assert await limits.windows() == {"Total": CALL}
    assert await limits.sql(closed) == [False] * 3
    assert await limits.calls() == 1


async def test_an_overrun_stops_and_a_change_lets_go_on_in_every_window(limits: Limits) -> None:
    await limits.start({"daily": "5.00"})
    overrun = "SELECT overrun FROM accounts WHERE namespace = :space AND kind = 'Budget'"
    async with limits.fleet.parts.context.engine.begin() as connection:
        await connection.execute(
            text("UPDATE accounts SET overrun = true WHERE namespace = :space AND kind = 'Budget'"),
            {"space": limits.fleet.namespace},
        )
    await limits.look_at_budget()
    assert await limits.sql(overrun) == [True] * 3
    shown = limits.fleet.server.request("GET", f"{GROUP}/{limits.fleet.namespace}/budgets/all")["status"]["conditions"]
    assert {item["type"]: item["status"] for item in shown}["Overrun"] == "True"
    assert await limits.windows(daily="6.00") == {"Daily": "0.00"}
    assert await limits.sql(overrun) == [False] * 3


async def test_at_midnight_a_campaign_without_a_daily_limit_goes_on(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hold meets a window that is over: those of the new day are there before it."""
    await limits.start(timeZone=HERE)
    await limits.call()
    asked, hold = list[HoldRequest](), limits.fleet.parts.context.ledger.hold

    async def noted(requests: list[HoldRequest]) -> list[HoldAnswer]:
        asked.extend(requests)
        return await hold(requests)

    monkeypatch.setattr(limits.fleet.parts.context.ledger, "hold", noted)
    today = datetime.now(UTC).date()
    limits.fleet.ahead = datetime.combine(today + timedelta(days=1), time(), UTC) - datetime.now(UTC)
    await limits.fleet.look(3)
    days = {key.rpartition("/")[2] for request in asked for key in request.accounts if "/daily/" in key}
    assert days == {(today + timedelta(days=1)).isoformat()}
    opened = (
        "SELECT count(*) FROM accounts WHERE namespace = :space AND kind = 'Campaign' AND time_window LIKE 'daily/%'"
    )
    assert await limits.sql(opened) == [2]


@pytest.mark.parametrize(("first", "second"), [(HERE, THERE), (THERE, HERE), (HERE, "Africa/Lagos")])
async def test_a_campaign_that_is_made_again_by_other_midnights_calls_while_it_states_no_day(
    limits: Limits, first: str, second: str
) -> None:
    await limits.start(limits={"total": "5.00"}, timeZone=first)
    await limits.call()
    await limits.make_again(limits={"total": "5.00"}, timeZone=second)
    assert limits.fleet.condition("Stalled")[0] == "False"
    await limits.call()
    spent = "SELECT spent_micros FROM accounts WHERE namespace = :space AND kind = 'Campaign' AND time_window = 'total'"
    assert await limits.sql(spent) == [72_000]
    # What the day has cost by these midnights is not known: a limit waits for the next, and nobody is called meanwhile.
    limits.change(daily="5.00")
    assert await limits.calls() == 0
    assert limits.fleet.condition("Stalled")[:2] == ("True", "TimeZoneMismatch")
    limits.change(daily=None)
    assert await limits.calls() == 1
    # Nor is it known by those of before.
    await limits.make_again(limits={"daily": "5.00"}, timeZone=first)
    assert limits.fleet.condition("Stalled")[:2] == ("True", "TimeZoneMismatch")
    limits.fleet.ahead = timedelta(days=2)
    await limits.fleet.look()
    assert limits.fleet.condition("Stalled")[0] == "False"


async def test_a_day_that_has_cost_nothing_is_in_no_other_days_way(limits: Limits) -> None:
    await limits.start(suspend=True, timeZone=HERE)
    await limits.make_again(limits={"daily": FOR_ONE}, timeZone=THERE)
    assert limits.fleet.condition("Stalled")[0] == "False"
    await limits.call()
    assert await limits.calls() == 0
    window = window_at(WindowKind.DAILY, time_zone(THERE), datetime.now(UTC))
    (status,) = {item["retryAt"] for item in limits.fleet.status()["waiting"]}
    assert parse_time(status) == window.end


async def test_what_is_in_force_is_not_put_again_at_every_look(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(fleet)
    await limits.start({"daily": "5.00"})
    await limits.look_at_budget()
    context, put = fleet.parts.context, list[str]()

    def note(owner: Any, name: str) -> None:
        ask = getattr(owner, name)

        async def noted(**given: Any) -> Any:
            if given["namespace"] == fleet.namespace:
                put.append(name)
            return await ask(**given)

        monkeypatch.setattr(owner, name, noted)

    note(context.ledger, "set_limit")
    note(context.contacts, "mirror_campaign")
    await fleet.look(2)
    await limits.look_at_budget()
    assert put == []
    limits.change(daily="4.00")
    await fleet.look(2)
    assert put == ["mirror_campaign", *["set_limit"] * 3]
    put.clear()
    fleet.ahead += timedelta(days=1)  # another day; the month may be another, too
    await fleet.look(2)
    await limits.look_at_budget()
    assert put.count("set_limit") == 3 + 3
    assert "mirror_campaign" not in put
