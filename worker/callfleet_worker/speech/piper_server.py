"""The speaking process: `python -m callfleet_worker.speech.piper_server --socket PATH --voice FILE`.

The only place that imports Piper, which is GPL-3.0: other processes reach it through its socket. It keeps the phrases
it has spoken, so that a campaign's own sentences are rendered once a worker. Prints `ready` when it serves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from piper import PiperVoice
from piper.config import PiperConfig

from callfleet_core.logs import configure
from callfleet_worker.speech.audio import TELEPHONE_RATE, resample, trimmed
from callfleet_worker.speech.parent import die_with_parent
from callfleet_worker.speech.serving import UnixServer

NICENESS = 5
CACHE_BYTES = 64 * 1024 * 1024
MAX_TEXT_CHARACTERS = 1_000


class Voice:
    """A Piper voice and its phrase cache."""

    def __init__(self, model: Path, *, threads: int = 1) -> None:
        self._voice = load_voice(model, threads)
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def speak(self, text: str) -> bytes:
        """PCM16 mono at 8 kHz without silence around it. Raises ValueError for empty or overlong text."""
        if not text.strip() or len(text) > MAX_TEXT_CHARACTERS:
            raise ValueError(f"a phrase must have between 1 and {MAX_TEXT_CHARACTERS} characters")
        with self._lock:
            if text in self._cache:
                self._cache.move_to_end(text)
                return self._cache[text]
        audio = self._render(text)
        with self._lock:
            self._keep(text, audio)
        return audio

    def _render(self, text: str) -> bytes:
        chunks = [chunk.audio_int16_array for chunk in self._voice.synthesize(text)]
        if not chunks:
            raise ValueError("the phrase has nothing to speak")
        spoken = resample(np.concatenate(chunks), self._voice.config.sample_rate, TELEPHONE_RATE)
        return trimmed(spoken, TELEPHONE_RATE).tobytes()

    def _keep(self, text: str, audio: bytes) -> None:
        if text in self._cache:
            return
        self._cache[text] = audio
        self._cached_bytes += len(audio)
        while self._cached_bytes > CACHE_BYTES:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)


def load_voice(model: Path, threads: int) -> PiperVoice:
    """PiperVoice.load would take every core; this is the same with a bounded number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), sess_options=options, providers=["CPUExecutionProvider"])
    config = PiperConfig.from_dict(json.loads(Path(f"{model}.json").read_text(encoding="utf-8")))
    return PiperVoice(session=session, config=config)


def main() -> None:
    """Loads the voice, serves, ends on SIGTERM or with its parent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--voice", type=Path, required=True)
    options = parser.parse_args()
    die_with_parent()
    os.nice(NICENESS)
    configure("piper", os.environ.get("LOG_LEVEL", "INFO"))
    voice = Voice(options.voice)
    voice.speak("Hello.")
    asyncio.run(_serve(voice, options.socket))


async def _serve(voice: Voice, socket: Path) -> None:
    def work(header: dict[str, Any], _payload: bytes) -> tuple[dict[str, Any], bytes]:
        return {"sample_rate": TELEPHONE_RATE}, voice.speak(str(header.get("text", "")))

    serving = asyncio.ensure_future(UnixServer(socket, work, threads=1).run_until_stopped())
    await asyncio.sleep(0)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await serving


if __name__ == "__main__":
    main()
