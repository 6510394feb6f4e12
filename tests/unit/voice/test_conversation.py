"""Turn-taking: greetings, answers, talking over, silence, the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.voice.stage import FAST, Person, conversation

from callfleet_worker.voice.transcript import AgentTurn
from callfleet_worker.voice.turns import Timings

FIRST = "still thinking about buying"
SECOND = "a house, a condo"


async def test_we_wait_for_the_hello_and_it_answers_nothing(tmp_path: Path) -> None:
    slow = Timings(greeting_wait_s=2.0, greeting_length_s=2.0, silence_s=0.3, mark_grace_s=0.2)
    async with conversation(tmp_path, slow) as person:
        await person.starts()
        assert person.line.said == []
        await person.says("Hello?")
        await person.hears(FIRST)
        await person.may_speak()
        assert person.talk.state.answers == {}
        assert person.user_turns()[0].metadata["greeting"] is True


async def test_nobody_says_hello_and_we_begin(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        assert person.user_turns() == []


async def test_an_answer_is_taken_asked_on_and_noted(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        await person.says("Yes, I am.")
        await person.hears(SECOND)
        await person.may_speak()
        assert person.talk.state.answers["interested"].value == "yes"
        turn = person.user_turns()[-1]
        assert turn.metadata["question"] == "interested"
        assert turn.metadata["decided_by"] == "grammar"
        assert turn.latency_ms is not None
        assert 0 <= (await turn.latency_ms or -1) < 500
        assert isinstance(person.notes.turns[-1], AgentTurn)


async def test_the_hello_after_the_opening_only_repeats_the_question(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        await person.says("Hello?")
        await person.hears(FIRST)
        await person.may_speak()
        assert person.talk.state.answers == {}


async def test_going_on_after_a_short_answer_takes_the_turn_back(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        await person.says("Well, no.")
        await person.hears("all right if we called")
        await person.starts()
        await person.goes_on()
        await person.says("Wait, yes, I am.")
        await person.hears(SECOND)
        assert person.line.cleared == 1
        await person.may_speak()
        assert person.talk.state.answers["interested"].value == "yes"
        assert person.user_turns()[-1].text == "Well, no. Wait, yes, I am."


async def test_mm_hm_while_we_speak_changes_nothing(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears("automated assistant")
        await person.says("Mm-hmm.")
        await person.may_speak()
        assert person.line.cleared == 0
        assert person.user_turns()[-1].metadata["backchannel"] is True
        assert person.talk.state.answers == {}


async def test_stop_calling_stops_us_in_mid_sentence(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears("automated assistant")
        await person.says("Stop calling me.")
        await person.hears("take you off our list")
        await asyncio.wait_for(person.over.wait(), 3)
        assert person.line.cleared == 1
        assert person.talk.state.disposition == "optedOut"


class Slow:
    """A model that never has an opinion in time."""

    async def ask(self, *_said: object, **_limits: object) -> str:
        await asyncio.sleep(60)
        return ""


async def while_we_think(person: Person) -> None:
    """Asked about the property; something that only the model could understand, and our filler."""
    await person.hears(FIRST)
    await person.may_speak()
    await person.says("Yes.")
    await person.hears(SECOND)
    await person.may_speak()
    await person.says("Something with a bit of green around it.")
    await person.hears("Let me see")


async def test_stop_calling_is_heard_while_we_think(tmp_path: Path) -> None:
    async with conversation(tmp_path, model=Slow()) as person:
        await while_we_think(person)
        await person.says("Stop calling me.")
        await person.hears("take you off our list")
        await asyncio.wait_for(person.over.wait(), 3)
        assert person.talk.state.disposition == "optedOut"


async def test_an_answer_is_heard_while_we_think(tmp_path: Path) -> None:
    async with conversation(tmp_path, model=Slow()) as person:
        await while_we_think(person)
        await person.says("Mm-hmm.")
        await person.says("A house.")
        await person.hears("How many bedrooms")
        await person.may_speak()
        assert person.talk.state.answers["property"].value == "house"


@pytest.mark.parametrize(
    ("words", "disposition"), [("Stop calling me.", "optedOut"), ("You have the wrong number.", "wrongPerson")]
)
async def test_what_ends_the_call_counts_when_they_hang_up_on_our_goodbye(
    tmp_path: Path, words: str, disposition: str
) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        await person.says(words)
        await person.hears("bye")
        person.talk.hung_up("")
        assert person.talk.state.disposition == disposition


@pytest.mark.parametrize(
    ("words", "disposition"),
    [("Stop calling me.", "optedOut"), ("Wrong number.", "wrongPerson"), ("Well, you see", None), ("", None)],
)
async def test_the_last_words_before_they_hung_up_count(tmp_path: Path, words: str, disposition: str | None) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        person.talk.hung_up(words)
        assert person.talk.state.disposition == disposition
        assert [turn.text for turn in person.user_turns()] == ([words] if words else [])


async def test_who_hangs_up_on_the_next_question_has_answered_the_one_before(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        await person.says("Yes, I am.")
        await person.hears(SECOND)
        person.talk.hung_up("")
        assert person.talk.state.answers["interested"].value == "yes"


async def test_a_goodbye_does_not_change_the_end_but_the_wish_not_to_be_called_does(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        await person.says("You have the wrong number.")
        await person.hears("bothered you")
        person.talk.hung_up("Goodbye.")
        before = str(person.talk.state.disposition)
        await person.says("And never call again.")
        await asyncio.wait_for(person.over.wait(), 3)
        assert (before, person.talk.state.disposition) == ("wrongPerson", "optedOut")


@pytest.mark.parametrize(
    ("hello", "disposition"),
    [("This is Sam's phone. Please leave a message.", "voicemail"), ("Stop calling me!", "optedOut")],
)
async def test_a_hello_that_ends_the_call_is_not_talked_over(tmp_path: Path, hello: str, disposition: str) -> None:
    slow = Timings(greeting_wait_s=2.0, greeting_length_s=2.0, silence_s=0.3, mark_grace_s=0.2)
    async with conversation(tmp_path, slow) as person:
        await person.starts()
        await person.says(hello)
        await person.hears("Goodbye")
        await asyncio.wait_for(person.over.wait(), 3)
        assert person.talk.state.disposition == disposition


async def test_silence_is_asked_about_and_then_ends_the_call(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears("Are you still there?", 5)
        await person.hears("Are you still there?", 5)
        await asyncio.wait_for(person.over.wait(), 5)
        assert person.talk.state.disposition == "incomplete"


async def test_the_call_ends_only_after_its_last_word_was_played(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        await person.says("You have the wrong number.")
        await person.hears("bothered you")
        assert not person.over.is_set()
        await asyncio.wait_for(person.over.wait(), 3)


async def test_a_lost_mark_does_not_hold_up_the_call(tmp_path: Path) -> None:
    async with conversation(tmp_path, FAST) as person:
        person.line.deaf_to_marks = True
        await person.hears(FIRST)
        await person.may_speak()
        assert person.talk.phase == "listening"


async def test_time_up_says_goodbye(tmp_path: Path) -> None:
    async with conversation(tmp_path) as person:
        await person.hears(FIRST)
        await person.may_speak()
        await person.says("Yes.")
        await person.hears(SECOND)
        await person.may_speak()
        person.talk.time_up()
        await person.hears("Thank you, that is all")
        await asyncio.wait_for(person.over.wait(), 3)
        assert person.talk.state.disposition == "incomplete"
        assert person.talk.state.answers["interested"].value == "yes"
