"""Whose turn it is: in proportion to weight, and nobody starves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.unit.operator.admissions import NOW, POOL, session, snapshot

from callfleet_operator.plan.admission import Admit, CampaignView, Slot, leads_after, plan_admissions
from callfleet_operator.plan.turns import CALL_S, LONGEST_LEAD_S, Share, plan_leads

CYCLE_S = 2.0
Key = tuple[str, str]


def key(campaign: str) -> Key:
    return ("sales", campaign)


def admitted(shares: Mapping[str, Share], slots: int, waiting: int = 200) -> list[str]:
    """The campaigns of those who are admitted, in their order; every campaign has as many who wait."""
    pending = [session(index, name) for name in shares for index in range(waiting)]
    view = replace(
        snapshot(*pending, slots=slots, limit=None),
        campaigns={key(name): CampaignView(False, 1000, share) for name, share in shares.items()},
    )
    return [item.session.campaign[1] for item in plan_admissions(view, NOW) if isinstance(item, Admit)]


def test_twice_the_weight_is_twice_the_slots() -> None:
    got = Counter(admitted({"light": Share(10), "heavy": Share(20)}, slots=30))
    assert got == {"light": 10, "heavy": 20}


def test_what_is_open_already_counts() -> None:
    assert Counter(admitted({"has": Share(10, 8), "new": Share(10, 0)}, slots=10)) == {"has": 1, "new": 9}


def test_who_only_waits_costs_the_campaign_no_turn() -> None:
    nobody = [session(index, "first", hold_micros=None) for index in range(50)]
    view = snapshot(*nobody, session(50, "first"), session(0, "second"), session(51, "first"), slots=2, limit=None)
    got = [item.session.campaign[1] for item in plan_admissions(view, NOW) if isinstance(item, Admit)]
    assert got == ["first", "second"]


def test_contacts_stay_in_their_order_so_that_a_due_retry_goes_before_the_next_contact() -> None:
    pending = [session(2), session(0, retry_at=NOW), session(1)]
    order = [item.session.position for item in plan_admissions(snapshot(*pending, limit=None), NOW)]
    assert order == [0, 1, 2]


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 20)), min_size=1, max_size=8),
    st.integers(0, 60),
)
def test_shares_are_proportional_within_one_call(weights: list[tuple[int, int]], slots: int) -> None:
    shares = {f"c{index}": Share(weight, has) for index, (weight, has) in enumerate(weights)}
    got = Counter(admitted(shares, slots, waiting=slots))
    assert sum(got.values()) == slots
    for name, more in got.items():
        if not more:
            continue
        mine = (shares[name].open_calls + more) / shares[name].weight
        for other, share in shares.items():
            # Its last call was due to it: another had to have more than it, with one call more.
            assert mine <= (share.open_calls + got[other] + 1) / share.weight + 1e-9


@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(0, 30))
def test_a_plan_depends_on_no_order_of_what_it_is_given(random: Random, weights: list[int], slots: int) -> None:
    pending = [
        session(index, f"c{place}", priority=index % 2) for place in range(len(weights)) for index in range(slots)
    ]
    views = {key(f"c{place}"): CampaignView(False, 1000, Share(weight)) for place, weight in enumerate(weights)}
    view = replace(snapshot(*pending, slots=slots, limit=None), campaigns=views)
    shuffled = list(pending)
    random.shuffle(shuffled)
    again = replace(view, pending=shuffled, campaigns=dict(reversed(views.items())))
    assert plan_admissions(again, NOW) == plan_admissions(view, NOW)


class Fleet:
    """Slots that calls hold for some cycles, planned again and again."""

    def __init__(self, weights: Sequence[int], slots: int, cycles: int) -> None:
        self.names = [f"c{index}" for index in range(len(weights))]
        self.weights = dict(zip(self.names, weights, strict=True))
        self.slots, self.cycles = slots, cycles
        self.calls: list[tuple[str, int]] = []
        self.leads: dict[Key, float] = {}
        self.held: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()

    def cycle(self, waiting: Sequence[str]) -> None:
        """One cycle, in which these campaigns have somebody who waits."""
        self.calls = [(name, left - 1) for name, left in self.calls if left > 1]
        live = Counter(name for name, _ in self.calls)
        free = self.slots - len(self.calls)
        pending = [session(index, name) for name in waiting for index in range(free + 1)]
        views = {
            key(name): CampaignView(False, 1000, Share(weight, live[name], self.leads.get(key(name), 0.0)))
            for name, weight in self.weights.items()
        }
        view = replace(snapshot(*pending, limit=None), campaigns=views, slots=[Slot(POOL, "pod", "uid")] * free)
        decisions = plan_admissions(view, NOW)
        self.leads = leads_after(view, decisions, CYCLE_S)
        for item in decisions:
            if isinstance(item, Admit):
                self.calls.append((item.session.campaign[1], self.cycles))
                self.begun[item.session.campaign[1]] += 1
        self.held.update(name for name, _ in self.calls)


@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.integers(1, 6), st.integers(1, 60))
def test_nobody_starves_however_small_the_weight_and_few_the_slots(weights: list[int], slots: int, cycles: int) -> None:
    fleet = Fleet(weights, slots, cycles)
    # All slots, for as long as the others need to have had a call's worth more than the lightest; then what runs ends.
    longest_s = (CALL_S + CYCLE_S * cycles) * sum(weights) / min(weights) / slots + 2 * CYCLE_S * cycles
    for _ in range(round(longest_s / CYCLE_S) + 1):
        fleet.cycle(fleet.names)
        if len(fleet.begun) == len(weights):
            break
    assert len(fleet.begun) == len(weights), f"{fleet.begun} of {fleet.weights}"


def test_over_time_slots_are_shared_by_weight_though_one_slot_is_all_there_is() -> None:
    fleet = Fleet([1, 3, 6], slots=1, cycles=3)
    for _ in range(3000):
        fleet.cycle(fleet.names)
    total = sum(fleet.held.values())
    assert [fleet.held[name] / total for name in fleet.names] == pytest.approx([0.1, 0.3, 0.6], abs=0.02)


def test_many_campaigns_and_few_slots_take_turns() -> None:
    fleet = Fleet([10] * 50, slots=10, cycles=5)
    for _ in range(5 * 50):
        fleet.cycle(fleet.names)
    assert set(fleet.begun) == set(fleet.names)
    assert max(fleet.begun.values()) - min(fleet.begun.values()) <= 1


def test_what_nobody_else_wanted_is_not_held_against_a_campaign() -> None:
    fleet = Fleet([10, 10], slots=4, cycles=5)
    for _ in range(2000):
        fleet.cycle(["c0"])
    before = fleet.begun["c0"]
    for _ in range(50):
        fleet.cycle(fleet.names)
    assert abs((fleet.begun["c0"] - before) - fleet.begun["c1"]) <= 4


def test_who_could_not_be_called_for_long_takes_no_more_than_ten_minutes_of_the_others() -> None:
    shares = {key("blocked"): Share(), key("served"): Share(10, 10, 86_400.0)}
    leads = plan_leads(shares, {}, frozenset(shares), CYCLE_S)
    assert leads == {key("served"): LONGEST_LEAD_S}


def test_where_nobody_wants_more_nothing_is_remembered() -> None:
    assert plan_leads({key("a"): Share(10, 5, 100.0)}, {}, frozenset(), CYCLE_S) == {}
