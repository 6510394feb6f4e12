"""What is said of an account that stopped."""

from __future__ import annotations

from dataclasses import replace

from callfleet_core.ledger import Balance
from callfleet_operator.plan.stops import overrun_told, why_stopped

OWN = Balance(
    key="sales/Campaign/spring/total", namespace="sales", kind="Campaign", name="spring", time_window="total",
    window_start=None, window_end=None, currency="USD", limit_micros=None, held_micros=0, spent_micros=0, closed=False,
    suspended=False, overrun=True, overrun_meters=[], limit_uid="u", limit_generation=1,
)  # fmt: skip
SHARED = replace(OWN, key="/Installation/uncovered/daily/2026-11-22", namespace="", kind="Installation")


def test_what_can_be_changed_is_named_and_the_installations_account_has_its_command_only() -> None:
    assert "then change the Campaign spring or run `callfleet ledger overruns clear`" in why_stopped(OWN)
    assert why_stopped(SHARED) == (
        "the account /Installation/uncovered/daily/2026-11-22 was overrun: correct the price list, then run"
        " `callfleet ledger overruns clear`"
    )
    assert why_stopped(replace(OWN, overrun=False)) == ""


def test_an_object_says_which_meters_ran_beyond_what_was_held() -> None:
    assert overrun_told("Campaign", [replace(OWN, overrun=False)]) == (False, "WithinHolds", "")
    assert overrun_told("Campaign", [OWN])[:2] == (True, "AboveHold")
    above = overrun_told("Campaign", [OWN, replace(OWN, overrun_meters=["media", "carrier"])])
    assert above[:2] == (True, "AboveCap")
    assert above[2].startswith("beyond what was held for: carrier, media; correct the price list")
