"""The LangGraph team: grammar first, the model as second opinion, acknowledgements in time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.unit.agents.scripts import plan_of

from callfleet_worker.agents.graph import Team, Turned
from callfleet_worker.agents.state import CallState, Line
from callfleet_worker.llm.client import LlmUnavailableError


class ScriptedModel:
    """Answers with what the test wrote, after a delay; counts what it was asked."""

    def __init__(self, *answers: str, delay_s: float = 0.0) -> None:
        self.answers, self.delay_s, self.asked = list(answers), delay_s, 0

    async def ask(self, *_: Any, deadline_s: float, **__: Any) -> str:
        self.asked += 1
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.sleep(self.delay_s)
        except TimeoutError as error:
            raise LlmUnavailableError("late") from error
        return self.answers.pop(0)


async def ready(_text: str) -> bool:
    return True


async def run(team: Team, state: CallState, heard: str) -> tuple[list[Line], Turned]:
    lines, turned = [], None
    async for part in team.run("heard" if heard else "start", state, heard):
        if isinstance(part, Turned):
            turned = part
        else:
            lines.append(part)
    assert turned is not None
    return lines, turned


async def test_a_call_runs_without_a_model() -> None:
    team = Team(plan_of(), None, ready)
    lines, turned = await run(team, CallState(), "")
    assert [line.kind for line in lines] == ["opening", "question"]
    lines, turned = await run(team, turned.reply.state, "Yes, I am.")
    assert [line.kind for line in lines] == ["ack", "question"]
    assert turned.meant.decided_by == "grammar"
    assert turned.reply.state.answers["interested"].value == "yes"


async def test_the_model_decides_where_the_grammars_abstain() -> None:
    model = ScriptedModel(json.dumps({"evidence": "that ship has sailed", "value": "no"}))
    team = Team(plan_of(), model, ready, ack_deadline_s=0.0)
    _, started = await run(team, CallState(), "")
    _, turned = await run(team, started.reply.state, "Oh, that ship has sailed.")
    assert turned.meant.decided_by == "llm"
    assert turned.reply.state.answers["interested"].value == "no"
    assert turned.reply.state.pending == "callback"


async def test_an_opinion_that_quotes_nothing_said_is_not_taken() -> None:
    model = ScriptedModel(json.dumps({"evidence": "I am interested", "value": "yes"}))
    team = Team(plan_of(), model, ready)
    _, started = await run(team, CallState(), "")
    lines, turned = await run(team, started.reply.state, "Oh, that ship has sailed.")
    assert turned.meant.decided_by == "template"
    assert [line.kind for line in lines] == ["reask"]


async def test_doubt_is_never_given_to_the_model() -> None:
    model = ScriptedModel()
    team = Team(plan_of(), model, ready)
    _, started = await run(team, CallState(), "")
    await run(team, started.reply.state, "I really don't know about that.")
    assert model.asked == 0


async def test_an_acknowledgement_in_time_is_spoken() -> None:
    team = Team(plan_of(), ScriptedModel("That sounds wonderful!"), ready)
    _, started = await run(team, CallState(), "")
    lines, _ = await run(team, started.reply.state, "Yes, I am.")
    assert lines[0].text == "That sounds wonderful!"


async def test_late_acknowledgements_fall_back_to_the_template_and_stop_being_asked_for() -> None:
    model = ScriptedModel(delay_s=5.0)
    team = Team(plan_of(), model, ready, ack_deadline_s=0.02)
    _, turned = await run(team, CallState(), "")
    for heard in ("Yes.", "A condo.", "Yes.", "400 thousand"):
        lines, turned = await run(team, turned.reply.state, heard)
        assert lines[0].text in {"Great.", "Good to hear.", "Wonderful.", "Got it.", "Thank you.", "Okay, thanks."}
    assert model.asked == 2


async def test_a_slow_model_is_covered_by_a_filler() -> None:
    model = ScriptedModel(json.dumps({"evidence": "that ship has sailed", "value": "no"}), delay_s=0.9)
    team = Team(plan_of(), model, ready, ack_deadline_s=0.0)
    _, started = await run(team, CallState(), "")
    lines, _ = await run(team, started.reply.state, "Oh, that ship has sailed.")
    assert lines[0].kind == "filler"
