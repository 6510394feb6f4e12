"""Small pure functions on PCM16 mono audio."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

TELEPHONE_RATE = 8_000
WHISPER_RATE = 16_000
SPEECH_BELOW_PEAK_DB = 40.0
"""Samples quieter than the peak by more than this are silence [docs/worker.md, "last sample"]."""

Samples = NDArray[np.int16]


def samples_of(pcm: bytes) -> Samples:
    """PCM16 bytes as samples; a torn last byte is dropped."""
    return np.frombuffer(pcm[: len(pcm) // 2 * 2], dtype=np.int16)


def resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    """The same sound at another rate, in one piece."""
    if from_rate == to_rate or samples.size == 0:
        return samples
    converted = soxr.resample(samples.astype(np.float32) / 32768.0, from_rate, to_rate, quality="HQ")
    rounded: Samples = np.clip(np.round(converted * 32767.0), -32768, 32767).astype(np.int16)
    return rounded


def trimmed(samples: Samples, rate: int, *, keep_ms: int = 5) -> Samples:
    """Without the silence before and after: what lies 40 dB under the peak, but for `keep_ms` at either side."""
    if samples.size == 0:
        return samples
    loud = np.abs(samples.astype(np.int32))
    threshold = max(1.0, float(loud.max()) * 10 ** (-SPEECH_BELOW_PEAK_DB / 20))
    above = np.flatnonzero(loud >= threshold)
    keep = rate * keep_ms // 1000
    return np.asarray(samples[max(0, int(above[0]) - keep) : int(above[-1]) + 1 + keep])


def level_db(pcm: bytes) -> float:
    """The RMS level of a chunk in dBFS; -120 for digital silence."""
    samples = samples_of(pcm).astype(np.float64)
    if samples.size == 0:
        return -120.0
    power = float(np.mean(samples * samples))
    return max(-120.0, 10 * float(np.log10(power / 32768.0**2))) if power > 0 else -120.0
