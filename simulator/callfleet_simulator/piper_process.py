"""Piper in a process of its own (it is GPL-3.0): text in, 8 kHz speech of a person out.

`python -m callfleet_simulator.piper_process MODEL.onnx`, spoken to over `wire`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from piper import PiperVoice, SynthesisConfig
from scipy.signal import resample_poly

from callfleet_simulator import wire
from callfleet_simulator.audio import SAMPLE_RATE, Pcm, at_level, trimmed


def line_audio(pcm: Pcm, rate: int, pitch: float) -> Pcm:
    """Speech at `rate` as a telephone hears it: 8 kHz, raised by `pitch`, trimmed, at a usual level."""
    ratio = (Fraction(SAMPLE_RATE) / (Fraction(rate) * Fraction(pitch).limit_denominator(20))).limit_denominator(1000)
    resampled = resample_poly(pcm.astype(np.float64), ratio.numerator, ratio.denominator)
    return at_level(trimmed(np.rint(np.clip(resampled, -32_768, 32_767)).astype(np.int16)))


def prepare() -> Callable[[wire.Header, bytes], wire.Frame]:
    """Loads the voice."""
    model = Path(sys.argv[1])
    voice = PiperVoice.load(model, config_path=f"{model}.json")

    def handle(header: wire.Header, _payload: bytes) -> wire.Frame:
        # The pitch is raised by playing faster: speaking slower by as much keeps the tempo.
        config = SynthesisConfig(length_scale=header["length_scale"] * header["pitch"])
        chunks = [chunk.audio_int16_array for chunk in voice.synthesize(header["text"], config)]
        pcm = line_audio(np.concatenate(chunks), voice.config.sample_rate, header["pitch"])
        return {"samples": len(pcm)}, pcm.astype("<i2").tobytes()

    return handle


if __name__ == "__main__":
    wire.serve(prepare)
