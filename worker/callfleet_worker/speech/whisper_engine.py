"""Whisper on CTranslate2: one utterance in, its words and their likelihood out.

The encoder normally sees 30 s, whatever was said. Ours sees the utterance and 5 s of silence, a sixth of the work;
below 3 to 5 s of padding the decoder repeats itself, so its tokens are capped by the utterance's length, and a text
that still repeats is decoded once more with the full window.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from numpy.typing import NDArray

from callfleet_worker.speech.audio import WHISPER_RATE, Samples, samples_of

PADDING_S = 5.0
FULL_WINDOW_S = 30.0
MAX_UTTERANCE_S = 28.0
TOKENS_PER_SECOND = 7.0
TOKENS_AT_LEAST = 12
MAX_COMPRESSION = 2.2
LENGTH_PENALTY = 1.0
NO_SPEECH = 0.6
"""Measured: line noise 0.75 to 0.89 with any hint, speech 0.03 to 0.25."""
DOUBTFUL_LOGPROB = -1.0
MAX_HINT_CHARACTERS = 300
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Decoded:
    """What Whisper heard: its text, mean log-probability a token, chance of no speech, language, seconds and window."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    language: str
    audio_s: float
    window: Literal["short", "full"]


def chosen_device(device: Device) -> Literal["cpu", "cuda"]:
    """CUDA where `auto` finds it."""
    if device == "auto":
        return "cuda" if ctranslate2.get_cuda_device_count() > 0 else "cpu"
    return device


class WhisperEngine:
    """A loaded model; `decode` may be called from as many threads as there are replicas."""

    def __init__(self, model_dir: Path, *, device: Device = "auto", replicas: int = 1, language: str = "en") -> None:
        used = chosen_device(device)
        self._model = WhisperModel(
            str(model_dir),
            device=used,
            compute_type="float16" if used == "cuda" else "int8",
            cpu_threads=1,
            num_workers=replicas,
            local_files_only=True,
        )
        self.device = used
        self._language = language
        self._tokenizer = Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language=language
        )

    def decode(self, pcm: bytes, hint: str = "") -> Decoded:
        """The words of one utterance, PCM16 mono at 16 kHz. Raises ValueError when it is empty or longer than 28 s.

        `hint` is what was just asked: as the decoder's context it turns "Hello" back into "A house".
        """
        samples = samples_of(pcm)
        seconds = samples.size / WHISPER_RATE
        if not 0 < seconds <= MAX_UTTERANCE_S:
            raise ValueError(f"an utterance must last between 0 and {MAX_UTTERANCE_S:.0f} s, not {seconds:.1f} s")
        short = self._decode(samples, min(seconds + PADDING_S, FULL_WINDOW_S), "short", hint[-MAX_HINT_CHARACTERS:])
        if repeats(short.text):
            return self._decode(samples, FULL_WINDOW_S, "full", "")
        if short.avg_logprob < DOUBTFUL_LOGPROB and short.no_speech_prob < NO_SPEECH:
            full = self._decode(samples, FULL_WINDOW_S, "full", hint[-MAX_HINT_CHARACTERS:])
            return short if repeats(full.text) else max(short, full, key=lambda decoded: decoded.avg_logprob)
        return short

    def _decode(self, samples: Samples, window_s: float, window: Literal["short", "full"], hint: str) -> Decoded:
        seconds = samples.size / WHISPER_RATE
        features = self._features(samples, window_s)
        context = self._tokenizer.encode(f" {hint}") if hint else []
        prompt: list[int] = self._model.get_prompt(self._tokenizer, context, without_timestamps=True)
        result = self._model.model.generate(
            self._model.encode(features),
            [prompt],
            beam_size=1,
            max_length=_max_length(len(prompt), max(TOKENS_AT_LEAST, int(seconds * TOKENS_PER_SECOND))),
            length_penalty=LENGTH_PENALTY,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
        )[0]
        tokens: list[int] = result.sequences_ids[0]
        average = result.scores[0] * len(tokens) ** LENGTH_PENALTY / (len(tokens) + 1)
        text = cleaned(self._tokenizer.decode([token for token in tokens if token < self._tokenizer.eot]))
        if result.no_speech_prob >= NO_SPEECH:
            text = ""  # what Whisper says to noise
        return Decoded(text, float(average), float(result.no_speech_prob), self._language, seconds, window)

    def _features(self, samples: Samples, window_s: float) -> NDArray[Any]:
        wanted = int(window_s * WHISPER_RATE)
        audio = np.zeros(wanted, dtype=np.float32)
        audio[: samples.size] = samples.astype(np.float32) / 32768.0
        features: NDArray[Any] = self._model.feature_extractor(audio, padding=0)
        frames = wanted // self._model.feature_extractor.hop_length
        return np.ascontiguousarray(features[..., : frames - frames % 2])


def _max_length(prompt_tokens: int, new_tokens: int) -> int:
    """CTranslate2 lets Whisper write min(max_length / 2, max_length - prompt) tokens [src/models/whisper.cc]."""
    return min(448, max(2 * new_tokens, prompt_tokens + new_tokens))


def repeats(text: str) -> bool:
    """Whether a decoder got stuck: it says a word five times or a phrase three times, or compresses far too well."""
    words = re.findall(r"[\w']+", text.lower())
    pairs = Counter(pairwise(words))
    if (pairs and max(pairs.values()) >= 3) or any(len(set(words[i : i + 5])) == 1 for i in range(len(words) - 4)):
        return True
    raw = text.encode()
    return len(raw) > 40 and len(raw) / len(zlib.compress(raw)) > MAX_COMPRESSION


def cleaned(text: str) -> str:
    """Without sound descriptions in brackets, which people do not say."""
    return " ".join(re.sub(r"\[[^\]]*\]|\([^)]*\)|♪|\*[^*]*\*", " ", text).split())
