"""What people do unasked, frame by frame; and how a people file says it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from callfleet_simulator.acts import Acts
from callfleet_simulator.audio import FRAME_SAMPLES, SILENCE, Pcm, level, to_mulaw
from callfleet_simulator.calls import Call, CallRequest, now
from callfleet_simulator.errors import PeopleFileError
from callfleet_simulator.mind import Mind, phrases, spoken_lines
from callfleet_simulator.people import Act, Person, Voice, load_people
from callfleet_simulator.person import TalkingPerson
from callfleet_simulator.quiet import QuietPerson
from callfleet_simulator.turns import Sound

TONE = to_mulaw(np.rint(level(-20) * 1.4 * np.sin(np.arange(FRAME_SAMPLES) * 0.6)).astype(np.int16))
LINE_FRAMES = 25


class Voices:
    """Every line is half a second of sound; the other side always asks for the price range."""

    def __init__(self) -> None:
        self.spoken: list[str] = []

    async def words(self, heard: Pcm) -> str:  # noqa: ARG002 - see above
        return "What price range do you have in mind?"

    async def line(self, text: str, voice: Voice) -> Pcm:  # noqa: ARG002 - one voice is enough here
        self.spoken.append(text)
        return np.full(FRAME_SAMPLES * LINE_FRAMES, 5000, dtype=np.int16)


def talker(voices: Voices, rule: dict[str, Any] | None = None, **changes: Any) -> tuple[TalkingPerson, Call]:
    script = [{"hears": ["price range"], "says": ["Four hundred."], **(rule or {})}]
    person = Person.model_validate({"name": "A", "thinks_s": [0.2, 0.2], "script": script, **changes})
    draw = random.Random(1)  # noqa: S311 - repeatable on purpose
    call = Call("CA1", "AC1", CallRequest("+15550100100", "+15550100001"), now())
    return TalkingPerson(call, person, Mind(person, list(person.script), draw), voices, draw), call


async def live(person: TalkingPerson, heard: list[bytes]) -> list[bool]:
    """Lives frame by frame, faster than real time; answers in which frames the person was heard."""
    spoke = []
    for number, frame in enumerate(heard):
        samples = person.speak()
        spoke.append(samples is not None and bool(np.abs(samples).max() > 0))
        person.hear(frame)
        await asyncio.sleep(0.021 if number % 10 == 0 else 0)  # lets thoughts, which wait in real time, go on
    return spoke


def test_acts_are_due_at_their_time_once() -> None:
    acts = Acts([Act(at_s=1.0, keys="1"), Act(on_turn=2, after_s=0.4, hangs_up=True)])
    assert acts.due(49) == []
    assert [act.keys for act in acts.due(50)] == ["1"]
    assert acts.due(51) == []
    acts.heard(60, Sound.STARTED)
    acts.heard(90, Sound.ENDED)
    acts.heard(100, Sound.STARTED)
    assert acts.due(119) == []
    assert [act.hangs_up for act in acts.due(120)] == [True]


def test_what_was_to_happen_during_a_turn_does_not_happen_after_it() -> None:
    acts = Acts([Act(on_turn=1, after_s=3, hangs_up=True)])
    acts.heard(10, Sound.STARTED)
    acts.heard(60, Sound.ENDED)
    acts.heard(100, Sound.STARTED)
    assert all(acts.due(frame) == [] for frame in range(100, 400))


async def test_they_interrupt_while_the_other_side_speaks() -> None:
    voices = Voices()
    person, _ = talker(voices, acts=[{"on_turn": 1, "after_s": 0.5, "says": "Wait, wait."}])
    spoke = await live(person, [TONE] * 100 + [SILENCE] * 30)
    assert voices.spoken == ["Wait, wait."]
    assert 25 <= spoke.index(True) <= 45
    assert sum(spoke) == LINE_FRAMES


async def test_they_hang_up_while_the_other_side_speaks() -> None:
    person, _ = talker(Voices(), acts=[{"on_turn": 1, "after_s": 0.5, "hangs_up": True}])
    await live(person, [TONE] * 20)
    assert not person.hung_up.is_set()
    await live(person, [TONE] * 30)
    assert person.hung_up.is_set()


async def test_they_hang_up_in_the_middle_of_their_own_sentence() -> None:
    person, _ = talker(Voices(), {"cut_short": True})
    spoke = await live(person, [TONE] * 50 + [SILENCE] * 100)
    assert sum(spoke) == pytest.approx(LINE_FRAMES / 2, abs=1)
    assert person.hung_up.is_set()


async def test_they_pause_where_the_line_says_so() -> None:
    voices = Voices()
    person, _ = talker(voices, {"says": ["Well, let me think ... four hundred."]}, hesitates_s=[1.0, 1.0])
    spoke = await live(person, [TONE] * 50 + [SILENCE] * 160)
    assert voices.spoken == ["Well, let me think", "four hundred."]
    first = spoke.index(True)
    assert spoke[first : first + 100] == [True] * LINE_FRAMES + [False] * 50 + [True] * LINE_FRAMES


async def test_they_press_keys_in_answer_to_a_question() -> None:
    person, call = talker(Voices(), {"says": [], "keys": "12#"})
    spoke = await live(person, [TONE] * 50 + [SILENCE] * 100)
    assert list(call.pressed) == ["1", "2", "#"]
    assert 15 <= sum(spoke) <= 21  # three keys of 100 ms


def test_who_never_speaks_presses_keys_and_hangs_up() -> None:
    call = Call("CA1", "AC1", CallRequest("+15550100100", "+15550100001"), now())
    acts = [Act(at_s=0.1, keys="5*"), Act(on_turn=1, after_s=0.2, hangs_up=True)]
    person = QuietPerson(call, Person(name="A", acts=acts))
    heard = []
    for _ in range(40):
        heard.append(person.speak())
        person.hear(SILENCE)
    assert list(call.pressed) == ["5", "*"]
    assert heard[3] is None
    assert heard[5] is not None
    for _ in range(20):
        person.speak()
        person.hear(TONE)
    assert person.hung_up.is_set()


def test_lines_are_rendered_phrase_by_phrase() -> None:
    assert phrases("Well ... about a year.") == ["Well", "about a year."]
    assert phrases("...") == []
    person = Person(
        name="A", greeting="Hello ... who is this?", acts=[Act(on_turn=1, says="Stop.")], fallback=["What?"]
    )
    assert spoken_lines(person, []) == ["Hello", "who is this?", "Stop.", "What?"]


@pytest.mark.parametrize(
    ("person", "told"),
    [
        ("acts: [{keys: '1'}]", "at_s"),
        ("acts: [{at_s: 1, on_turn: 1, keys: '1'}]", "not both"),
        ("acts: [{at_s: 1}]", "hangs_up"),
        ("acts: [{at_s: 1, keys: '1', hangs_up: true}]", "one of"),
        ("acts: [{at_s: 1, keys: 'x'}]", "keys"),
        ("script: [{hears: [budget]}]", "`says`, `keys`"),
        ("noise_dbm0: 0", "noise_dbm0"),
        ("hesitates_s: [3, 1]", "hesitates_s"),
        ("behaviour: refused, error_code: 99", "error_code"),
        ("detected_as: alien", "detected_as"),
    ],
)
def test_a_wrong_person_is_told(tmp_path: Path, person: str, told: str) -> None:
    file = tmp_path / "people.yaml"
    file.write_text('people: {"+15550100100": {name: A, ' + person + "}}")
    with pytest.raises(PeopleFileError) as refused:
        load_people(file)
    assert told in str(refused.value)
