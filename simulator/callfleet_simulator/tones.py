"""Sounds that need no model: beeps, a fax's tone, telephone keys, and a murmur in place of words."""

from __future__ import annotations

import numpy as np

from callfleet_simulator.audio import SAMPLE_RATE, Pcm, at_level, level

BEEP_HZ, BEEP_S, BEEP_DBM0 = 1400.0, 0.4, -14.0
FAX_HZ, FAX_S = 2100.0, 3.3  # ITU-T T.30's CED
KEY_S, KEY_GAP_S, KEY_DBM0 = 0.1, 0.08, -12.0
WORDS_PER_SECOND = 2.5  # a usual speaking rate

_ROWS, _COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)  # ITU-T Q.23
_KEYS = ("123A", "456B", "789C", "*0#D")


def tone(*hertz: float, seconds: float, dbm0: float) -> Pcm:
    """A sum of equal sines, together at this level."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waves = np.sin(2 * np.pi * np.outer(hertz, time_s)).sum(axis=0)
    scaled: Pcm = np.rint(waves * level(dbm0) * (2 / len(hertz)) ** 0.5).astype(np.int16)
    return scaled


def silence(seconds: float) -> Pcm:
    """Nothing, for so long."""
    return np.zeros(round(seconds * SAMPLE_RATE), dtype=np.int16)


def beep() -> Pcm:
    """An answering machine's: speak now."""
    return tone(BEEP_HZ, seconds=BEEP_S, dbm0=BEEP_DBM0)


def fax() -> Pcm:
    """What a fax says when it is called."""
    return tone(FAX_HZ, seconds=FAX_S, dbm0=BEEP_DBM0)


def key(name: str) -> Pcm:
    """A pressed key's two tones, and the pause after it. Raises ValueError for what is no key."""
    for row, names in zip(_ROWS, _KEYS, strict=True):
        if name in names:
            pressed = tone(row, _COLUMNS[names.index(name)], seconds=KEY_S, dbm0=KEY_DBM0)
            return np.concatenate([pressed, silence(KEY_GAP_S)])
    raise ValueError(f"{name!r} is no telephone key")


def murmur(text: str) -> Pcm:
    """Noise with the rhythm and length of the text spoken: what people without a voice have."""
    words = max(1, len(text.split()))
    time_s = np.arange(round(words / WORDS_PER_SECOND * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(len(text)).normal(0.0, 1000.0, len(time_s))
    syllables = np.abs(np.sin(2 * np.pi * WORDS_PER_SECOND * time_s))
    return at_level(np.rint(noise * syllables).astype(np.int16))
