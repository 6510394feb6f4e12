"""How people listen, think and take turns: without models, in virtual frames where time matters."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from callfleet_simulator.audio import FRAME_SAMPLES, SILENCE, Pcm, level, to_mulaw
from callfleet_simulator.calls import Call, CallRequest, now
from callfleet_simulator.errors import SpeechError
from callfleet_simulator.mind import Mind, best_rule, spoken_lines
from callfleet_simulator.people import Behaviour, People, Person, Rule, Voice, load_people
from callfleet_simulator.person import TalkingPerson, frames
from callfleet_simulator.stutter import stutters
from callfleet_simulator.turns import Sound, Turns

DEMO = Path(__file__).parents[3] / "docs/samples/demo-people.yaml"
TONE = to_mulaw(np.rint(level(-20) * 1.4 * np.sin(np.arange(FRAME_SAMPLES) * 0.6)).astype(np.int16))


@pytest.fixture(scope="module")
def demo() -> People:
    return load_people(DEMO)


# Who is in the demo, and what they understand

QUESTIONS = {
    "interested": [
        "Hello, this is Robin, an automated assistant calling from Elm Street Realty. I have a few short questions. "
        "Are you still thinking about buying a home this year?",
        "Would you still like to buy a home this year?",
        "Sorry, I did not get that. Are you thinking about buying a home this year, yes or no?",
        "are you still thinking about buying a home this year",
    ],
    "property": [
        "Great, thank you. Are you looking for a house, a condo, or a townhouse?",
        "Would that be a house, a condo, or a townhouse",
        "What kind of home are you looking for?",
    ],
    "budget": [
        "Okay. What price range do you have in mind?",
        "How much would you like to spend?",
        "Roughly what amount in dollars would you like to spend?",
        "what's your budget",
    ],
    "timeline": ["Got it. When would you like to move?", "By when would you like to move, roughly?", "How soon?"],
    "decision_maker": ["Will you be making the decision yourself?", "Are you the decision maker?"],
    "mortgage": [
        "Have you already spoken with a lender about a mortgage?",
        "Have you talked to a bank about financing?",
    ],
    "callback": ["I see. May I ask, would it be all right if we called you again in a few months?"],
    "referral": [
        "Is there anyone else in your family who is looking for a home?",
        "Do you know anyone who is looking?",
    ],
    "owner": ["Do you own the place you live in now?", "Do you own your home, or do you rent?"],
    "bedrooms": ["How many bedrooms do you need?", "all right how many bed rooms do you need"],
    "parking": ["Do you need a parking space?", "Do you need a parking spot?"],
    "farewell": ["Thank you very much for your time. Goodbye.", "Thanks for your time. Good bye"],
}
ASKED = [(topic, text) for topic, texts in QUESTIONS.items() for text in texts]


@pytest.mark.parametrize(("topic", "text"), ASKED)
def test_every_wording_reaches_its_topic(demo: People, topic: str, text: str) -> None:
    names = list(demo.topics)
    rules = [Rule(hears=demo.topics[name], says=["Yes."]) for name in names]
    best = best_rule(rules, text)
    assert best is not None
    assert names[best] == topic


@pytest.mark.parametrize("text", ["", "Great, thank you.", "One moment, please.", "I understand.", "mm-hm"])
def test_what_is_no_question_fits_no_rule(demo: People, text: str) -> None:
    assert best_rule([Rule(hears=phrases, says=["Yes."]) for phrases in demo.topics.values()], text) is None


def test_the_demo_has_twelve_people_of_each_kind(demo: People) -> None:
    assert sorted(demo.people) == [f"+155501001{n:02}" for n in range(12)]
    kinds = [person.behaviour for person in demo.people.values()]
    assert (kinds.count(Behaviour.WILLING), kinds.count(Behaviour.BUSY), kinds.count(Behaviour.NO_ANSWER)) == (8, 2, 2)


def test_each_willing_person_can_answer_the_questions_of_their_path(demo: People) -> None:
    for person in demo.people.values():
        if not person.talks:
            continue
        topics = {rule.topic for rule in person.script}
        assert topics in (
            {"interested", "property", "bedrooms", "budget", "timeline", "decision_maker", "mortgage"},
            {"interested", "property", "parking", "budget", "timeline", "decision_maker", "mortgage"},
            {"interested", "callback", "referral", "owner"},
        )
        assert len(spoken_lines(person, demo.rules_of(person))) >= 8


# A mind


def mind(**changes: object) -> Mind:
    rules = [
        Rule(hears=["price range"], says=["Four hundred thousand.", "About that."], asks_back=["Pardon?"]),
        Rule(hears=["goodbye"], says=["Bye."], ends=True),
    ]
    person = Person.model_validate({"name": "A", "fallback": ["What?"], "max_repeats": 2, **changes})
    return Mind(person, rules, random.Random(3))  # noqa: S311 - repeatable on purpose


def say(someone: Mind, heard: str) -> str:
    reply = someone.reply(heard)
    assert reply is not None
    someone.said(reply)
    return reply.text + (" (ends)" if reply.ends else "")


def test_a_person_asks_back_once_then_answers_and_at_last_has_enough() -> None:
    someone = mind()
    answers = [say(someone, "What price range do you have?") for _ in range(4)]
    assert answers[0] == "Pardon?"
    assert set(answers[1:3]) == {"Four hundred thousand.", "About that."}
    assert answers[3].endswith("(ends)")


def test_a_thought_that_was_never_spoken_counts_for_nothing() -> None:
    someone = mind()
    for _ in range(5):
        reply = someone.reply("What price range do you have?")
        assert reply is not None
        assert reply.text == "Pardon?"


def test_a_goodbye_ends_the_call() -> None:
    assert say(mind(), "Thank you for your time. Goodbye.") == "Bye. (ends)"


def test_a_lost_person_gives_up_after_a_few_times() -> None:
    someone = mind()
    assert someone.reply("Lorem ipsum?") is None
    replies = []
    for _ in range(3):
        replies.append(someone.confused())
        someone.said(replies[-1])
    assert [reply.ends for reply in replies] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "doubled"),
    [
        ("Goodbye. Goodbye.", True),
        ("Yes, I will. Yes, I will.", True),
        ("When would you like to move? When would you like to move?", True),
        ("No, no, I do not.", False),
        ("A house, a condo, or a townhouse?", False),
        ("", False),
    ],
)
def test_a_stuttering_decoder_is_noticed(text: str, doubled: bool) -> None:
    assert stutters(text) is doubled


# Turns


def test_a_turn_ends_after_seven_hundred_milliseconds_of_silence_not_before() -> None:
    turns = Turns()
    sounds = [turns.feed(frame) for frame in [SILENCE] * 20 + [TONE] * 30 + [SILENCE] * 34]
    assert sounds.count(Sound.STARTED) == 1
    assert Sound.ENDED not in sounds
    assert turns.feed(SILENCE) is Sound.ENDED
    assert 1.2 < turns.heard_s < 1.6  # the speech, a little before it, and the silence
    turns.forget()
    assert len(turns.heard()) == 0


def test_a_click_is_not_speech() -> None:
    turns = Turns()
    assert all(turns.feed(frame) is Sound.NOTHING for frame in ([TONE] + [SILENCE] * 10) * 5)


# A person on the line. `Words` stands for the speech processes: what they do is tested with real models elsewhere.


class Words:
    """Says what the test decides was heard; every line is half a second of tone."""

    def __init__(self, *heard: str) -> None:
        self.heard = list(heard)
        self.spoken: list[str] = []
        self.lengths: list[int] = []

    async def words(self, heard: Pcm) -> str:
        self.lengths.append(len(heard))
        if not self.heard:
            raise SpeechError("nothing more is heard")
        return self.heard.pop(0)

    async def line(self, text: str, voice: Voice) -> Pcm:  # noqa: ARG002 - one voice is enough here
        self.spoken.append(text)
        return np.full(FRAME_SAMPLES * 25, 5000, dtype=np.int16)


def on_the_line(words: Words, **changes: object) -> TalkingPerson:
    person = Person.model_validate(
        {
            "name": "A",
            "thinks_s": [0.5, 0.5],
            "script": [
                {"hears": ["price range"], "says": ["Four hundred thousand."]},
                {"hears": ["goodbye"], "says": ["Bye."], "ends": True},
            ],
            "fallback": ["What?"],
            **changes,
        }
    )
    draw = random.Random(1)  # noqa: S311 - repeatable on purpose
    call = Call("CA1", "AC1", CallRequest("+15550100100", "+15550100001"), now())
    return TalkingPerson(call, person, Mind(person, list(person.script), draw), words, draw)


async def live(person: TalkingPerson, heard: Iterator[bytes] | list[bytes]) -> list[int]:
    """Lives frame by frame, faster than real time; answers the frames in which the person spoke."""
    spoke = []
    for number, frame in enumerate(heard):
        if person.speak() is not None:
            spoke.append(number)
        person.hear(frame)
        await asyncio.sleep(0.021 if number % 10 == 0 else 0)  # lets thoughts, which wait in real time, go on
    return spoke


async def test_a_person_answers_a_question_after_thinking() -> None:
    words = Words("What price range do you have in mind?")
    spoke = await live(on_the_line(words), [TONE] * 50 + [SILENCE] * 150)
    assert words.spoken == ["Four hundred thousand."]
    assert 50 + 35 + 25 <= spoke[0] <= 50 + 35 + 60
    assert len(spoke) == 25


async def test_a_person_hears_the_other_side_out() -> None:
    words = Words("Are you looking for,", "Are you looking for a price range?")
    heard = [TONE] * 50 + [SILENCE] * 45 + [TONE] * 50 + [SILENCE] * 150
    spoke = await live(on_the_line(words), heard)
    assert words.spoken == ["Four hundred thousand."]
    assert spoke[0] > 145
    assert words.lengths[1] > words.lengths[0] + 50 * FRAME_SAMPLES  # the second time, all of it


async def test_a_statement_is_met_with_patience_then_with_a_question() -> None:
    words = Words("One moment, please.")
    spoke = await live(on_the_line(words), [TONE] * 50 + [SILENCE] * 260)
    assert words.spoken == ["What?"]
    assert spoke[0] >= 50 + 35 + frames(3.0)


async def test_after_a_goodbye_they_hang_up() -> None:
    person = on_the_line(Words("Goodbye."))
    await live(person, [TONE] * 30 + [SILENCE] * 90)
    assert not person.hung_up.is_set()
    await live(person, [SILENCE] * 120)
    assert person.hung_up.is_set()


async def test_silence_is_asked_about_twice_and_then_left() -> None:
    words = Words()
    person = on_the_line(words, patience_s=2)
    await live(person, [SILENCE] * 600)
    assert words.spoken == ["Hello? Are you still there?"] * 2
    assert person.hung_up.is_set()


async def test_the_greeting_comes_first_and_nobody_stays_longer_than_they_want() -> None:
    words = Words()
    person = on_the_line(words, greeting="Hello?", answer_after_s=0.4, max_s=2)
    spoke = await live(person, [SILENCE] * 90)
    assert words.spoken == ["Hello?"]
    assert 20 <= spoke[0] <= 35
    await live(person, [SILENCE] * 20)
    assert person.hung_up.is_set()


async def test_a_deaf_person_hangs_up_instead_of_hanging() -> None:
    person = on_the_line(Words(), patience_s=2)
    await live(person, [TONE] * 50 + [SILENCE] * 600)
    assert person.hung_up.is_set()


def test_the_sample_for_use_alone_has_everybody() -> None:
    people = load_people(DEMO.parent / "simulator-people.yaml").people.values()
    assert {person.behaviour for person in people} == set(Behaviour)
    assert any(person.noise_dbm0 > -40 for person in people)
    acts = [act for person in people for act in person.acts]
    assert any(act.says for act in acts)
    assert any(act.keys for act in acts)
    assert any(act.hangs_up for act in acts)
