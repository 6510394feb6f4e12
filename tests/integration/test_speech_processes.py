"""The speech processes and hearing, with the real models: what Piper says, Whisper understands, over a noisy line."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import Frame, InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from tests.integration.worker_parts import models_dir, speech_processes
from tests.unit.agents.scripts import TODAY, real_estate

from callfleet_worker.answers.intents import Intent, find_intent
from callfleet_worker.answers.parse import parse_answer
from callfleet_worker.settings import WorkerSettings
from callfleet_worker.speech.audio import TELEPHONE_RATE, WHISPER_RATE, Samples, resample, samples_of, trimmed
from callfleet_worker.speech.clients import Recogniser, Speaker, SpeechError
from callfleet_worker.speech.whisper_engine import repeats
from callfleet_worker.supervisor.services import Service, piper_socket, speech_services, whisper_socket
from callfleet_worker.voice.frames import SustainedSpeechFrame, UtteranceFrame
from callfleet_worker.voice.hearing import Hearing
from callfleet_worker.voice.serializer import RECEIVED_AT
from callfleet_worker.voice.wishes import WishfulRecogniser

pytestmark = pytest.mark.speech

QUESTIONS = {question.name: question for question in real_estate().questions}
ANSWERS = [
    ("interested", "Yes, I am.", "yes"),
    ("interested", "No, not anymore.", "no"),
    ("property", "A condo, I think.", "condo"),
    ("bedrooms", "Three bedrooms, please.", "3"),
    ("budget", "About four hundred thousand dollars.", "400000"),
    ("timeline", "In the next three months.", "2026-11-22/2027-02-22"),
    ("decision", "Yes, I will.", "yes"),
]


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with speech_processes(tmp_path_factory.mktemp("speech")) as paths:
        yield paths


@pytest.fixture
def recogniser(sockets: tuple[Path, Path]) -> Recogniser:
    return Recogniser(sockets[0])


@pytest.fixture
async def speaker(sockets: tuple[Path, Path]) -> AsyncIterator[Speaker]:
    speaker = Speaker(sockets[1])
    yield speaker
    await speaker.close()


async def on_the_line(speaker: Speaker, text: str, *, pitch: float = 1.08, before_s: float = 0.4) -> Samples:
    """A phrase at 16 kHz as a phone line brings it: another pitch, quieter, with noise and pauses around it."""
    voice = samples_of(await speaker.speak(text)).astype(np.float64)
    voice = voice / np.abs(voice).max() * 9_000
    wide = resample(voice.astype(np.int16), TELEPHONE_RATE, int(WHISPER_RATE / pitch)).astype(np.float64)
    around = np.concatenate([np.zeros(int(before_s * WHISPER_RATE)), wide, np.zeros(2 * WHISPER_RATE)])
    noise = np.random.default_rng(5).normal(0, 32_768 * 10 ** (-52 / 20), around.size)
    return np.clip(around + noise, -32_768, 32_767).astype(np.int16)


@pytest.mark.parametrize(("name", "said", "value"), ANSWERS)
async def test_spoken_answers_reach_the_grammars(
    recogniser: Recogniser, speaker: Speaker, name: str, said: str, value: str
) -> None:
    question = QUESTIONS[name]
    heard = await recogniser.decode((await on_the_line(speaker, said))[:-WHISPER_RATE].tobytes(), hint=question.ask[0])
    answer = parse_answer(question, heard.text, TODAY)
    assert answer is not None, heard.text
    assert answer.value == value
    assert heard.window == "short"


async def understood_ten_times(recogniser: Recogniser, speaker: Speaker, said: str) -> list[str]:
    """What is understood of ten ways to say one phrase: Piper says each a little differently."""
    twice, question = WishfulRecogniser(recogniser), QUESTIONS["property"]
    understood = []
    for time in range(10):
        audio = (await on_the_line(speaker, said + " " * time))[:-WHISPER_RATE]
        understood.append((await twice.decode(audio.tobytes(), hint=question.ask[0])).text)
    return understood


@pytest.mark.parametrize("wish", ["Stop calling me.", "Please stop calling me."])
async def test_a_wish_not_to_be_called_is_heard_most_of_the_time(
    recogniser: Recogniser, speaker: Speaker, wish: str
) -> None:
    """Heard once, with the question in mind, a third of them is understood."""
    understood = await understood_ten_times(recogniser, speaker, wish)
    assert sum(find_intent(text) is Intent.OPT_OUT for text in understood) >= 7, understood


@pytest.mark.parametrize("said", ["Call me tomorrow.", "Who is calling me?", "You can start calling me after five."])
async def test_what_is_no_wish_is_never_taken_for_one(recogniser: Recogniser, speaker: Speaker, said: str) -> None:
    """One in twenty is heard as "Paul me tomorrow.", which is no wish either."""
    understood = await understood_ten_times(recogniser, speaker, said)
    assert sum("call" in text.lower() for text in understood) >= 7, understood
    assert not any(find_intent(text) is Intent.OPT_OUT for text in understood), understood


async def test_line_noise_says_nothing(recogniser: Recogniser) -> None:
    noise = np.random.default_rng(1).normal(0, 60, WHISPER_RATE).astype(np.int16)
    heard = await recogniser.decode(noise.tobytes(), hint="Are you looking for a house, a condo, or a townhouse?")
    assert heard.text == ""
    assert heard.no_speech_prob > 0.6


async def test_a_bad_request_is_refused_and_the_server_lives_on(recogniser: Recogniser, speaker: Speaker) -> None:
    with pytest.raises(SpeechError, match="must last"):
        await recogniser.decode(b"")
    with pytest.raises(SpeechError, match="must last"):
        await recogniser.decode(bytes(2 * WHISPER_RATE * 29))
    with pytest.raises(SpeechError, match="characters"):
        await speaker.speak("x" * 1_001)
    assert (await recogniser.decode((await on_the_line(speaker, "Yes, I am.")).tobytes())).text


async def test_a_decode_is_bounded_by_its_deadline(recogniser: Recogniser, speaker: Speaker) -> None:
    audio = (await on_the_line(speaker, "In the next three months.")).tobytes()
    with pytest.raises(SpeechError, match="TimeoutError"):
        await recogniser.decode(audio, deadline_s=0.001)


async def test_cancelled_decodes_free_the_server(recogniser: Recogniser, speaker: Speaker) -> None:
    audio = (await on_the_line(speaker, "In the next three months.")).tobytes()
    given_up = [asyncio.create_task(recogniser.decode(audio)) for _ in range(20)]
    await asyncio.sleep(0.01)
    for task in given_up:
        task.cancel()
    started = asyncio.get_running_loop().time()
    heard = await recogniser.decode(audio)
    assert "three months" in heard.text
    assert asyncio.get_running_loop().time() - started < 3.0


async def test_phrases_are_trimmed_and_rendered_once(speaker: Speaker, sockets: tuple[Path, Path]) -> None:
    text = "Are you still thinking about buying a home this year?"
    audio = samples_of(await speaker.speak(text))
    assert trimmed(audio, TELEPHONE_RATE).size == audio.size
    assert 1.5 < audio.size / TELEPHONE_RATE < 5
    assert speaker.cached(text) is not None
    again = Speaker(sockets[1])
    started = asyncio.get_running_loop().time()
    assert await again.speak(text) == audio.tobytes()
    assert asyncio.get_running_loop().time() - started < 0.2


class Collector(FrameProcessor):
    """Keeps the utterances."""

    def __init__(self) -> None:
        super().__init__()
        self.utterances: asyncio.Queue[UtteranceFrame] = asyncio.Queue()
        self.sustained = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, UtteranceFrame):
            self.utterances.put_nowait(frame)
        self.sustained += isinstance(frame, SustainedSpeechFrame)
        await self.push_frame(frame, direction)


class Waits:
    """Expects an answer to the budget question."""

    def hint(self) -> str:
        return QUESTIONS["budget"].ask[0]

    def is_answer(self, text: str) -> bool:
        return parse_answer(QUESTIONS["budget"], text, TODAY) is not None


async def hear(recogniser: Recogniser, samples: Samples, utterances: int) -> tuple[list[UtteranceFrame], int, float]:
    """Plays samples in real time into Hearing; the utterances, how often speech was sustained, and when play began."""
    collector = Collector()
    worker = PipelineWorker(
        Pipeline([Hearing(SileroVADAnalyzer(), recogniser, Waits()), collector]), cancel_on_idle_timeout=False,
        idle_timeout_secs=None, enable_rtvi=False,
    )  # fmt: skip
    runner = WorkerRunner(handle_sigint=False, handle_sigterm=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.3)
    began = loop.time()

    async def play() -> None:
        for index in range(samples.size // 320):
            await asyncio.sleep(max(0.0, began + index * 0.02 - loop.time()))
            frame = InputAudioRawFrame(samples[index * 320 : (index + 1) * 320].tobytes(), WHISPER_RATE, 1)
            frame.metadata[RECEIVED_AT] = loop.time()
            await worker.queue_frame(frame)

    playing = asyncio.create_task(play())
    try:
        async with asyncio.timeout(samples.size / WHISPER_RATE + 15):
            found = [await collector.utterances.get() for _ in range(utterances)]
            await playing
        assert collector.utterances.empty()
        return found, collector.sustained, began
    finally:
        playing.cancel()
        await worker.cancel()
        await running


async def test_hearing_finds_the_turns_and_stamps_their_last_sample(recogniser: Recogniser, speaker: Speaker) -> None:
    samples = await on_the_line(speaker, "About four hundred thousand dollars.")
    (frame,), sustained, began = await hear(recogniser, samples, 1)
    assert "400,000" in frame.text
    assert sustained == 1
    ends_at = began + (samples.size - 2 * WHISPER_RATE) / WHISPER_RATE
    # A final "s" drowns in the noise: the stamp may be early, which counts against us, and is never late.
    assert -0.3 < frame.last_voice_at - ends_at < 0.06
    assert 1_000 < frame.speech_ms < 3_500


async def test_a_pause_after_an_unfinished_phrase_does_not_end_the_turn(
    recogniser: Recogniser, speaker: Speaker
) -> None:
    first = await on_the_line(speaker, "Well, I would say about,")
    second = await on_the_line(speaker, "four hundred thousand dollars.", before_s=0.1)
    pause = first[: -WHISPER_RATE - WHISPER_RATE // 2]
    frames, _, _ = await hear(recogniser, np.concatenate([pause, second]), 1)
    assert "400,000" in frames[0].text


async def test_a_killed_speech_process_is_back_in_a_moment(tmp_path: Path, sockets: tuple[Path, Path]) -> None:
    settings = WorkerSettings.model_validate(
        {
            "database_url": "postgresql://nowhere/none", "redis_url": "redis://nowhere", "twilio_auth_token": "made-up",
            "callfleet_namespace_keys": "1:" + "A" * 43 + "=",
            "callfleet_models_dir": models_dir(), "callfleet_device": "cpu",
        }
    )  # fmt: skip
    _, piper = speech_services(settings, tmp_path)
    assert whisper_socket(tmp_path) != piper_socket(tmp_path)
    keeping = asyncio.create_task(piper.run())
    speaker = Speaker(piper_socket(tmp_path))
    try:
        await ready(piper)
        first = await speaker.speak("Hello there.")
        os.kill(await asyncio.to_thread(child_of, piper_socket(tmp_path)), signal.SIGKILL)
        async with asyncio.timeout(10):
            while piper.restarts == 0:  # noqa: ASYNC110 - the service counts, it does not tell
                await asyncio.sleep(0.02)
        assert await speaker.speak("Hello there.") == first, "a phrase that was spoken needs no Piper"
        with pytest.raises(SpeechError):
            await speaker.speak("Something new.", deadline_s=0.5)
        await ready(piper)
        assert await speaker.speak("Something new.")
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def ready(service: Service) -> None:
    async with asyncio.timeout(60):
        await service.ready.wait()


def child_of(socket: Path) -> int:
    """The process that was started with this socket on its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and str(socket).encode() in (entry / "cmdline").read_bytes():
            return int(entry.name)
    raise AssertionError("the speech process is not there")


@pytest.mark.parametrize(
    ("text", "stuck"),
    [
        ("a condo, or a condo, or a condo, or a condo", True),
        ("no no no no no no", True),
        ("No, no, no.", False),
        ("Between 300 and 350 thousand dollars, I would say.", False),
        ("", False),
    ],
)
def test_a_stuck_decoder_is_recognised(text: str, stuck: bool) -> None:
    assert repeats(text) is stuck
