"""The demo's summary in words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from tests.unit.cli.demo_scenes import TYPES, ended, middle, session, summary, waiting

from callfleet.checkout import sample
from callfleet.demo.report import check_lines, report, waiting_lines
from callfleet.demo.scene import Books, make_scene
from callfleet.demo.words import answer_words, learned_words, question_types, session_words
from callfleet_core.api.callsession import Reason, SessionState


def test_the_report_tells_who_what_and_how_much() -> None:
    console = Console(file=io.StringIO(), width=140)
    with console.capture() as capture:
        console.print(report(summary(), middle(), TYPES))
    text = capture.get()
    assert "2 of 4 people were called" in text
    assert "interested: yes, property: condo, budget: $450,000, timeline: 1 to 31 May 2026" in text
    assert "0.85" in text
    assert "Casey, Devon: waits for money, 0.014 missing" in text
    assert "ledger and carrier agree: both say 0.072" in text
    assert "8 turns understood (6 by grammar, 2 by the model)" in text


def test_a_difference_between_ledger_and_carrier_is_said_loudly() -> None:
    lines = [line.plain for line in check_lines(summary(carrier_billed="0.09", overspent=True))]
    assert lines == [
        "✗ OVERSPENT: 0.072 spent and 0.00 held of 0.09",
        "✗ LEDGER AND CARRIER DIFFER: the carrier billed 0.09, the ledger has 0.072 for it",
    ]


def test_amounts_that_differ_only_in_zeros_agree() -> None:
    assert check_lines(summary(carrier_billed="0.0720"))[1].plain.startswith("✓")


def test_a_demo_that_called_nobody_still_has_a_report() -> None:
    nothing = summary(calls=[], first_dial_s=None, carrier_billed="0.00")
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(report(nothing, make_scene(0.0, [], Books({}, [], [])), {}))
    assert "0 of 4 people were called" in capture.get()
    assert "no turn was heard" in capture.get()


def test_those_who_wait_for_the_same_share_a_line() -> None:
    sessions = [waiting(0, "a"), waiting(1, "b"), ended(2, "c", "qualified"), session(3, "d", reason="NoConsent")]
    lines = [line.plain for line in waiting_lines(make_scene(0.0, sessions, Books({}, [], [])))]
    assert lines == [
        "  spring-leads-1-a, spring-leads-1-b: waits for money, 0.014 missing",
        "  spring-leads-1-d: not called: gave no consent",
    ]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_waiting_reason_reads_as_words(reason: Reason) -> None:
    (line,) = make_scene(0.0, [session(0, "a", state="Pending", reason=reason.value)], Books({}, [], [])).sessions
    assert reason.value not in session_words(line)
    assert len(session_words(line).split()) > 1


@pytest.mark.parametrize("state", list(SessionState))
def test_every_state_has_words(state: SessionState) -> None:
    (line,) = make_scene(0.0, [session(0, "a", state=state.value)], Books({}, [], [])).sessions
    assert session_words(line)


def test_a_reason_of_a_newer_operator_is_still_readable() -> None:
    (line,) = make_scene(0.0, [session(0, "a", reason="CarrierNotFound", shortfall="1.20")], Books({}, [], [])).sessions
    assert session_words(line) == "waits: carrier not found, 1.20 missing"


def test_a_retry_says_when() -> None:
    retry = session(0, "a", reason="RetryScheduled", retryAt="2026-03-04T05:06:07Z")
    (line,) = make_scene(0.0, [retry], Books({}, [], [])).sessions
    assert session_words(line) == "is tried again at 05:06:07 UTC"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("YesNo", "yes", "yes"),
        ("Number", "3", "3"),
        ("Choice", "condo", "condo"),
        ("Text", "call my wife", "“call my wife”"),
        ("Money", "450000", "$450,000"),
        ("Money", "1250.5", "$1,250.5"),
        ("Money", "a lot", "a lot"),
        ("DateRange", "2026-05-05/2026-05-05", "5 May 2026"),
        ("DateRange", "2026-05-15/2026-06-03", "15 May to 3 June 2026"),
        ("DateRange", "2026-12-15/2027-01-03", "15 December 2026 to 3 January 2027"),
        ("DateRange", "soon", "soon"),
        (None, "whatever", "whatever"),
    ],
)
def test_answers_read_as_people_write_them(kind: str | None, value: str, expected: str) -> None:
    assert answer_words(value, kind, "USD") == expected


def test_a_currency_without_a_sign_is_named() -> None:
    assert answer_words("5000", "Money", "CHF") == "5,000 CHF"


def test_answers_come_in_the_order_of_the_questions() -> None:
    fields = {"later": "x", "timeline": "2026-05-05/2026-05-05", "interested": "yes"}
    assert learned_words(fields, TYPES, "USD") == ["interested: yes", "timeline: 5 May 2026", "later: x"]


def test_the_sample_campaign_names_its_answers_types() -> None:
    types = question_types(sample("demo-campaign.yaml"))
    assert types["budget"] == "Money"
    assert types["timeline"] == "DateRange"
