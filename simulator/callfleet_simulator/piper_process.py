"""Piper in a process of its own (it is GPL-3.0): text in, 8 kHz speech of a person out.

`python -m callfleet_simulator.piper_process MODEL.onnx`, spoken to over `wire`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from piper import PiperVoice, SynthesisConfig

from callfleet_simulator import wire
from callfleet_simulator.resampling import to_line


def prepare() -> Callable[[wire.Header, bytes], wire.Frame]:
    """Loads the voice."""
    model = Path(sys.argv[1])
    voice = PiperVoice.load(model, config_path=f"{model}.json")

    def handle(header: wire.Header, _payload: bytes) -> wire.Frame:
        # The pitch is raised by playing faster: speaking slower by as much keeps the tempo.
        config = SynthesisConfig(length_scale=header["length_scale"] * header["pitch"])
        chunks = [chunk.audio_int16_array for chunk in voice.synthesize(header["text"], config)]
        pcm = to_line(np.concatenate(chunks), voice.config.sample_rate, header["pitch"])
        return {"samples": len(pcm)}, pcm.astype("<i2").tobytes()

    return handle


if __name__ == "__main__":
    wire.serve(prepare)
