"""People who press keys, hang up, interrupt, hesitate, on noisy lines: over a real Media Stream."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.simulator_application import (
    ACCOUNT,
    TOKEN,
    Application,
    Leg,
    place,
    running_application,
    until,
)
from tests.integration.talking_agent import models_dir

from callfleet_simulator import tones
from callfleet_simulator.audio import Pcm, from_mulaw, level, rms, to_mulaw
from callfleet_simulator.calls import Call
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.far_end import FarEnd
from callfleet_simulator.machine import Murmurs
from callfleet_simulator.mind import Mind
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.person import TalkingPerson
from callfleet_simulator.server import Running, running
from callfleet_simulator.speech import Speech
from callfleet_simulator.voiceless import voiceless

PRESSES, LEAVES, NOISY, INTERRUPTS, HESITATES, QUITS, HUMAN, MACHINE = (f"+1555010010{n}" for n in range(8))
RULE = {"hears": ["price range"], "says": ["Four hundred thousand dollars."]}
PEOPLE: dict[str, dict[str, Any]] = {
    PRESSES: {"acts": [{"at_s": 0.4, "keys": "42#"}, {"at_s": 2.0, "hangs_up": True}]},
    LEAVES: {"acts": [{"on_turn": 1, "after_s": 1.0, "hangs_up": True}]},
    NOISY: {"noise_dbm0": -35, "acts": [{"at_s": 1.5, "hangs_up": True}]},
    INTERRUPTS: {"script": [RULE], "acts": [{"on_turn": 1, "after_s": 1.0, "says": "Wait a moment."}], "max_s": 3},
    HESITATES: {
        "script": [{**RULE, "says": ["Well I think ... four hundred."]}],
        "hesitates_s": [1.0, 1.0],
        "max_s": 7,
    },
    QUITS: {"script": [{**RULE, "says": ["I would like to spend four hundred."], "cut_short": True}]},
}
QUESTION = tones.murmur("what price range do you have in mind")


class Ears(Murmurs):
    """Hears the same question whatever is said: which words people understand is tested with real models."""

    async def words(self, heard: Pcm) -> str:  # noqa: ARG002 - see above
        return "What price range do you have in mind?"


def far_end(call: Call, person: Person) -> FarEnd:
    if not person.talks:
        return voiceless(call, person)
    draw = random.Random(1)  # noqa: S311 - repeatable on purpose
    return TalkingPerson(call, person, Mind(person, list(person.script), draw), Ears(), draw)


@pytest.fixture
async def simulator() -> AsyncIterator[Running]:
    base = {"name": "A", "ring_s": 0.05, "thinks_s": [0.3, 0.3]}
    people = People.model_validate({"people": {number: {**base, **person} for number, person in PEOPLE.items()}})
    config = CarrierConfig(ACCOUNT, TOKEN, calls_per_second=50, queue_s=0.01, price_delay_s=0.1)
    async with running(Carrier(config, people, far_end)) as simulator:
        yield simulator


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    async with running_application() as application:
        yield application


class Listener:
    """A media server that asks its question, if it has one, and keeps what it hears."""

    def __init__(self, question: Pcm | None = None) -> None:
        self.messages: list[dict[str, Any]] = []
        self._question = question

    async def talk(self, leg: Leg) -> None:
        if self._question is not None:
            await leg.play(to_mulaw(self._question))
        while not self.messages or self.messages[-1]["event"] != "stop":
            self.messages.append(await leg.receive())

    def loudness(self) -> list[float]:
        media = [message["media"]["payload"] for message in self.messages if message["event"] == "media"]
        return [rms(from_mulaw(base64.b64decode(payload))) for payload in media]

    def sounds(self) -> list[tuple[int, int]]:
        """Where they were heard: first frame and length in frames, gaps up to 300 ms being part of it."""
        loud = [index for index, loudness in enumerate(self.loudness()) if loudness > level(-40)]
        groups: list[list[int]] = []
        for index in loud:
            if groups and index - groups[-1][-1] <= 15:
                groups[-1].append(index)
            else:
                groups.append([index])
        return [(group[0], group[-1] - group[0] + 1) for group in groups]


async def heard(simulator: Running, application: Application, to: str, question: Pcm | None = None) -> Listener:
    """One whole call, as the media server heard it."""
    listener = Listener(question)
    application.twiml, application.talk = "", listener.talk
    call = await place(simulator.url, application, to)
    await until(lambda: simulator.carrier.find(call.sid).ended, 20)
    assert simulator.carrier.find(call.sid).status == "completed"
    await until(lambda: listener.messages[-1]["event"] == "stop")
    return listener


async def test_pressed_keys_are_told_and_heard(simulator: Running, application: Application) -> None:
    listener = await heard(simulator, application, PRESSES)
    keys = [message for message in listener.messages if message["event"] == "dtmf"]
    assert [message["dtmf"] for message in keys] == [{"track": "inbound_track", "digit": digit} for digit in "42#"]
    assert {message["streamSid"] for message in keys} == {listener.messages[0]["streamSid"]}
    numbers = [int(message["sequenceNumber"]) for message in listener.messages]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    ((begin, length),) = listener.sounds()
    assert begin == pytest.approx(20, abs=3)
    assert length == pytest.approx(3 * 9, abs=4)


async def test_they_hang_up_in_the_middle_of_the_question(simulator: Running, application: Application) -> None:
    listener = await heard(simulator, application, LEAVES, QUESTION)
    assert 50 <= len(listener.loudness()) <= 65  # the question lasts 3.2 s


async def test_a_noisy_line_is_noisy(simulator: Running, application: Application) -> None:
    listener = await heard(simulator, application, NOISY)
    assert level(-37) < float(np.mean(listener.loudness())) < level(-33)


async def test_they_interrupt_the_question(simulator: Running, application: Application) -> None:
    listener = await heard(simulator, application, INTERRUPTS, QUESTION)
    begin, length = listener.sounds()[0]
    assert 50 <= begin <= 75
    assert length == pytest.approx(60, abs=8)  # three words
    assert simulator.carrier.stats()["cut_ins"] == 0  # they cut in, not the application


async def test_they_hesitate_in_the_middle_of_the_answer(simulator: Running, application: Application) -> None:
    listener = await heard(simulator, application, HESITATES, QUESTION)
    (first, length), (second, _) = listener.sounds()[:2]
    assert length == pytest.approx(60, abs=8)
    assert second - (first + length) == pytest.approx(50, abs=8)


async def test_they_hang_up_in_the_middle_of_the_answer(simulator: Running, application: Application) -> None:
    listener = await heard(simulator, application, QUITS, QUESTION)
    ((begin, length),) = listener.sounds()
    assert length == pytest.approx(70, abs=8)  # half of seven words
    assert len(listener.loudness()) - begin - length <= 5


@pytest.mark.parametrize("twiml", ['<Pause length="20"/>', "<Say>" + "word " * 50 + "</Say>"])
async def test_they_live_on_where_no_stream_does(simulator: Running, application: Application, twiml: str) -> None:
    application.twiml = f"<Response>{twiml}</Response>"
    call = await place(simulator.url, application, PRESSES)
    await until(lambda: simulator.carrier.find(call.sid).ended)
    assert simulator.carrier.find(call.sid).duration_s == 3  # they hang up after two seconds


async def test_they_hang_up_on_the_carriers_own_voice(simulator: Running, application: Application) -> None:
    application.twiml = "<Response><Pause length='1'/><Say>" + "word " * 50 + "</Say></Response>"
    call = await place(simulator.url, application, LEAVES)
    await until(lambda: simulator.carrier.find(call.sid).ended)
    assert simulator.carrier.find(call.sid).duration_s == 3  # a second of silence, and one and a bit of the voice


@pytest.mark.speech
async def test_machine_detection_tells_a_real_voice_from_a_recorded_one(
    application: Application, tmp_path: Path
) -> None:
    greeting = "Hello, you have reached Alex. I cannot come to the phone right now. Please leave a message."
    people = People(
        people={
            HUMAN: Person(name="Human", ring_s=0.05, greeting="Hello?", answer_after_s=0.3, max_s=20),
            MACHINE: Person(name="Machine", behaviour=Behaviour.MACHINE, ring_s=0.05, greeting=greeting),
        }
    )
    config = CarrierConfig(ACCOUNT, TOKEN, calls_per_second=50, queue_s=0.01, price_delay_s=0.1)
    async with (
        Speech(people, models_dir(), tmp_path / "lines", seed=7) as speech,
        running(Carrier(config, people, speech.far_end)) as simulator,
    ):
        wanted = {"machine_detection": "DetectMessageEnd"}
        calls = [await place(simulator.url, application, to, **wanted) for to in (HUMAN, MACHINE)]
        found = [simulator.carrier.find(call.sid) for call in calls]
        await until(lambda: all(call.ended for call in found), 40)
    assert [call.answered_by for call in found] == ["human", "machine_end_beep"]
