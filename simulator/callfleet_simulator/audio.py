"""The line's audio: μ-law at 8 kHz in frames of 20 ms, and the noise that a real line always carries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 8_000
FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE * FRAME_MS // 1000
SILENCE = b"\xff" * FRAME_SAMPLES  # μ-law zero

# 0 dBm0 as 16-bit linear RMS: a full-scale μ-law sine is +3.17 dBm0 (ITU-T G.711).
RMS_AT_0_DBM0 = 32_124 / 2**0.5 / 10 ** (3.17 / 20)
NOISE_DBM0 = -55.0
SPEECH_DBM0 = -20.0

Pcm = npt.NDArray[np.int16]

_BIAS = 0x84
_CLIP = 32_635


def _encode_all() -> npt.NDArray[np.uint8]:
    """μ-law of every 16-bit value, by G.711's segment rule; index = value + 32768."""
    linear = np.arange(-32_768, 32_768, dtype=np.int32)
    sign = np.where(linear < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(linear), _CLIP) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    codes: npt.NDArray[np.uint8] = (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8)
    return codes


def _decode_all() -> Pcm:
    """The 16-bit value of each of the 256 μ-law codes."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + _BIAS) << ((code >> 4) & 0x07)) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


_ENCODE = _encode_all()
_DECODE = _decode_all()


def to_mulaw(pcm: Pcm) -> bytes:
    """16-bit linear samples as μ-law bytes."""
    return _ENCODE[pcm.astype(np.int32) + 32_768].tobytes()


def from_mulaw(data: bytes) -> Pcm:
    """μ-law bytes as 16-bit linear samples."""
    return _DECODE[np.frombuffer(data, dtype=np.uint8)]


def rms(pcm: Pcm) -> float:
    """Root mean square of the samples; 0 for none."""
    return float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2))) if len(pcm) else 0.0


def level(dbm0: float) -> float:
    """The linear RMS of a level in dBm0."""
    return float(RMS_AT_0_DBM0 * 10 ** (dbm0 / 20))


class LineNoise:
    """Seeded white noise at a phone line's level; never digital silence. Frames repeat after `SECONDS`."""

    SECONDS = 11  # not a multiple of anything a listener could lock on to

    def __init__(self, seed: int, dbm0: float = NOISE_DBM0) -> None:
        generator = np.random.default_rng(seed)
        count = self.SECONDS * 1000 // FRAME_MS
        samples = generator.normal(0.0, level(dbm0), (count, FRAME_SAMPLES))
        self._frames: Pcm = np.rint(samples).astype(np.int16)
        self._encoded = [to_mulaw(frame) for frame in self._frames]
        self._index = int(generator.integers(count))

    def frame(self, speech: Pcm | None) -> bytes:
        """The next 20 ms in μ-law: `speech` (160 samples, or None for a silent person) over the noise."""
        self._index = (self._index + 1) % len(self._encoded)
        if speech is None:
            return self._encoded[self._index]
        mixed = speech.astype(np.int32) + self._frames[self._index]
        return to_mulaw(np.clip(mixed, -32_768, 32_767).astype(np.int16))


def trimmed(pcm: Pcm, below_peak_db: float = 40.0) -> Pcm:
    """Without what lies before the first and after the last sample within so many dB of the peak."""
    if not len(pcm):
        return pcm
    magnitude = np.abs(pcm.astype(np.int32))
    audible = np.flatnonzero(magnitude >= max(1.0, magnitude.max() * 10 ** (-below_peak_db / 20)))
    return pcm[audible[0] : audible[-1] + 1] if len(audible) else pcm[:0]


def at_level(pcm: Pcm, dbm0: float = SPEECH_DBM0) -> Pcm:
    """Scaled so that its audible part has this level, without clipping harder than a phone would."""
    audible = pcm[np.abs(pcm.astype(np.int32)) > 200]
    loudness = rms(audible)
    if loudness == 0.0:
        return pcm
    scaled = pcm.astype(np.float64) * (level(dbm0) / loudness)
    return np.rint(np.clip(scaled, -32_000, 32_000)).astype(np.int16)
