"""Pools: made at once, removed late, never under a live call, and replaced without losing what they can do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callfleet_core.api.callsession import STATUS_DEFAULT, CallSessionSpec
from callfleet_operator.objects import Campaign, Meta, Pod, Session
from callfleet_operator.plan.hours import Hours
from callfleet_operator.plan.pool import (
    MARKED_AFTER_CALL,
    WARM_UP,
    Demand,
    PoolPlan,
    PoolView,
    Wanted,
    hours_are_near,
    keeps_warm,
    most_at_once,
    place_pods,
    plan_marks,
    plan_pool,
    plan_wanted,
    slots_refused,
    wants_a_slot,
)
from callfleet_operator.plan.slots import Place, packed_slots

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
COOL_DOWN_S = 60


def pod(index: int, *, pool: str = "pool-1", ready: bool = True, finished: bool = False, **more: Any) -> Pod:
    meta = Meta("sales", f"{pool}-{index}", f"{pool}/{index}", 1, "1", NOW, deleted=False, annotations={})
    return replace(Pod(meta, pool, ready, finished, None), **more)


def old(index: int, **more: Any) -> Pod:
    return pod(index, pool="pool-0", **more)


def plan(
    *pods: Pod, wanted: int, most: int = 4, fresh: int | None = None, earlier: tuple[Pod, ...] = (),
    live: dict[str, int] | None = None, idle: dict[str, datetime] | None = None, now: datetime = NOW,
) -> PoolPlan:  # fmt: skip
    useful = frozenset(item.meta.uid for item in earlier)
    goal = Wanted(wanted, wanted if fresh is None else fresh, most)
    return plan_pool(PoolView(pods, earlier, useful, goal, live or {}, idle or {}), now, COOL_DOWN_S)


def names(pods: tuple[Pod, ...]) -> list[str]:
    return [item.meta.name for item in pods]


def test_demand_makes_pods() -> None:
    assert plan(wanted=2).create == 2


def test_an_idle_pod_goes_only_after_its_cool_down() -> None:
    first = plan(pod(0), wanted=0)
    assert (first.delete, names(first.idle)) == ((), ["pool-1-0"])
    later = plan(pod(0), wanted=0, idle={"pool-1/0": NOW - timedelta(seconds=COOL_DOWN_S)})
    assert names(later.delete) == ["pool-1-0"]


def test_a_pod_with_a_live_call_never_goes() -> None:
    done = plan(pod(0), wanted=0, live={"pool-1/0": 1}, idle={"pool-1/0": NOW - timedelta(days=1)})
    assert done.delete == ()


def test_a_finished_pod_is_replaced() -> None:
    done = plan(pod(0, finished=True), wanted=1)
    assert (done.create, names(done.delete)) == (1, ["pool-1-0"])


def test_the_emptiest_goes_first_and_one_that_never_started_before_one_that_serves() -> None:
    pods = pod(0), pod(1, ready=False), pod(2)
    assert names(plan(*pods, wanted=1, live={"pool-1/0": 1}).idle) == ["pool-1-1", "pool-1-2"]
    assert names(plan(*pods, wanted=2, live={"pool-1/0": 1}).idle) == ["pool-1-1"]


def test_earlier_pods_serve_on_until_the_new_ones_are_ready() -> None:
    earlier = old(0), old(1)
    starting = plan(pod(0, ready=False), pod(1, ready=False), wanted=2, earlier=earlier)
    assert (starting.create, starting.closing) == (0, ())
    half = plan(pod(0), pod(1, ready=False), wanted=2, earlier=earlier)
    assert (names(half.closing), names(half.delete)) == (["pool-0-1"], ["pool-0-1"])
    assert names(plan(pod(0), pod(1), wanted=2, earlier=earlier).delete) == ["pool-0-0", "pool-0-1"]


def test_where_there_is_no_room_one_earlier_pod_makes_place_the_emptiest() -> None:
    first = plan(wanted=2, most=2, earlier=(old(0), old(1)), live={"pool-0/0": 1, "pool-0/1": 2})
    assert (first.create, names(first.closing), first.delete) == (0, ["pool-0-0"], ())
    over = plan(wanted=2, most=2, earlier=(old(0), old(1)), live={"pool-0/1": 2})
    assert (over.create, names(over.delete)) == (0, ["pool-0-0"])
    assert plan(wanted=2, most=2, earlier=(old(1),), live={"pool-0/1": 2}).create == 1


def test_a_new_pod_that_never_starts_closes_nothing() -> None:
    stuck = plan(pod(0, ready=False), wanted=2, most=2, earlier=(old(1),), live={"pool-0/1": 1})
    assert (stuck.create, stuck.closing) == (0, ())


def test_a_replaced_pod_with_a_call_takes_no_new_one_and_stays() -> None:
    done = plan(pod(0), wanted=1, earlier=(old(0),), live={"pool-0/0": 1})
    assert (names(done.closing), done.delete) == (["pool-0-0"], ())


def test_nothing_is_made_anew_for_calls_that_end_on_earlier_pods() -> None:
    done = plan(wanted=2, fresh=0, earlier=(old(0), old(1)), live={"pool-0/0": 1, "pool-0/1": 1})
    assert (done.create, done.closing, done.delete) == (0, (), ())


def test_a_new_pod_that_nobody_waits_for_goes_though_calls_go_on_elsewhere() -> None:
    done = plan(pod(0), wanted=1, fresh=0, earlier=(old(0),), live={"pool-0/0": 1})
    assert names(done.idle) == ["pool-1-0"]


DEMAND = Demand(
    waiting=0, on_own=0, on_earlier=0, on_others=0, max_concurrent=10, slots_per_worker=2, min_workers=0,
    max_workers=4, active=True, deleted=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("demands", "wanted"),
    [
        ([], Wanted(0, 0, 0)),
        ([replace(DEMAND, waiting=3)], Wanted(2, 2, 4)),
        ([replace(DEMAND, waiting=50)], Wanted(4, 4, 4)),
        ([replace(DEMAND, waiting=50, max_concurrent=3)], Wanted(2, 2, 4)),
        # Calls on pods of a third pool take their share of what the campaign may have at once.
        ([replace(DEMAND, waiting=50, max_concurrent=3, on_others=3)], Wanted(0, 0, 4)),
        ([replace(DEMAND, on_earlier=4)], Wanted(2, 0, 4)),
        # Warm while the campaign is active; nothing afterwards.
        ([replace(DEMAND, min_workers=2)], Wanted(2, 2, 4)),
        ([replace(DEMAND, min_workers=2, active=False)], Wanted(0, 0, 4)),
        # Calls add up; the largest minimum and the largest maximum hold.
        ([replace(DEMAND, waiting=3), replace(DEMAND, waiting=3, max_workers=1)], Wanted(3, 3, 4)),
        ([replace(DEMAND, min_workers=1), replace(DEMAND, min_workers=3)], Wanted(3, 3, 4)),
        ([replace(DEMAND, waiting=3, deleted=True, active=False)], Wanted(0, 0, 4)),
    ],
)
def test_what_campaigns_of_a_pool_want_together(demands: list[Demand], wanted: Wanted) -> None:
    assert plan_wanted(demands) == wanted


@pytest.mark.parametrize(
    ("ready", "waiting", "pods"),
    [(True, 1, 1), (False, 0, 1), (False, 1, 2), (False, 2, 2), (False, 3, 3)],
)
def test_slots_that_a_pod_above_its_limits_does_not_give_are_another_pods(ready: bool, waiting: int, pods: int) -> None:
    refused = slots_refused([pod(0, ready=ready)], {"pool-1/0": 1}, 2)
    assert plan_wanted([replace(DEMAND, on_own=1, waiting=waiting)], refused).fresh == pods


def test_a_pod_that_starts_or_ends_refuses_nothing() -> None:
    assert slots_refused([pod(0, ready=False)], {}, 2) == 0
    assert slots_refused([pod(0, ready=False, finished=True)], {"pool-1/0": 1}, 2) == 0


def campaign(status: dict[str, Any], **spec: Any) -> Campaign:
    body: dict[str, Any] = {
        "metadata": {
            "name": "spring", "namespace": "sales", "uid": "u", "resourceVersion": "1",
            "creationTimestamp": "2026-11-22T09:00:00Z",
        },
        "spec": {
            "contacts": {"listRef": {"name": "spring-2026"}},
            "call": {"from": ["+15550100199"]},
            "agent": {
                "persona": "Robin", "llm": {"model": "m"}, "opening": "Hello.", "closing": "Goodbye.",
                "questions": [{"name": "interested", "type": "YesNo", "ask": ["Are you?"]}],
            },
            **spec,
        },
        "status": status,
    }  # fmt: skip
    return Campaign.of(body)


@pytest.mark.parametrize(("pace", "most"), [(None, 10), ("0.001", 1), ("0.01", 4), ("5", 10)])
def test_a_slow_pace_has_few_calls_at_once(pace: str | None, most: int) -> None:
    pacing = {"maxConcurrent": 10, **({"callsPerSecond": pace} if pace else {})}
    assert most_at_once(campaign({}, pacing=pacing).spec) == most


def test_workers_are_kept_warm_while_there_are_people_to_call() -> None:
    open_ = {"runID": "1", "contacts": {"total": 3, "done": 2}}
    assert keeps_warm(campaign(open_))
    assert not keeps_warm(campaign({}))
    assert not keeps_warm(campaign(open_, suspend=True))
    assert not keeps_warm(campaign(open_, runID="2"))  # nobody knows yet whom the new run calls
    assert not keeps_warm(campaign({**open_, "contacts": {"total": 3, "done": 3}}))
    assert not keeps_warm(campaign({**open_, "conditions": [{"type": "Stalled", "status": "True"}]}))


def test_a_pod_belongs_to_the_pool_that_its_campaign_asks_for_now() -> None:
    here, moved = pod(0, campaigns=("spring",)), old(0, campaigns=("gone", "spring"))
    alone = pod(0, pool="pool-9", campaigns=("gone",))
    places = place_pods([here, moved, alone], {"spring": "pool-1"})
    assert (places.own, places.earlier) == ({"pool-1": [here]}, {"pool-1": [moved]})
    assert places.orphans == {"pool-9": [alone]}


def test_new_calls_go_to_the_fullest_pods_of_the_pool_and_then_to_earlier_ones() -> None:
    key = ("sales", "pool-1")
    places = [
        Place(key, old(0), 3, 2, earlier=True),
        Place(key, pod(0), 3, 0, earlier=False),
        Place(key, pod(1), 3, 2, earlier=False),
        Place(key, pod(2), 3, 3, earlier=False),
        Place(key, pod(3, ready=False), 3, 2, earlier=False),
    ]
    assert [slot.pod_name for slot in packed_slots(places)] == ["pool-1-1", *["pool-1-0"] * 3, "pool-0-0"]


def test_marks_follow_calls_and_outlast_them_a_little() -> None:
    busy, quiet, free = pod(0), pod(1, in_call=True), pod(2)
    live = {busy.meta.uid: 1}
    at_once = plan_marks([busy, quiet, free], live, {}, NOW)
    assert (at_once.mark, at_once.release) == ((busy,), ())
    later = plan_marks([busy, quiet, free], live, {quiet.meta.uid: NOW - MARKED_AFTER_CALL}, NOW)
    assert later.release == (quiet,)


def waits(reason: str | None, retry_at: str | None = None, state: str = "Pending") -> Session:
    meta = pod(0).meta
    spec = CallSessionSpec(campaign="spring", contact_id="0192f0c4-0000-7000-8000-000000000000")
    conditions = [{"type": "Admitted", "status": "False"}]
    return Session(meta, spec, {"state": state, "reason": reason, "retryAt": retry_at, "conditions": conditions})


@pytest.mark.parametrize(
    ("session", "wants"),
    [
        (waits("NoCapacity"), True),
        (waits("Pacing", "2026-11-22T23:00:00Z"), True),
        (waits("NoConsent"), False),
        (waits(None), False),
        (waits("NoCapacity", state="Completed"), False),
        (waits("OutsideCallingHours", "2026-11-22T09:05:00Z"), True),
        (waits("OutsideCallingHours", "2026-11-22T09:05:01Z"), False),
        (waits("OutsideCallingHours", "2026-11-22T08:59:00Z"), True),  # they have begun: it is not said yet
        (waits("OutsideCallingHours"), False),
    ],
)
def test_workers_are_made_for_who_could_be_called_now_or_soon(session: Session, *, wants: bool) -> None:
    assert wants_a_slot(session, NOW, in_line=session.status["reason"] in {"NoCapacity", "Pacing"}) is wants


def test_a_session_wants_no_worker_before_a_plan_has_judged_it() -> None:
    born = replace(waits("NoCapacity"), status=STATUS_DEFAULT)
    assert not wants_a_slot(born, NOW, in_line=False)
    assert wants_a_slot(born, NOW, in_line=True)


def test_hours_are_near_from_a_while_before_somebody_may_be_called_until_nobody_may() -> None:
    hours = Hours(not_after=NOW + timedelta(hours=1))
    for opening, near in ((NOW, True), (NOW + WARM_UP, True), (NOW + WARM_UP + timedelta(seconds=1), False)):
        assert hours_are_near(hours, opening, NOW, has_calls=True) is near
    assert [hours_are_near(hours, None, NOW, has_calls=calls) for calls in (True, False)] == [True, False]
    assert not hours_are_near(hours, NOW, NOW + timedelta(hours=1), has_calls=True)


@dataclass
class Fleet:
    """A pool and the pods that it replaces, as planned again and again."""

    most: int
    pods: list[Pod] = field(default_factory=list)
    earlier: list[Pod] = field(default_factory=list)
    live: dict[str, int] = field(default_factory=dict)
    idle: dict[str, datetime] = field(default_factory=dict)
    now: datetime = NOW
    made: int = 0
    deleted: int = 0

    def step(self, waiting: int, min_workers: int = 0) -> PoolPlan:
        """One look, applied."""
        own = sum(self.live.get(item.meta.uid, 0) for item in self.pods)
        rest = sum(self.live.get(item.meta.uid, 0) for item in self.earlier)
        wanted = plan_wanted(
            [
                replace(
                    DEMAND, waiting=waiting, on_own=own, on_earlier=rest, max_concurrent=1000,
                    min_workers=min_workers, max_workers=self.most,
                )
            ]
        )  # fmt: skip
        useful = frozenset(item.meta.uid for item in self.earlier)
        view = PoolView(tuple(self.pods), tuple(self.earlier), useful, wanted, dict(self.live), dict(self.idle))
        done = plan_pool(view, self.now, COOL_DOWN_S)
        assert not [item for item in done.delete if self.live.get(item.meta.uid)]
        gone = {item.meta.uid for item in done.delete}
        idle = {item.meta.uid for item in done.idle}
        self.idle = {uid: self.idle.get(uid, self.now) for uid in idle - gone}
        self.pods = [item for item in self.pods if item.meta.uid not in gone]
        self.earlier = [item for item in self.earlier if item.meta.uid not in gone]
        self.pods += [pod(self.made + index, ready=False) for index in range(done.create)]
        self.made, self.deleted = self.made + done.create, self.deleted + len(gone)
        return done

    def start_pods(self) -> None:
        self.pods = [replace(item, ready=True) for item in self.pods]

    def end_call(self, uid: str) -> None:
        left = self.live.get(uid, 0) - 1
        self.live = {**self.live, uid: left} if left > 0 else {key: n for key, n in self.live.items() if key != uid}


@settings(max_examples=200)
@given(
    most=st.integers(1, 5),
    earlier=st.integers(0, 5),
    moves=st.lists(
        st.tuples(st.sampled_from(["look", "start", "call", "end", "later"]), st.integers(0, 12)), max_size=40
    ),
)
def test_never_more_than_the_maximum_and_never_a_pod_with_a_call(
    most: int, earlier: int, moves: list[tuple[str, int]]
) -> None:
    fleet = Fleet(most, earlier=[old(index) for index in range(min(earlier, most))])
    for move, number in moves:
        everybody = [*fleet.pods, *fleet.earlier]
        if move == "look":
            fleet.step(number)
        elif move == "start":
            fleet.start_pods()
        elif move == "later":
            fleet.now += timedelta(seconds=number * 10)
        elif everybody:
            uid = everybody[number % len(everybody)].meta.uid
            if move == "end":
                fleet.end_call(uid)
            else:
                fleet.live = {**fleet.live, uid: fleet.live.get(uid, 0) + 1}
        assert len(fleet.pods) + len(fleet.earlier) <= most


@given(most=st.integers(1, 5), waiting=st.integers(0, 20), warm=st.integers(0, 5), earlier=st.integers(0, 5))
def test_it_comes_to_rest_with_nothing_but_new_pods(most: int, waiting: int, warm: int, earlier: int) -> None:
    warm, count = min(warm, most), min(earlier, most)
    fleet = Fleet(most, earlier=[old(index) for index in range(count)])
    for index in range(count):
        fleet.live[f"pool-0/{index}"] = 1
    for _ in range(8 * most):
        fleet.step(waiting, warm)
        fleet.start_pods()
        for uid in list(fleet.live):
            fleet.end_call(uid)
        fleet.now += timedelta(seconds=COOL_DOWN_S)
    assert fleet.earlier == []
    assert len(fleet.pods) == min(most, max(warm, -(-waiting // DEMAND.slots_per_worker)))
    before = fleet.made, fleet.deleted
    for _ in range(5):
        assert fleet.step(waiting, warm).idle == ()
        fleet.now += timedelta(seconds=COOL_DOWN_S)
    assert (fleet.made, fleet.deleted) == before  # no flapping


@given(most=st.integers(1, 5), waiting=st.integers(1, 20))
def test_while_it_is_replaced_at_most_one_pod_less_takes_calls(most: int, waiting: int) -> None:
    wanted = min(most, -(-waiting // DEMAND.slots_per_worker))
    fleet = Fleet(most, earlier=[old(index) for index in range(wanted)])
    for _ in range(4 * most):
        done = fleet.step(waiting)
        closing = {item.meta.uid for item in done.closing}
        taking = sum(item.ready for item in fleet.pods)
        taking += sum(item.meta.uid not in closing for item in fleet.earlier)
        assert taking >= wanted - 1
        fleet.start_pods()
    assert fleet.earlier == []
