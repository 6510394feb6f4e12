"""The admission planner: who goes, who waits, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.admissions import CARRIER, HOLD, NOW, session, snapshot

from callfleet_core.api.callsession import Reason
from callfleet_operator.plan.admission import (
    AccountView,
    Admit,
    CampaignView,
    PendingSession,
    Wait,
    plan_admissions,
    plan_in_line,
    plan_openings,
)
from callfleet_operator.plan.hours import Hours, Window
from callfleet_operator.plan.pace import Pace
from callfleet_operator.plan.turns import Share


def reasons(decisions: list[Admit | Wait]) -> list[str]:
    return [item.reason.value if isinstance(item, Wait) else "admit" for item in decisions]


def test_as_many_as_the_budget_covers_are_admitted_in_their_order() -> None:
    decisions = plan_admissions(snapshot(*(session(index) for index in range(8))), NOW)
    assert reasons(decisions) == ["admit"] * 6 + ["BudgetHeld"] * 2
    assert [item.session.position for item in decisions] == list(range(8))


def test_a_destination_without_a_price_waits_and_takes_nobodys_place() -> None:
    decisions = plan_admissions(snapshot(session(0, hold_micros=None), session(1), slots=1), NOW)
    assert reasons(decisions) == ["NoPrice", "admit"]


def test_a_call_without_a_carrier_waits_for_it() -> None:
    decisions = plan_admissions(snapshot(session(0, carrier=None), session(1, carrier="AC" + "1" * 32)), NOW)
    assert reasons(decisions) == ["CarrierNotReady", "Pacing"]  # an account that is not known takes no calls


def test_a_spent_out_budget_is_told_even_without_a_slot() -> None:
    (decision,) = plan_admissions(snapshot(session(0), slots=0, spent=216_000), NOW)
    assert isinstance(decision, Wait)
    assert (decision.reason, decision.shortfall_micros) == (Reason.BUDGET_EXHAUSTED, 32_000)


def test_money_that_is_held_by_live_calls_is_told_apart() -> None:
    (decision,) = plan_admissions(snapshot(session(0), held=200_000), NOW)
    assert isinstance(decision, Wait)
    assert (decision.reason, decision.shortfall_micros) == (Reason.BUDGET_HELD, 16_000)


def test_one_at_a_time() -> None:
    assert reasons(plan_admissions(snapshot(session(0), session(1), concurrent=1), NOW)) == ["admit", "Pacing"]
    assert reasons(plan_admissions(snapshot(session(0), concurrent=1, open_attempts=1), NOW)) == ["Pacing"]


def test_who_waits_for_a_slot_as_well_as_for_a_turn_may_say_either() -> None:
    (wait,) = plan_admissions(snapshot(session(0), concurrent=1, open_attempts=1, slots=0), NOW)
    assert isinstance(wait, Wait)
    assert (wait.reason, wait.or_says) == (Reason.PACING, Reason.NO_CAPACITY)
    (wait,) = plan_admissions(snapshot(session(0), concurrent=1, open_attempts=1, slots=1), NOW)
    assert isinstance(wait, Wait)
    assert (wait.reason, wait.or_says) == (Reason.PACING, None)
    (wait,) = plan_admissions(replace(snapshot(session(0), slots=0), carrier_room={CARRIER: 0}), NOW)
    assert isinstance(wait, Wait)
    assert (wait.reason, wait.or_says) == (Reason.PACING, Reason.NO_CAPACITY)


def test_the_carriers_own_limit_is_shared_by_all_campaigns() -> None:
    sessions = [session(index, f"c{index}") for index in range(3)]
    decisions = plan_admissions(replace(snapshot(*sessions), carrier_room={CARRIER: 2}), NOW)
    assert reasons(decisions) == ["admit", "admit", "Pacing"]


def test_no_slot_no_admission() -> None:
    assert reasons(plan_admissions(snapshot(session(0), slots=0), NOW)) == ["NoCapacity"]


def test_a_slot_is_given_once() -> None:
    decisions = plan_admissions(snapshot(session(0), session(1), slots=1), NOW)
    assert reasons(decisions) == ["admit", "NoCapacity"]


def test_a_spent_out_window_is_tried_again_when_it_ends() -> None:
    day, month = NOW + timedelta(hours=5), NOW + timedelta(days=9)
    accounts = {
        "day": AccountView("USD", HOLD, 0, HOLD, window_end=day),
        "month": AccountView("USD", HOLD, 0, HOLD, window_end=month),
        "total": AccountView("USD", 10 * HOLD, 0, HOLD),
    }

    def decide(*keys: str) -> Wait:
        (decision,) = plan_admissions(replace(snapshot(session(0, accounts=keys)), accounts=accounts), NOW)
        assert isinstance(decision, Wait)
        return decision

    assert decide("day", "total").retry_at == day
    assert decide("day", "month").retry_at == month
    accounts["total"] = AccountView("USD", HOLD, 0, HOLD)
    assert decide("day", "total").retry_at is None  # a total never comes back by itself


def test_a_call_that_no_window_can_ever_take_is_not_promised_the_next_one() -> None:
    account = AccountView("USD", HOLD - 6_000, 0, 0, window_end=NOW + timedelta(hours=15))
    (decision,) = plan_admissions(replace(snapshot(session(0)), accounts={"budget": account}), NOW)
    assert isinstance(decision, Wait)
    assert (decision.reason, decision.shortfall_micros, decision.retry_at) == (Reason.BUDGET_EXHAUSTED, 6_000, None)
    assert "more than the whole limit of budget" in decision.message


def test_hard_reasons_come_before_money() -> None:
    cases = {
        "NoConsent": session(0, refusal=Reason.NO_CONSENT),
        "DoNotCall": session(0, refusal=Reason.DO_NOT_CALL),
        "BudgetNotFound": session(1, budgets_found=False),
        "PerCallLimit": session(2, ceiling_micros=30_000),
        "RetryScheduled": session(3, retry_at=NOW + timedelta(minutes=1)),
        "CurrencyMismatch": session(4, currency="EUR"),
    }
    for reason, item in cases.items():
        assert reasons(plan_admissions(snapshot(item, spent=220_000), NOW)) == [reason]


def test_what_the_gate_refuses_is_told_without_a_slot_so_that_no_worker_is_started_for_it() -> None:
    for refusal in (Reason.STOPPED, Reason.DO_NOT_CALL, Reason.NO_CONSENT):
        assert reasons(plan_admissions(snapshot(session(0, refusal=refusal), slots=0), NOW)) == [refusal.value]


def test_whether_a_number_may_be_called_is_told_only_of_an_account() -> None:
    nobody = session(0, refusal=Reason.DO_NOT_CALL, carrier=None)
    assert reasons(plan_admissions(snapshot(nobody), NOW)) == ["CarrierNotReady"]


def test_a_retry_is_due_when_its_time_has_come() -> None:
    assert reasons(plan_admissions(snapshot(session(0, retry_at=NOW)), NOW)) == ["admit"]


def test_a_suspended_campaign_admits_nobody() -> None:
    assert reasons(plan_admissions(snapshot(session(0), suspended=True), NOW)) == ["Suspended"]


def test_an_account_that_is_gone_fails_closed() -> None:
    assert reasons(plan_admissions(snapshot(session(0, accounts=("other",))), NOW)) == ["BudgetNotFound"]


def test_priority_comes_first_and_campaigns_take_turns() -> None:
    sessions = [*(session(index, "first") for index in range(3)), *(session(index, "second") for index in range(3)),
                session(0, "urgent", priority=10)]  # fmt: skip
    order = [item.session.campaign[1] for item in plan_admissions(snapshot(*sessions, limit=None), NOW)]
    assert order == ["urgent", "first", "second", "first", "second", "first", "second"]


def test_a_number_that_is_busy_takes_nobodys_slot() -> None:
    decisions = plan_admissions(snapshot(session(0, number_busy=True), session(1), slots=1), NOW)
    assert reasons(decisions) == ["NumberBusy", "admit"]


def test_money_that_comes_back_is_kept_for_whoever_waits_for_it_first() -> None:
    big, small = session(0, hold_micros=100_000), session(1, hold_micros=10_000)
    decisions = plan_admissions(snapshot(big, small, held=150_000), NOW)
    assert reasons(decisions) == ["BudgetHeld", "BudgetHeld"]
    assert [item.shortfall_micros for item in decisions if isinstance(item, Wait)] == [30_000, 40_000]


def test_money_is_kept_for_nobody_who_could_not_be_called_with_it() -> None:
    big, small = session(0, hold_micros=100_000, pool=("sales", "none")), session(1, hold_micros=10_000)
    assert reasons(plan_admissions(snapshot(big, small, held=150_000), NOW)) == ["BudgetHeld", "admit"]
    busy = replace(big, number_busy=True)
    assert reasons(plan_admissions(snapshot(busy, small, held=150_000), NOW)) == ["BudgetHeld", "admit"]


def test_money_is_kept_in_the_account_that_lacks_it_only() -> None:
    accounts = {"own": AccountView("USD", 100_000, 50_000, 0), "all": AccountView("USD", 500_000, 0, 0)}
    sessions = session(0, hold_micros=60_000, accounts=("own", "all")), session(1, "zest", accounts=("all",))
    assert reasons(plan_admissions(replace(snapshot(*sessions), accounts=accounts), NOW)) == ["BudgetHeld", "admit"]


def test_equal_calls_lack_the_same_however_many_wait_before_them() -> None:
    decisions = plan_admissions(snapshot(*(session(index) for index in range(4)), limit=2 * HOLD, held=HOLD), NOW)
    assert [item.shortfall_micros for item in decisions if isinstance(item, Wait)] == [HOLD] * 3


def paced(*sessions: PendingSession, pace: Pace) -> list[Admit | Wait]:
    view = CampaignView(False, 100, Share(), pace)
    return plan_admissions(replace(snapshot(*sessions, limit=None), campaigns={sessions[0].campaign: view}), NOW)


def test_as_many_as_the_campaigns_pace_dials_soon_are_admitted_and_the_others_know_their_time() -> None:
    decisions = paced(*(session(index) for index in range(5)), pace=Pace(Decimal("0.5")))
    assert reasons(decisions) == ["admit"] * 3 + ["Pacing"] * 2  # now, in two and in four seconds
    assert [item.retry_at for item in decisions if isinstance(item, Wait)] == [
        NOW + timedelta(seconds=6),
        NOW + timedelta(seconds=8),
    ]


def test_what_was_granted_but_not_dialled_counts_against_the_pace() -> None:
    assert reasons(paced(session(0), pace=Pace(Decimal("0.5"), granted=3))) == ["Pacing"]
    assert reasons(paced(session(0), pace=Pace(Decimal("0.5"), granted=2))) == ["admit"]


def test_a_pace_counts_from_the_last_dial() -> None:
    soon, late = NOW + timedelta(seconds=4), NOW + timedelta(seconds=40)
    assert reasons(paced(session(0), pace=Pace(Decimal("0.01"), soon))) == ["admit"]
    (decision,) = paced(session(0), pace=Pace(Decimal("0.01"), late))
    assert isinstance(decision, Wait)
    assert (decision.reason, decision.retry_at) == (Reason.PACING, late)
    assert reasons(paced(session(0), pace=Pace(Decimal("0.01"), NOW - timedelta(hours=1)))) == ["admit"]


def test_a_time_that_is_expected_stays_the_same_while_the_pace_is_kept() -> None:
    first = paced(*(session(index) for index in range(6)), pace=Pace(Decimal("0.1"), NOW + timedelta(seconds=9)))
    # Nine seconds later one was dialled, and waits no more.
    rest = paced(*(session(index) for index in range(1, 6)), pace=Pace(Decimal("0.1"), NOW + timedelta(seconds=19)))
    assert [item.retry_at for item in first if isinstance(item, Wait)][1:] == [
        item.retry_at for item in rest if isinstance(item, Wait)
    ]


# 09:00 in UTC is 04:00 in New York; Monday's office begins at 14:00 in UTC.
NINE_TO_FIVE = Hours((Window(frozenset(range(1, 6)), 9 * 60, 17 * 60),))
NEW_YORK, BERLIN = ("America/New_York",), ("Europe/Berlin",)
MONDAY = NOW + timedelta(days=1)


def scheduled(*sessions: PendingSession, hours: Hours, now: datetime, **more: object) -> list[Admit | Wait]:
    view = CampaignView(False, 100, Share(), hours=hours)
    base = snapshot(*sessions, limit=None)
    campaigns = {item.campaign: view for item in sessions}
    return plan_admissions(replace(base, campaigns=campaigns, **more), now)  # type: ignore[arg-type]  # by field name


def test_people_are_called_in_their_own_hours_and_the_others_know_when() -> None:
    sessions = session(0, zones=NEW_YORK), session(1, zones=BERLIN), session(2, zones=(*NEW_YORK, *BERLIN))
    decisions = scheduled(*sessions, hours=NINE_TO_FIVE, now=MONDAY)
    assert reasons(decisions) == ["OutsideCallingHours", "admit", "OutsideCallingHours"]
    assert [item.retry_at for item in decisions if isinstance(item, Wait)] == [MONDAY + timedelta(hours=5)] * 2
    late = MONDAY + timedelta(hours=7)  # 17:00 in Berlin
    assert reasons(scheduled(*sessions, hours=NINE_TO_FIVE, now=late)) == ["admit"] + ["OutsideCallingHours"] * 2
    before = scheduled(session(1, zones=BERLIN), hours=NINE_TO_FIVE, now=late - timedelta(microseconds=1))
    assert reasons(before) == ["admit"]


def test_who_may_not_be_called_at_this_hour_takes_nobodys_slot_money_or_pace() -> None:
    asleep, awake = session(0, zones=NEW_YORK), session(1, zones=BERLIN)
    pace = Pace(Decimal("0.001"))
    view = CampaignView(False, 1, Share(), pace, NINE_TO_FIVE)
    narrow = replace(snapshot(asleep, awake, slots=1, limit=HOLD), campaigns={asleep.campaign: view})
    assert reasons(plan_admissions(narrow, MONDAY)) == ["OutsideCallingHours", "admit"]
    # Held money that comes back is kept for whoever could be called with it.
    held = replace(snapshot(asleep, session(1, zones=BERLIN, hold_micros=1_000), limit=HOLD, held=30_000))
    decisions = plan_admissions(replace(held, campaigns={asleep.campaign: replace(view, max_concurrent=9)}), MONDAY)
    assert reasons(decisions) == ["OutsideCallingHours", "admit"]


def test_money_that_is_held_for_a_call_that_nobody_finds_is_not_waited_for_by_all() -> None:
    large, small = session(0, hold_micros=30_000), session(1, hold_micros=10_000)
    view = snapshot(large, small, limit=100_000, held=80_000)
    assert reasons(plan_admissions(view, NOW)) == ["BudgetHeld", "BudgetHeld"]
    for unresolved, second in ((70_000, "BudgetHeld"), (80_000, "admit")):
        account = AccountView("USD", 100_000, 80_000, 0, unresolved_micros=unresolved)
        decisions = plan_admissions(replace(view, accounts={"budget": account}), NOW)
        assert reasons(decisions) == ["BudgetHeld", second]


def test_a_person_of_no_known_zone_and_a_campaign_that_is_over_are_told_why() -> None:
    (nowhere,) = scheduled(session(0), hours=NINE_TO_FIVE, now=MONDAY)
    assert isinstance(nowhere, Wait)
    assert (nowhere.reason, nowhere.retry_at) == (Reason.OUTSIDE_CALLING_HOURS, None)
    assert "no time zone" in nowhere.message
    (over,) = scheduled(session(0, zones=BERLIN), hours=replace(NINE_TO_FIVE, not_after=MONDAY), now=MONDAY)
    assert isinstance(over, Wait)
    assert (over.reason, over.retry_at) == (Reason.OUTSIDE_CALLING_HOURS, None)
    assert "notAfter" in over.message


def test_a_campaigns_next_opening_is_that_of_the_first_who_may_be_called() -> None:
    sessions = session(0, zones=NEW_YORK), session(1, zones=BERLIN, hold_micros=None), session(2, "other")
    views = {key: CampaignView(False, 9, hours=hours) for key, hours in (
        (("sales", "spring"), NINE_TO_FIVE), (("sales", "other"), NINE_TO_FIVE))}  # fmt: skip
    view = replace(snapshot(*sessions), campaigns=views)
    assert plan_openings(view, NOW) == {("sales", "spring"): MONDAY - timedelta(hours=1)}
    assert plan_openings(view, MONDAY) == {("sales", "spring"): MONDAY}
    free = {key: replace(item, hours=None) for key, item in views.items()}
    assert plan_openings(replace(view, campaigns=free), NOW) == dict.fromkeys(views, NOW)


def test_workers_are_wanted_for_as_many_as_there_is_money_for() -> None:
    other = ("sales", "pool-2")
    sessions = [session(index) for index in range(4)] + [session(index, "autumn", pool=other) for index in range(4)]
    view = snapshot(*sessions, slots=1, limit=3 * HOLD, held=0)
    decisions = plan_admissions(view, NOW)
    assert [item.session.key[1] for item in decisions if isinstance(item, Admit)] == ["spring-0"]
    # The rest is enough for two; which pool spends it, whoever has a worker first decides.
    lined = {item.key[1] for item in plan_in_line(view, decisions)}
    assert lined == {"spring-1", "spring-2", "autumn-0", "autumn-1"}
    rich = replace(view, accounts={"budget": AccountView("USD", None, 0, 0)})
    assert len(plan_in_line(rich, plan_admissions(rich, NOW))) == 7


def test_no_worker_is_wanted_for_calls_that_the_carrier_takes_no_more_of_and_no_pool_waits_for_another() -> None:
    other = ("sales", "pool-2")
    sessions = [session(index) for index in range(3)] + [session(index, "autumn", pool=other) for index in range(3)]
    view = replace(snapshot(*sessions, slots=0, limit=None), carrier_room={CARRIER: 1})
    assert {item.key[1] for item in plan_in_line(view, plan_admissions(view, NOW))} == {"spring-0", "autumn-0"}
    # One who talks on a worker that is being replaced will be followed by one on a new worker.
    full = replace(view, carrier_room={CARRIER: 0}, carrier_replaced={CARRIER: 1})
    assert len(plan_in_line(full, plan_admissions(full, NOW))) == 2


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50_000)), max_size=30),
    st.integers(0, 400_000),
    st.integers(0, 200_000),
    st.integers(0, 200_000),
    st.integers(0, 10),
    st.integers(1, 10),
)  # fmt: skip
def test_a_plan_never_gives_away_more_than_there_is(
    calls: list[tuple[int, int]], limit: int, held: int, spent: int, slots: int, concurrent: int
) -> None:
    sessions = [session(index, f"c{campaign}", hold_micros=hold) for index, (campaign, hold) in enumerate(calls)]
    view = snapshot(*sessions, slots=slots, limit=limit, held=held, spent=spent, concurrent=concurrent)
    decisions = plan_admissions(view, NOW)
    admitted = [item for item in decisions if isinstance(item, Admit)]
    assert len(decisions) == len(sessions)
    assert not admitted or held + spent + sum(item.session.hold_micros or 0 for item in admitted) <= limit
    assert len({item.slot.pod_uid for item in admitted}) == len(admitted) <= slots
    for campaign in {item.session.campaign for item in admitted}:
        assert sum(item.session.campaign == campaign for item in admitted) <= concurrent
