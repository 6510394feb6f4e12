"""One whole campaign on real pods: a person talks, money runs out, a raised limit lets the next one in."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.cluster.world import World

from callfleet.demo.run import carrier_bill
from callfleet_core.money import MICROS_PER_UNIT

WILLING, BUSY, STRANGER = "+15550100100", "+15550100102", "+15550100101"
OVERSPENT = """
SELECT 1 FROM (SELECT kind, limit_micros, sum(held_micros + spent_micros) OVER (PARTITION BY account_id ORDER BY id) b
FROM ledger_entries) e WHERE kind = 'hold' AND limit_micros IS NOT NULL AND b > limit_micros
"""


@pytest.mark.timeout(600)
def test_a_campaign_calls_within_its_budget_and_goes_on_when_it_is_raised(world: World) -> None:
    billed_before = carrier_bill(world.installation)
    spent_before = _spent(world)
    campaign = world.campaign([WILLING, BUSY], without_consent=[STRANGER])
    world.apply(world.budget("0.05"), campaign)
    world.until(lambda: world.states() == ["Completed", "BudgetExhausted", "NoConsent"], "one call, then no money", 300)
    _check_conversation(world)
    waiting = world.sessions()[1]["status"]
    assert waiting["shortfall"] == "0.022"
    assert world.attempts()[0]["state"] == "settled"
    world.apply(world.budget("0.10"))  # GitOps raises the limit
    world.until(lambda: world.states() == ["Completed", "Completed", "NoConsent"], "the raise admits the next", 120)
    assert world.sessions()[1]["status"]["result"]["disposition"] == "busy"
    assert world.budget_balance()["held_micros"] == 0
    assert world.rows(OVERSPENT) == []
    assert world.carrier_calls(STRANGER) == []
    assert carrier_bill(world.installation) - billed_before == _spent(world) - spent_before
    text = world.installation.kubectl("describe", "callsessions", "-n", world.namespace)
    assert WILLING not in text  # no number in any object that we make


def _spent(world: World) -> Decimal:
    (row,) = world.rows(
        "SELECT COALESCE(sum(amount_micros), 0) AS micros FROM cost_lines"
        " WHERE meter LIKE 'carrier_%%' AND %(namespace)s <> ''"  # of every test: the carrier's bill is one, too
    )
    return Decimal(row["micros"]) / MICROS_PER_UNIT


def _check_conversation(world: World) -> None:
    """What the person said was heard, decided what came next, and is stored as the lead's fields."""
    (call,) = world.rows(
        "SELECT c.*, s.fields, s.qualification_score FROM calls c JOIN dial_attempts a ON a.id = c.id"
        " JOIN lead_scores s ON s.call_id = c.id WHERE a.namespace = %(namespace)s"
    )
    turns = world.rows("SELECT * FROM conversations WHERE call_id = %(call)s ORDER BY seq", call=call["id"])
    heard = [turn for turn in turns if turn["message_type"] == "user" and turn["metadata"].get("value")]
    assert len(heard) >= 3
    assert call["turns"] >= 3
    assert len(call["fields"]) >= 3
    assert {turn["metadata"]["question"] for turn in heard} <= set(call["fields"])
    assert call["fields"]["interested"] == "yes"
    assert "callback" not in call["fields"]  # asked only of those who are not interested
    assert sum(call["decided_by"].values()) >= 3
