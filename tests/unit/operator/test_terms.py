"""A Campaign's word as it is now holds for its sessions; those made by hand have their own."""

from __future__ import annotations

from uuid import UUID

from tests.unit.operator.test_explain import campaign, stored

from callfleet_operator.objects import Session
from callfleet_operator.plan.terms import ceiling_micros, priority, time_limit_s

CHANGED = campaign(
    "spring", priority=7, limits={"perCall": "0.50"}, call={"from": ["+15550100199"], "maxDurationSeconds": 60}
)


def waiting(**spec: object) -> Session:
    born = {"priority": 1, "maxCost": "0.90", "maxDurationSeconds": 300, **spec}
    spec = {"campaign": "spring", "contactID": str(UUID(int=7)), **born}
    return Session.of(stored({"metadata": {"name": "spring-1"}, "spec": spec}))


def test_what_a_campaign_says_now_holds_for_its_own_sessions() -> None:
    session = waiting(campaignUID=str(UUID(int=1)))
    assert (priority(session, CHANGED), time_limit_s(session, CHANGED)) == (7, 60)
    assert ceiling_micros(session, CHANGED) == 500_000


def test_a_session_made_by_hand_has_its_own() -> None:
    session = waiting()
    assert (priority(session, CHANGED), time_limit_s(session, CHANGED)) == (1, 300)
    assert ceiling_micros(session, CHANGED) == 900_000
