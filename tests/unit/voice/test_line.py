"""The line's side of the pipeline: resampling, Twilio's messages, latency stamps, what was heard of a reply."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
import pytest
from pipecat.frames.frames import InputAudioRawFrame, InterruptionFrame, TTSAudioRawFrame

from callfleet_worker.agents.state import Line
from callfleet_worker.voice.frames import MarkFrame
from callfleet_worker.voice.progress import question_heard
from callfleet_worker.voice.serializer import RECEIVED_AT, CallSerializer
from callfleet_worker.voice.turn_clock import TurnClock
from callfleet_worker.voice.upsample import TAPS, ShortUpsampler

SILENCE_20_MS = base64.b64encode(b"\xff" * 160).decode()


def tone(hertz: int, rate: int, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    at = np.arange(int(rate * seconds)) / rate
    return (8_000 * np.sin(2 * np.pi * hertz * at)).astype(np.int16)


@pytest.mark.parametrize("hertz", [300, 1_000, 2_000, 3_000])
async def test_upsampling_keeps_telephone_tones_and_their_level(hertz: int) -> None:
    resampler = ShortUpsampler()
    source = tone(hertz, 8_000, 0.5)
    chunks = [await resampler.resample(chunk.tobytes(), 8_000, 16_000) for chunk in np.split(source, 25)]
    out = np.frombuffer(b"".join(chunks), dtype=np.int16).astype(float)
    assert out.size == 2 * source.size
    spectrum = np.abs(np.fft.rfft(out))
    assert np.argmax(spectrum) * 16_000 / out.size == pytest.approx(hertz, abs=4)
    image = spectrum[int((8_000 - hertz) * out.size / 16_000)]
    assert image < spectrum.max() / 10
    assert 0.7 < out.std() / source.std() < 1.3


async def test_chunks_join_without_a_seam_and_with_little_delay() -> None:
    source = tone(440, 8_000, 0.2)
    whole = await ShortUpsampler().resample(source.tobytes(), 8_000, 16_000)
    chunked = ShortUpsampler()
    pieces = [await chunked.resample(chunk.tobytes(), 8_000, 16_000) for chunk in np.split(source, 10)]
    assert b"".join(pieces) == whole
    assert TAPS / 2 / 16_000 < 0.001


async def test_other_rates_are_refused() -> None:
    assert await ShortUpsampler().resample(b"\0\0", 8_000, 8_000) == b"\0\0"
    with pytest.raises(ValueError, match="doubles"):
        await ShortUpsampler().resample(b"\0\0", 8_000, 24_000)


def serializer(now: list[float]) -> tuple[CallSerializer, TurnClock]:
    clock = TurnClock(lambda: now[0])
    made = CallSerializer("MZ1", clock)
    made._sample_rate = 16_000  # what the pipeline's setup does
    return made, clock


async def test_media_carries_its_arrival_time_and_marks_become_frames() -> None:
    now = [10.0]
    line, _ = serializer(now)
    frame = await line.deserialize(json.dumps({"event": "media", "media": {"payload": SILENCE_20_MS}}))
    assert isinstance(frame, InputAudioRawFrame)
    assert frame.metadata[RECEIVED_AT] == 10.0
    assert len(frame.audio) == 640
    mark = await line.deserialize(json.dumps({"event": "mark", "mark": {"name": "reply-3"}}))
    assert isinstance(mark, MarkFrame)
    assert mark.mark == "reply-3"


@pytest.mark.parametrize(
    "message", ['{"event": "mark"}', '{"event": "mark", "mark": null}', '"mark"', '{"event": "stop"}']
)
async def test_broken_or_other_messages_are_nothing(message: str) -> None:
    line, _ = serializer([0.0])
    assert await line.deserialize(message) is None


async def test_latency_runs_from_the_last_voice_to_the_first_sample_written() -> None:
    now = [100.0]
    line, clock = serializer(now)
    clock.begin_reply()
    latency = clock.expect_reply(last_voice_at=99.8)
    now[0] = 100.3
    audio = TTSAudioRawFrame(b"\1\0" * 160, sample_rate=8_000, num_channels=1)
    message = json.loads(str(await line.serialize(audio)))
    assert message["event"] == "media"
    assert len(base64.b64decode(message["media"]["payload"])) == 160
    now[0] = 101.0
    await line.serialize(audio)
    assert await latency == 500
    assert clock.first_written_at == 100.3


async def test_a_turn_without_a_reply_has_no_latency() -> None:
    clock = TurnClock(asyncio.get_running_loop().time)
    first = clock.expect_reply(0.0)
    second = clock.expect_reply(0.0)
    clock.give_up()
    assert await first is None
    assert await second is None


async def test_an_interruption_clears_the_carriers_buffer() -> None:
    line, _ = serializer([0.0])
    assert json.loads(str(await line.serialize(InterruptionFrame()))) == {"event": "clear", "streamSid": "MZ1"}


def test_a_question_is_heard_once_what_comes_before_it_was() -> None:
    lines = [Line(text="Great.", kind="ack", agent="qualifier"), Line(text="When?", kind="question", agent="qualifier")]
    audio = {"Great.": bytes(16 * 500), "When?": bytes(16 * 1_000)}
    assert question_heard(lines, audio.get, 0) == 0.0
    assert question_heard(lines, audio.get, 600) == 0.0
    assert question_heard(lines, audio.get, 500 + 120 + 100 + 500) == pytest.approx(0.5)
    assert question_heard(lines, audio.get, 10_000) == 1.0
    assert question_heard([], audio.get, 10_000) == 0.0
