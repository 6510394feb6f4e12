"""Between a synthesiser's rate, the line's 8 kHz, and Whisper's 16 kHz."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from callfleet_simulator.audio import SAMPLE_RATE, Pcm, at_level, trimmed

Wideband = npt.NDArray[np.float32]


def to_line(pcm: Pcm, rate: int, pitch: float) -> Pcm:
    """Speech at `rate` as a telephone hears it: 8 kHz, raised by `pitch`, trimmed, at a usual level."""
    ratio = (Fraction(SAMPLE_RATE) / (Fraction(rate) * Fraction(pitch).limit_denominator(20))).limit_denominator(1000)
    resampled = resample_poly(pcm.astype(np.float64), ratio.numerator, ratio.denominator)
    return at_level(trimmed(np.rint(np.clip(resampled, -32_768, 32_767)).astype(np.int16)))


def to_wideband(pcm: Pcm) -> Wideband:
    """8 kHz samples as 16 kHz floats between -1 and 1."""
    wide: Wideband = resample_poly(pcm.astype(np.float64) / 32_768, 2, 1).astype(np.float32)
    return wide
