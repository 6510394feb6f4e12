"""Answering machine detection: who picked up, judged by what is heard, with Twilio's parameters and answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from callfleet_simulator.audio import FRAME_MS, SAMPLE_RATE, Pcm, level, rms


class AnsweredBy(StrEnum):
    """Twilio's answers. With DetectMessageEnd a machine is one of the three `machine_end_*`."""

    HUMAN = "human"
    MACHINE_START = "machine_start"
    MACHINE_END_BEEP = "machine_end_beep"
    MACHINE_END_SILENCE = "machine_end_silence"
    MACHINE_END_OTHER = "machine_end_other"
    FAX = "fax"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class AmdSettings:
    """What a call asked for. Defaults are Twilio's."""

    wait_for_end: bool = False  # MachineDetection=DetectMessageEnd
    asynchronous: bool = False
    callback: str | None = None
    callback_method: str = "POST"
    timeout_s: int = 30
    speech_threshold_ms: int = 2400
    speech_end_threshold_ms: int = 1200
    silence_timeout_ms: int = 5000


LOUD_RMS = level(-45.0)
END_SILENCE_MS = 2500  # after a greeting without a beep
BEEP_MS, FAX_MS = 300, 500
LOWEST_BEEP_HZ = 600
FAX_HZ = (1100, 2100)
PURE = 0.95  # of a frame's energy within a tone's band


class Detector:
    """Feed it what the called side says, 20 ms at a time, until it answers. Pure."""

    def __init__(self, settings: AmdSettings) -> None:
        self._settings = settings
        self._tone = ToneEar()
        self._activity_ms = 0
        self._gap_ms = 0
        self._machine = False
        self.elapsed_ms = 0

    def feed(self, pcm: Pcm | None) -> AnsweredBy | None:
        """Takes 160 samples, or None for silence; answers once it knows."""
        self.elapsed_ms += FRAME_MS
        loud = pcm is not None and rms(pcm) > LOUD_RMS
        if loud:
            self._activity_ms += self._gap_ms + FRAME_MS
            self._gap_ms = 0
        elif self._activity_ms:
            self._gap_ms += FRAME_MS
        heard = self._tone.feed(pcm if loud else None)
        return self._by_tone(heard) or self._by_speech() or self._by_time()

    def _by_tone(self, heard: str | None) -> AnsweredBy | None:
        if heard == "fax":
            return AnsweredBy.FAX
        if heard == "beep":
            return AnsweredBy.MACHINE_END_BEEP if self._settings.wait_for_end else AnsweredBy.MACHINE_START
        return None

    def _by_speech(self) -> AnsweredBy | None:
        settings = self._settings
        if self._activity_ms > settings.speech_threshold_ms and not self._tone.sounding:
            self._machine = True
            if not settings.wait_for_end:
                return AnsweredBy.MACHINE_START
        if self._machine:
            return AnsweredBy.MACHINE_END_SILENCE if self._gap_ms >= END_SILENCE_MS else None
        ended = self._activity_ms > 0 and self._gap_ms >= settings.speech_end_threshold_ms
        return AnsweredBy.HUMAN if ended else None

    def _by_time(self) -> AnsweredBy | None:
        if self._activity_ms == 0 and self.elapsed_ms >= self._settings.silence_timeout_ms:
            return AnsweredBy.UNKNOWN
        if self.elapsed_ms >= self._settings.timeout_s * 1000:
            return AnsweredBy.MACHINE_END_OTHER if self._machine else AnsweredBy.UNKNOWN
        return None


class ToneEar:
    """Tells a fax's tone while it sounds, and a beep when it ends, from speech."""

    def __init__(self) -> None:
        self._hertz = 0.0
        self._ms = 0

    @property
    def sounding(self) -> bool:
        """A tone sounds now that may become a beep or a fax."""
        return self._ms >= BEEP_MS // 2

    def feed(self, pcm: Pcm | None) -> str | None:
        """`fax`, `beep` or None."""
        hertz = None if pcm is None else pure_tone(pcm)
        if hertz is not None and abs(hertz - self._hertz) <= 50:
            self._ms += FRAME_MS
            is_fax = self._ms >= FAX_MS and any(abs(hertz - known) <= 50 for known in FAX_HZ)
            return "fax" if is_fax else None
        was_beep = self._ms >= BEEP_MS and self._hertz >= LOWEST_BEEP_HZ
        self._hertz, self._ms = (hertz, FRAME_MS) if hertz is not None else (0.0, 0)
        return "beep" if was_beep else None


def pure_tone(pcm: Pcm) -> float | None:
    """The frequency of a frame that is nothing but a sine; None for anything else."""
    power = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)))) ** 2
    peak = int(power.argmax())
    share = power[max(0, peak - 2) : peak + 3].sum() / max(power.sum(), 1e-9)
    return float(peak * SAMPLE_RATE / len(pcm)) if share >= PURE else None
