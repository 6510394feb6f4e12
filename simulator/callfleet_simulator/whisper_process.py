"""What a person hears, as words: Whisper in a process of its own, one decode a turn.

`python -m callfleet_simulator.whisper_process MODEL_FOLDER`, spoken to over `wire`: 8 kHz samples in, text out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from scipy.signal import resample_poly

from callfleet_simulator import wire

WHISPER_RATE = 16_000
FRAMES_PER_S = 100
WINDOW_S = 30
# The encoder's window is the utterance and some silence: less than 3 s of it and the decoder repeats itself.
PADDING_S = 5
TOKENS_PER_S = 8
SPARE_TOKENS = 12
MIN_REPEATED_WORDS = 3

Audio = npt.NDArray[np.float32]


def stutters(text: str) -> bool:
    """True when the text says itself twice, or any three or more words twice in a row: the decoder's habit."""
    words = re.findall(r"[\w'$]+", text.lower().replace(",", " "))
    for size in range(1, len(words) // 2 + 1):
        if size < MIN_REPEATED_WORDS and size * 2 != len(words):
            continue
        if any(words[at : at + size] == words[at + size : at + 2 * size] for at in range(len(words) - 2 * size + 1)):
            return True
    return False


class Listener:
    """The loaded model."""

    def __init__(self, folder: str) -> None:
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        self._model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads)
        self._tokenizer = Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language="en"
        )

    def words(self, audio: Audio) -> str:
        """The words in up to 25 s of 16 kHz audio, by a short window; by the whole one where that stutters."""
        text = self._short(audio)
        return self._whole(audio) if stutters(text) else text

    def _short(self, audio: Audio) -> str:
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

    def _whole(self, audio: Audio) -> str:
        segments, _ = self._model.transcribe(audio, language="en", beam_size=1, without_timestamps=True)
        return " ".join(segment.text.strip() for segment in segments)


def prepare() -> Callable[[wire.Header, bytes], wire.Frame]:
    """Loads the model."""
    listener = Listener(sys.argv[1])

    def handle(_header: wire.Header, payload: bytes) -> wire.Frame:
        samples = np.frombuffer(payload, dtype="<i2").astype(np.float64) / 32_768
        return {"text": listener.words(resample_poly(samples, 2, 1).astype(np.float32))}, b""

    return handle


if __name__ == "__main__":
    wire.serve(prepare)
