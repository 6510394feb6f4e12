"""What happened lately: remembered for a moment, and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from callfleet_operator.lately import Lately

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
FOR, SECOND = timedelta(seconds=5), timedelta(seconds=1)


def test_what_happened_is_remembered_for_a_moment() -> None:
    views = Lately[str](FOR)
    views.note("spring-1", NOW)
    assert views.has("spring-1", NOW + FOR - SECOND)
    assert not views.has("spring-1", NOW + FOR)
    assert not views.has("spring-2", NOW)


def test_what_happens_again_is_remembered_anew() -> None:
    views = Lately[str](FOR)
    views.note("spring-1", NOW)
    views.note("spring-2", NOW)
    views.note("spring-1", NOW + FOR - SECOND)
    assert views.has("spring-1", NOW + FOR)


def test_what_nobody_asks_about_is_forgotten() -> None:
    views = Lately[int](FOR)
    for second in range(1_000):
        views.note(second, NOW + second * SECOND)
    assert len(views) <= FOR / SECOND + 1
