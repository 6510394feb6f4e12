"""Questions that would never be asked, or answers that could never count, are refused by a real API server."""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError

import pytest
from tests.integration.fleet_parts import Fleet

AGENT = {"persona": "Robin", "llm": {"model": "llama3.2:3b"}, "opening": "Hello.", "closing": "Goodbye."}
SURE: dict[str, Any] = {"name": "sure", "type": "YesNo", "ask": ["Are you sure?"]}
KIND: dict[str, Any] = {"name": "kind", "type": "Choice", "ask": ["Which?"], "choices": ["Flat", "house"]}
ROOMS: dict[str, Any] = {"name": "rooms", "type": "Number", "ask": ["How many rooms?"]}
MOVE: dict[str, Any] = {"name": "move", "type": "DateRange", "ask": ["When?"]}
EARLIER, POSSIBLE = "must be the name of an earlier question", "must hold answers that its question can have"


def after(question: str, *answers: str) -> dict[str, Any]:
    return {"when": {"question": question, "is": list(answers)}}


def counts(**how: Any) -> dict[str, Any]:
    return {"qualify": {"weight": 2, **how}}


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([SURE | after("sure", "yes")], EARLIER),
        ([SURE | after("kind", "house"), KIND | after("sure", "yes")], EARLIER),
        ([SURE, KIND | after("surely", "yes")], EARLIER),
        ([SURE, KIND | after("sure", "Yes")], f"when.is {POSSIBLE}"),
        ([KIND, SURE | after("kind", "house", "flat")], f"when.is {POSSIBLE}"),
        ([SURE | counts(**{"is": ["true"]})], f"qualify.is {POSSIBLE}"),
        ([KIND | counts(**{"is": ["condo"]})], f"qualify.is {POSSIBLE}"),
        ([ROOMS | counts(min="4", max="3.5")], "qualify.min must not be above qualify.max"),
        ([SURE | counts(min="1")], "qualify.min and qualify.max are for questions of type Number or Money"),
        ([ROOMS | counts(withinDays=3)], "qualify.withinDays is for questions of type DateRange"),
    ],
)
def test_what_would_never_be_asked_or_never_count_is_refused(
    fleet: Fleet, questions: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(HTTPError) as refused:
        fleet.apply(1, agent={**AGENT, "questions": questions})
    assert message in refused.value.read().decode()


def test_what_follows_from_earlier_answers_is_taken_and_may_be_changed(fleet: Fleet) -> None:
    questions = [
        SURE | counts(**{"is": ["yes"]}),
        KIND | after("sure", "yes") | counts(**{"is": ["Flat"]}),
        ROOMS | after("kind", "Flat", "house") | counts(min="2", max="10"),
        MOVE | after("rooms", "3") | counts(withinDays=90),
    ]
    fleet.apply(1, agent={**AGENT, "questions": questions})
    fleet.change(agent={"questions": questions[:2]})
    for worse in (questions[1:], questions[1::-1]):
        with pytest.raises(HTTPError) as refused:
            fleet.change(agent={"questions": worse})
        assert EARLIER in refused.value.read().decode()
