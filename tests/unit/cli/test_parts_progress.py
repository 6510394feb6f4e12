"""What the progress display says about time."""

import pytest

from callfleet.parts.progress import Board, Row, State, Step, duration_text, left_s, pace, row_text


def board(*steps: Step) -> Board:
    return Board(steps)


def test_before_anything_runs_the_slowest_lane_is_what_is_left() -> None:
    rows = board(Step("a", "A", 60, "cpu"), Step("b", "B", 40, "cpu"), Step("c", "C", 70, "net")).rows
    assert left_s(rows, now_s=0.0) == 100.0


def test_a_machine_twice_as_slow_as_estimated_doubles_what_is_left() -> None:
    steps = board(Step("a", "A", 60), Step("b", "B", 40))
    steps.start("a", 0.0)
    steps.end("a", State.DONE, 120.0)
    assert pace(steps.rows) == 2.0
    assert left_s(steps.rows, 120.0) == 80.0


def test_pace_is_bounded_so_that_one_cached_step_does_not_promise_wonders() -> None:
    steps = board(Step("a", "A", 600), Step("b", "B", 100))
    steps.start("a", 0.0)
    steps.end("a", State.DONE, 1.0)
    assert left_s(steps.rows, 1.0) == 50.0


def test_what_was_there_already_says_nothing_about_the_pace() -> None:
    steps = board(Step("a", "A", 60), Step("b", "B", 40))
    steps.end("a", State.SKIPPED, 0.1)
    assert pace(steps.rows) == 1.0
    assert left_s(steps.rows, 0.1) == 40.0


def test_an_overdue_step_still_shows_time_left() -> None:
    steps = board(Step("a", "A", 100))
    steps.start("a", 0.0)
    assert left_s(steps.rows, 500.0) == 10.0


def test_a_finished_run_has_nothing_left() -> None:
    steps = board(Step("a", "A", 10))
    steps.start("a", 0.0)
    steps.end("a", State.DONE, 9.0)
    assert left_s(steps.rows, 9.0) == 0.0


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (99, "99 s"), (100, "1 min 40 s"), (605, "10 min 05 s")])
def test_durations_are_said_in_minutes_from_a_hundred_seconds_on(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_running_row_says_how_long_and_of_what() -> None:
    row = Row(Step("a", "Kubernetes", 275), State.RUNNING, started_s=10.0)
    assert row_text(row, 40.0) == "Kubernetes: 30 s of about 4 min 35 s"


def test_a_fast_download_promises_no_fast_compiler() -> None:
    steps = board(Step("models", "M", 60, "net"), Step("k8s", "K", 275, "cpu"))
    steps.start("models", 0.0)
    steps.end("models", State.DONE, 2.0)
    assert left_s(steps.rows, 2.0) == 275.0
