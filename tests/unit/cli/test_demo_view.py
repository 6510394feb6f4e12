"""What a demo's live screen shows of a scene."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType
from tests.unit.cli.demo_scenes import BUDGET, TALK, ended, middle, session, waiting

from callfleet.demo.scene import Books, Saying, make_scene
from callfleet.demo.show import Narrator, plain_line, showing
from callfleet.demo.view import bar, budget_line, chosen, screen


def printed(picture: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(picture)
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_screen_tells_states_money_and_the_conversation(width: int) -> None:
    text = " ".join(" ".join(printed(screen(middle(), width, 24), width)).replace("│", " ").split())
    for expected in ("1 InProgress", "qualified, 92 s, cost 0.036", "waits for money, 0.014 missing"):
        assert expected in text
    assert "spent 0.036, held 0.036, free 0.018 of 0.09 USD" in text
    assert "Bailey, on the line for 43 s" in text
    assert "agent: Are you looking for a house?" in text
    assert "Bailey: A condo, please." in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 24), (120, 40), (100, 20)])
def test_many_sessions_and_a_long_talk_stay_within_the_terminal(width: int, height: int) -> None:
    sessions = [ended(index, f"a{index}", "qualified") for index in range(30)]
    sessions += [waiting(30 + index, f"b{index}") for index in range(30)]
    talk = replace(TALK, sayings=[Saying(index % 2 == 0, "one two three " * 20) for index in range(24)])
    scene = make_scene(75.0, sessions, Books({}, [BUDGET], [talk]))
    lines = printed(screen(scene, width, height), width)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


def test_the_newest_words_of_a_long_talk_are_the_ones_shown() -> None:
    talk = replace(TALK, sayings=[Saying(True, f"sentence number {index}") for index in range(40)])
    text = "\n".join(printed(screen(replace(middle(), talks=[talk]), 120, 24), 120))
    assert "sentence number 39" in text
    assert "sentence number 0" not in text


def test_live_sessions_are_never_left_out() -> None:
    sessions = [ended(index, f"a{index}", "qualified") for index in range(30)]
    sessions.append(session(30, "live", state="Dialing"))
    sessions += [waiting(31 + index, f"b{index}") for index in range(30)]
    lines = make_scene(1.0, sessions, Books({}, [], [])).sessions
    shown, left_out = chosen(lines, 7)
    assert len(shown) == 7
    assert left_out == 54
    assert "Dialing" in {line.state for line in shown}
    assert {line.state for line in shown} == {"Dialing", "Pending", "Completed"}


def test_the_last_one_called_is_shown_rather_than_the_first() -> None:
    lines = make_scene(1.0, [ended(i, f"a{i}", "qualified") for i in range(9)], Books({}, [], [])).sessions
    assert [line.key for line in chosen(lines, 2)[0]] == ["spring-leads-1-a7", "spring-leads-1-a8"]


@pytest.mark.parametrize(
    ("limit", "spent", "held", "expected"),
    [
        (100, 0, 0, "░░░░░░░░░░"),
        (100, 50, 20, "█████▓▓░░░"),
        (100, 1, 1, "█▓░░░░░░░░"),
        (100, 100, 0, "██████████"),
        (100, 250, 100, "██████████"),
        (0, 0, 0, "░░░░░░░░░░"),
        (0, 5, 5, "██████████"),
    ],
)
def test_the_bar_is_always_as_wide_and_hides_no_money(limit: int, spent: int, held: int, expected: str) -> None:
    assert bar(limit, spent, held, 10).plain == expected


def test_a_budget_without_a_limit_has_no_bar() -> None:
    unlimited = budget_line(replace(BUDGET, limit_micros=None)).plain
    assert unlimited == "demo-budget: spent 0.036, held 0.036 USD, no limit"


def test_before_the_first_call_the_screen_says_so() -> None:
    scene = make_scene(0.0, [], Books({}, [], []))
    assert "Nobody has been called yet." in "\n".join(printed(screen(scene, 80, 24), 80))


def test_a_name_that_looks_like_markup_is_shown_as_it_is() -> None:
    scene = make_scene(0.0, [waiting(0, "x")], Books({"spring-leads-1-x": "[red]Mal[/red]"}, [], []))
    assert "[red]Mal[/red]" in "\n".join(printed(screen(scene, 80, 24), 80))


def test_logs_tell_each_change_once_and_nothing_of_what_was_said() -> None:
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        narrator = Narrator(console)
        narrator.tell(middle())
        narrator.tell(replace(middle(), elapsed_s=99.0))
    lines = capture.get().splitlines()
    assert len(lines) == 4
    assert "  spring-leads-1-casey  Pending (BudgetExhausted, 0.014 missing)" in lines
    assert "  spring-leads-1-alex  Completed qualified, 92 s, cost 0.036" in lines
    assert not [line for line in lines if "condo" in line or "Bailey" in line]


def test_a_held_session_names_its_money_and_its_worker() -> None:
    held = session(0, "x", state="Admitted", worker="pool-1-0", attempt={"id": "x", "number": 1, "held": "0.036"})
    (line,) = make_scene(0.0, [held], Books({}, [], [])).sessions
    assert plain_line(line) == "Admitted 0.036 held, on pool-1-0"


def test_a_log_gets_lines_and_a_terminal_gets_a_screen_that_leaves_nothing() -> None:
    log, terminal = io.StringIO(), io.StringIO()
    for file, is_terminal in ((log, False), (terminal, True)):
        with showing(Console(file=file, width=120, height=30, force_terminal=is_terminal)) as shown:
            shown.tell(middle())
    assert "spring-leads-1-alex  Completed" in log.getvalue()
    assert "waits for money" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K") or "\x1b[1A" in terminal.getvalue()
