"""The line's parts, without a network: audio, play-out, billing, TwiML, the people file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_simulator import audio, billing, twiml
from callfleet_simulator.errors import ApiError, PeopleFileError, TwimlError
from callfleet_simulator.forms import parse_form
from callfleet_simulator.pacing import Lateness, Ticker
from callfleet_simulator.people import load_people
from callfleet_simulator.playout import MAX_BUFFER_S, Playout
from callfleet_simulator.requests import call_request
from callfleet_simulator.resampling import to_line, to_wideband


def test_mulaw_keeps_speech_within_its_quantisation() -> None:
    samples = np.arange(-32_000, 32_000, 7, dtype=np.int16)
    error = np.abs(audio.from_mulaw(audio.to_mulaw(samples)).astype(int) - samples)
    assert (error <= np.maximum(8, np.abs(samples.astype(int)) // 16)).all()
    assert audio.to_mulaw(np.zeros(1, dtype=np.int16)) == b"\xff"


def test_every_mulaw_code_survives_a_round_trip() -> None:
    codes = bytes(set(range(256)) - {0x7F})  # 0x7F is minus zero
    assert audio.to_mulaw(audio.from_mulaw(codes)) == codes


def test_noise_is_at_its_level_never_silent_and_repeatable() -> None:
    noise, again = audio.LineNoise(seed=5), audio.LineNoise(seed=5)
    frames = [noise.frame(None) for _ in range(200)]
    assert frames == [again.frame(None) for _ in range(200)]
    assert all(frame != audio.SILENCE for frame in frames)
    heard = audio.rms(audio.from_mulaw(b"".join(frames)))
    assert audio.level(-56.5) < heard < audio.level(-53.5)


@pytest.mark.parametrize("pitch", [1.0, 1.2, 0.9])
def test_a_synthesised_line_becomes_telephone_speech_of_its_pitch(pitch: float) -> None:
    tone = np.sin(np.arange(22_050) * 2 * np.pi * 1000 / 22_050) * 3000
    quiet = np.zeros(5000)
    line = to_line(np.concatenate([quiet, tone, quiet]).astype(np.int16), 22_050, pitch)
    assert len(line) == pytest.approx(8000 / pitch, rel=0.01)
    spectrum = np.abs(np.fft.rfft(line))
    assert spectrum.argmax() * 8000 / len(line) == pytest.approx(1000 * pitch, rel=0.01)
    assert audio.rms(line) == pytest.approx(audio.level(-20), rel=0.15)
    assert len(to_wideband(line)) == 2 * len(line)


def test_trimming_keeps_what_is_within_forty_decibels_of_the_peak() -> None:
    pcm = np.concatenate([np.full(50, 3), np.full(10, 10_000), np.full(50, 99), np.full(5, 101), np.full(9, 2)])
    assert len(audio.trimmed(pcm.astype(np.int16))) == 10 + 50 + 5


@given(st.lists(st.one_of(st.integers(1, 700), st.text("abc", min_size=1, max_size=3)), max_size=30))
def test_marks_come_back_once_in_order_when_what_precedes_them_was_heard(items: list[int | str]) -> None:
    playout, total = Playout(), 0
    returned: list[tuple[str, int]] = []
    before: list[int] = []
    for item in items:
        if isinstance(item, str):
            returned += [(mark, 0) for mark in playout.add_mark(item)]
            before.append(total)
        else:
            playout.add_audio(b"\x01" * item)
            total += item
    heard = 0
    while playout.buffered_ms or heard < total:
        frame, marks = playout.pop()
        heard += audio.FRAME_SAMPLES - frame.count(audio.SILENCE[:1])
        returned += [(mark, heard) for mark in marks]
    assert heard == total
    assert [mark for mark, _ in returned] == [item for item in items if isinstance(item, str)]
    assert all(at >= before[index] for index, (_, at) in enumerate(returned))


def test_clear_returns_the_marks_that_waited_and_leaves_silence() -> None:
    playout = Playout()
    playout.add_audio(b"\x01" * 400)
    playout.add_mark("a")
    assert playout.clear() == ["a"]
    assert playout.pop() == (audio.SILENCE, [])


def test_the_playout_buffer_is_bounded() -> None:
    playout = Playout()
    playout.add_audio(b"\x01" * (MAX_BUFFER_S * audio.SAMPLE_RATE + 5))
    assert playout.dropped_bytes == 5
    assert playout.buffered_ms == MAX_BUFFER_S * 1000


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 1), (1, 1), (60, 1), (60.2, 2), (61, 2), (120, 2), (121, 3)])
def test_a_started_minute_is_billed_whole(seconds: float, minutes: int) -> None:
    assert billing.started_minutes(seconds) == minutes


def test_prices_are_the_published_ones_and_written_as_the_carrier_does() -> None:
    prices = billing.load_prices()
    assert (prices.voice_micros_per_min, prices.stream_micros_per_min) == (14_000, 4_000)
    assert billing.price_text(28_000) == "-0.02800"
    assert billing.price_text(0) == "0.00000"


async def test_a_late_tick_does_not_move_the_later_ones() -> None:
    lateness = Lateness()
    ticker = Ticker(0.01, lateness)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await ticker.tick()
    await asyncio.sleep(0.05)  # busy meanwhile
    for _ in range(9):
        await ticker.tick()
    assert 0.099 <= loop.time() - began < 0.115
    assert lateness.frames == 10
    assert lateness.percentile(100) >= 35


def test_twiml_is_read_in_order() -> None:
    verbs = twiml.parse(
        '<?xml version="1.0"?><Response><Say>one two three four five</Say><Pause length="2"/><Connect action="/next">'
        '<Stream url="wss://h/p/t" name="s"><Parameter name="a" value="b"/></Stream></Connect><Hangup/></Response>'
    )
    assert verbs == [
        twiml.Say(2.0, "one two three four five"),
        twiml.Pause(2.0),
        twiml.Stream("wss://h/p/t", "s", {"a": "b"}, "/next"),
        twiml.Hangup(),
    ]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("", 12100),
        ("<Response>", 12100),
        ('<!DOCTYPE x [<!ENTITY a "b">]><Response>&a;</Response>', 12100),
        ("<Answer/>", 12200),
        ("<Response><Dance/></Response>", 12200),
        ('<Response><Connect><Stream url="ws://h/p?token=1"/></Connect></Response>', 31923),
        ('<Response><Connect><Stream url="https://h/p"/></Connect></Response>', 31923),
        ('<Response><Pause length="soon"/></Response>', 13910),
        ("<Response>" + " " * 70_000 + "</Response>", 11750),
    ],
)
def test_twiml_that_cannot_be_followed_names_the_carriers_code(document: str, code: int) -> None:
    with pytest.raises(TwimlError) as refused:
        twiml.parse(document)
    assert refused.value.code == code


def test_an_unknown_callback_event_silences_all_callbacks_as_at_the_carrier() -> None:
    form = parse_form("To=%2B15550100100&From=%2B15550100001&Url=http://h/&StatusCallbackEvent=initiated%20ringing")
    assert call_request(form).status_callback_events == frozenset()


def test_forms_are_bounded() -> None:
    with pytest.raises(ApiError):
        parse_form("&".join(f"a{n}=1" for n in range(500)))


def write(path: Path, text: str) -> Path:
    file = path / "people.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("people: {}", "people"),
        ('people: {"5550100": {name: A}}', "people.5550100"),
        ('people: {"+15550100100": {name: A, behavior: busy}}', "behavior"),
        ('people: {"+15550100100": {name: A, script: [{topic: budget, says: [Yes.]}]}}', "'budget'"),
        ('people: {"+15550100100": {name: A, script: [{says: [Yes.]}]}}', "`topic` or `hears`"),
        ('people: {"+15550100100": {name: A, thinks_s: [2, 1]}}', "thinks_s"),
        ("people: [", "is not YAML"),
    ],
)
def test_a_wrong_people_file_says_where(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PeopleFileError) as refused:
        load_people(write(tmp_path, text))
    assert told in str(refused.value)


def test_a_missing_people_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PeopleFileError, match="cannot read the people file"):
        load_people(tmp_path / "nobody.yaml")
