"""What a person hears, as words: Whisper in a process of its own, one decode a turn.

`python -m callfleet_simulator.whisper_process MODEL_FOLDER`, spoken to over `wire`: 8 kHz samples in, text out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

from callfleet_simulator import wire
from callfleet_simulator.resampling import Wideband, to_wideband
from callfleet_simulator.stutter import stutters

WHISPER_RATE = 16_000
FRAMES_PER_S = 100
WINDOW_S = 30
# The encoder's window is the utterance and some silence: less than 3 s of it and the decoder repeats itself.
PADDING_S = 5
TOKENS_PER_S = 8
SPARE_TOKENS = 12


class Listener:
    """The loaded model."""

    def __init__(self, folder: str) -> None:
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        self._model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads)
        self._tokenizer = Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language="en"
        )

    def words(self, audio: Wideband) -> str:
        """The words in up to 25 s of 16 kHz audio, by a short window; by the whole one where that stutters."""
        text = self._short(audio)
        return self._whole(audio) if stutters(text) else text

    def _short(self, audio: Wideband) -> str:
        seconds = len(audio) / WHISPER_RATE
        count = min(WINDOW_S, int(seconds + PADDING_S)) * FRAMES_PER_S
        features = self._model.feature_extractor(audio)[:, :count]
        padded = np.pad(features, ((0, 0), (0, count - features.shape[1])))
        prompt = self._model.get_prompt(self._tokenizer, [], without_timestamps=True)
        # CTranslate2 takes max_length for both sides of the context and generates half as many tokens.
        limit = 2 * (SPARE_TOKENS + int(seconds * TOKENS_PER_S))
        result: Any = self._model.model.generate(
            self._model.encode(padded), [prompt], beam_size=1, max_length=min(448, limit), return_no_speech_prob=True
        )[0]
        return str(self._tokenizer.decode(result.sequences_ids[0])).strip()

    def _whole(self, audio: Wideband) -> str:
        segments, _ = self._model.transcribe(audio, language="en", beam_size=1, without_timestamps=True)
        return " ".join(segment.text.strip() for segment in segments)


def prepare() -> Callable[[wire.Header, bytes], wire.Frame]:
    """Loads the model."""
    listener = Listener(sys.argv[1])

    def handle(_header: wire.Header, payload: bytes) -> wire.Frame:
        heard = np.frombuffer(payload, dtype="<i2").astype(np.int16)
        return {"text": listener.words(to_wideband(heard))}, b""

    return handle


if __name__ == "__main__":
    wire.serve(prepare)
