"""The protocol on the model alone, with the operator's planners, and with PostgreSQL beside it."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test
from tests.chaos.defects import Patch, put
from tests.chaos.model.beside import profile, run_beside
from tests.chaos.model.machine import LedgerMachine
from tests.chaos.model.planned import PlannedMachine

# What a checker of what was done cannot see: a hold that was refused wrongly, or for another reason than is told.
REFUSALS = {
    "held-is-forgotten-in-the-shortfall": Patch(
        "ledger_refusal",
        "v_this := v.spent_micros + v.held_micros + p_amount - v.limit_micros",
        "v_this := v.spent_micros + p_amount - v.limit_micros",
    ),
    "held-money-is-called-spent": Patch(
        "ledger_refusal",
        "IF v.spent_micros + p_amount > v.limit_micros",
        "IF v.held_micros + p_amount > v.limit_micros",
    ),
    "held-for-another-hour": Patch("hold_grant", "WHEN k.hours IS NOT NULL", "WHEN false AND k.hours IS NOT NULL"),
    "dialled-in-another-hour": Patch("begin_dial", "IF NOT hours_open(", "IF false AND NOT hours_open("),
    "a-campaigns-pace-is-not-kept": Patch("begin_dial", "pace_wait(v_campaign.next_dial_at", "pace_wait(NULL"),
    "another-limit-than-a-newer-one": Patch("ledger_set_limit", "v.limit_generation > p_generation", "false"),
    "an-overrun-ends-at-midnight": Patch("overrun_windows", "OR k.window_start < v.window_start", ""),
    "an-overrun-is-looked-at-one-window-a-time": Patch(
        "overrun_clear", "WHERE id = ANY(v_ids) AND overrun", "WHERE key = ANY(p_accounts) AND overrun"
    ),
}


def test_what_the_protocol_promises_holds_by_itself() -> None:
    run_state_machine_as_test(LedgerMachine, settings=profile(500, steps=25))


def test_whatever_the_planners_decide_the_books_stay_right() -> None:
    run_state_machine_as_test(PlannedMachine, settings=profile(500, steps=20))


def test_postgresql_answers_as_the_model_does(database_url: str) -> None:
    assert run_beside(database_url, 80, shrink=False) > 1_000


@pytest.mark.parametrize("defect", REFUSALS)
def test_a_wrong_answer_of_postgresqls_is_found(database_url: str, defect: str) -> None:
    put(database_url, defect, REFUSALS[defect])
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_beside(database_url, 400, shrink=False)
