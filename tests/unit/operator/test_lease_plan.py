"""Who may lead: decided by our own clock from what is read, never by another machine's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from callfleet_operator.plan.lease import DURATION_S, RENEW_DEADLINE_S, LeaseView, held_spec, may_hold, released_spec

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
THEIRS = held_spec(None, "them", NOW)


def test_a_lease_that_nobody_holds_is_taken() -> None:
    assert may_hold(LeaseView(None, 0), "me", 0)
    assert may_hold(LeaseView(released_spec(THEIRS, NOW), 0), "me", 0)


def test_its_holder_renews_it_whenever_it_likes() -> None:
    assert may_hold(LeaseView(THEIRS, 0), "them", 1_000)
    renewed = held_spec(THEIRS, "them", NOW + timedelta(seconds=2))
    assert (renewed["acquireTime"], renewed["leaseTransitions"]) == (THEIRS["acquireTime"], 1)
    assert renewed["renewTime"] == "2026-11-22T09:00:02.000000Z"


def test_another_waits_for_its_whole_duration_since_it_saw_the_last_renewal() -> None:
    view = LeaseView(None, 0).read(THEIRS, 100)
    assert not may_hold(view, "me", 100 + DURATION_S)
    assert may_hold(view, "me", 100.1 + DURATION_S)
    renewed = view.read(held_spec(THEIRS, "them", NOW + timedelta(seconds=2)), 108)
    assert not may_hold(renewed, "me", 100.1 + DURATION_S)


def test_a_lease_read_again_as_it_was_is_no_renewal() -> None:
    view = LeaseView(None, 0).read(THEIRS, 100).read(dict(THEIRS), 105)
    assert view.unchanged_since_s == 100


def test_a_clock_that_is_wrong_by_years_changes_nothing() -> None:
    long_ago = held_spec(None, "them", NOW - timedelta(days=10_000))
    assert not may_hold(LeaseView(None, 0).read(long_ago, 100), "me", 101)


def test_a_new_holder_counts_a_transition() -> None:
    taken = held_spec(THEIRS, "me", NOW)
    assert (taken["holderIdentity"], taken["leaseTransitions"]) == ("me", 2)


def test_who_cannot_renew_stops_before_another_may_begin() -> None:
    assert RENEW_DEADLINE_S < DURATION_S
