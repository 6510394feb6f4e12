"""A script of a real-estate campaign, for the tests of agents."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

from callfleet_core.script import CallScript
from callfleet_worker.agents.flow import CallPlan
from callfleet_worker.agents.phrases import Phrasebook

TODAY = date(2026, 11, 22)
ATTEMPT = UUID(int=7)


_QUESTIONS: list[dict[str, Any]] = [
    {
        "name": "interested",
        "type": "YesNo",
        "ask": ["Are you still thinking about buying a home this year?"],
        "lead": "interest",
        "qualify": {"is": ["yes"], "weight": 3},
    },
    {
        "name": "property",
        "type": "Choice",
        "choices": ["house", "condo", "townhouse"],
        "ask": ["Are you looking for a house, a condo, or a townhouse?"],
        "when": {"question": "interested", "is": ["yes"]},
    },
    {
        "name": "bedrooms",
        "type": "Number",
        "ask": ["How many bedrooms do you need?"],
        "when": {"question": "property", "is": ["house"]},
        "required": False,
    },
    {
        "name": "parking",
        "type": "YesNo",
        "ask": ["Do you need a parking space?"],
        "when": {"question": "property", "is": ["condo", "townhouse"]},
    },
    {
        "name": "budget",
        "type": "Money",
        "ask": ["What price range do you have in mind?"],
        "lead": "budget",
        "when": {"question": "interested", "is": ["yes"]},
        "qualify": {"min": "300000", "weight": 2},
    },
    {
        "name": "timeline",
        "type": "DateRange",
        "ask": ["When would you like to move?"],
        "lead": "timeline",
        "when": {"question": "interested", "is": ["yes"]},
        "qualify": {"withinDays": 180},
    },
    {
        "name": "decision",
        "type": "YesNo",
        "ask": ["Will you be making the decision yourself?"],
        "lead": "decisionMaker",
        "when": {"question": "interested", "is": ["yes"]},
        "qualify": {"is": ["yes"]},
    },
    {
        "name": "callback",
        "type": "YesNo",
        "ask": ["Would it be all right if we called you again in a few months?"],
        "when": {"question": "interested", "is": ["no"]},
    },
]


def real_estate(**changes: Any) -> CallScript:
    """Seven questions with a branch; whoever is not interested gets one of their own."""
    base: dict[str, Any] = {
        "persona": "Sam, an assistant of Harbor Homes.",
        "llmModel": "smollm2",
        "opening": "Hello{name}, this is Sam, an automated assistant calling from Harbor Homes.".replace(
            "{name}", ", {name}"
        ),
        "closing": "Thank you, that is all. Goodbye.",
        "questions": _QUESTIONS,
    }
    return CallScript.model_validate({**base, **changes})


def plan_of(script: CallScript | None = None, name: str | None = None) -> CallPlan:
    """The call's plan on a Sunday in November 2026."""
    script = script or real_estate()
    return CallPlan(script, Phrasebook(script, ATTEMPT, name), TODAY)
