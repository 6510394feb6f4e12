"""Views whose write failed: passed over for a moment, and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from callfleet_operator.stale import STALE_FOR, StaleViews

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY = ("sales", "spring-1")


def test_a_view_is_passed_over_until_a_newer_one_or_a_moment_has_come() -> None:
    views = StaleViews()
    views.mark(KEY, "7", NOW)
    assert views.holds(KEY, "7", NOW + STALE_FOR - timedelta(seconds=1))
    assert not views.holds(KEY, "7", NOW + STALE_FOR)
    views.mark(KEY, "7", NOW)
    assert not views.holds(KEY, "8", NOW)
    assert len(views) == 0


def test_a_second_failure_is_waited_for_anew() -> None:
    views = StaleViews()
    views.mark(KEY, "7", NOW)
    views.mark(KEY, "7", NOW + STALE_FOR - timedelta(seconds=1))
    assert views.holds(KEY, "7", NOW + STALE_FOR)


def test_sessions_that_nobody_asks_about_again_are_forgotten() -> None:
    views = StaleViews()
    for second in range(1_000):
        views.mark(("sales", f"gone-{second}"), "7", NOW + timedelta(seconds=second))
    assert len(views) <= STALE_FOR.total_seconds() + 1
