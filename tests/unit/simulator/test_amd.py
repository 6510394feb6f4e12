"""Who picked up? Judged frame by frame, in virtual time."""

from __future__ import annotations

import numpy as np
import pytest

from callfleet_simulator import tones
from callfleet_simulator.amd import AmdSettings, Detector, pure_tone
from callfleet_simulator.audio import FRAME_SAMPLES, SAMPLE_RATE, Pcm, at_level

QUIET = tones.silence


def speech(seconds: float) -> Pcm:
    return tones.murmur("word " * round(seconds * tones.WORDS_PER_SECOND))


def judged(settings: AmdSettings, *heard: Pcm) -> tuple[str | None, int]:
    """The answer, and after how many milliseconds it came."""
    detector = Detector(settings)
    audio = np.concatenate(heard)
    for start in range(0, len(audio) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        answer = detector.feed(audio[start : start + FRAME_SAMPLES])
        if answer is not None:
            return answer.value, detector.elapsed_ms
    return None, detector.elapsed_ms


AT_ONCE, AT_THE_END = AmdSettings(), AmdSettings(wait_for_end=True)
HELLO = (QUIET(0.6), speech(0.8), QUIET(3))
GREETING = (QUIET(0.6), speech(6), QUIET(0.8))


@pytest.mark.parametrize(
    ("settings", "heard", "answer", "between_ms"),
    [
        (AT_ONCE, HELLO, "human", (2400, 2800)),
        (AT_THE_END, HELLO, "human", (2400, 2800)),
        (AT_ONCE, (*GREETING, tones.beep()), "machine_start", (2900, 3300)),
        (AT_THE_END, (*GREETING, tones.beep(), QUIET(1)), "machine_end_beep", (7700, 7900)),
        (AT_THE_END, (*GREETING, QUIET(4)), "machine_end_silence", (8900, 9200)),
        (AT_THE_END, (QUIET(0.6), speech(40)), "machine_end_other", (30_000, 30_000)),
        (AT_ONCE, (QUIET(0.6), tones.beep(), QUIET(1)), "machine_start", (900, 1100)),
        (AT_ONCE, (QUIET(1), tones.fax()), "fax", (1400, 1600)),
        (AT_THE_END, (QUIET(1), tones.fax()), "fax", (1400, 1600)),
        (AT_ONCE, (QUIET(8),), "unknown", (5000, 5000)),
        (AmdSettings(silence_timeout_ms=2000), (QUIET(8),), "unknown", (2000, 2000)),
        (AmdSettings(speech_threshold_ms=6000), (QUIET(0.6), speech(4), QUIET(2)), "human", (5700, 6000)),
        (AmdSettings(speech_end_threshold_ms=500), HELLO, "human", (1700, 2100)),
        (AmdSettings(timeout_s=3), (QUIET(2.5), speech(4)), "unknown", (3000, 3000)),
    ],
)
def test_what_is_heard_decides(
    settings: AmdSettings, heard: tuple[Pcm, ...], answer: str, between_ms: tuple[int, int]
) -> None:
    judged_as, elapsed_ms = judged(settings, *heard)
    assert judged_as == answer
    assert between_ms[0] <= elapsed_ms <= between_ms[1]


def test_a_sung_vowel_is_no_tone() -> None:
    time_s = np.arange(FRAME_SAMPLES) / SAMPLE_RATE
    harmonics = np.arange(1, 12)
    vowel = (np.sin(2 * np.pi * 140 * np.outer(harmonics, time_s)) / harmonics[:, None]).sum(axis=0)
    assert pure_tone(at_level((vowel * 3000).astype(np.int16))) is None
    assert pure_tone(tones.beep()[:FRAME_SAMPLES]) == tones.BEEP_HZ


@pytest.mark.parametrize(("name", "hertz"), [("1", (697, 1209)), ("5", (770, 1336)), ("#", (941, 1477))])
def test_a_key_is_two_tones(name: str, hertz: tuple[int, int]) -> None:
    spectrum = np.abs(np.fft.rfft(tones.key(name)[:800]))
    assert sorted(np.argsort(spectrum)[-2:] * SAMPLE_RATE / 800) == pytest.approx(hertz, abs=10)


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="no telephone key"):
        tones.key("x")
