"""The frames of our own that travel beside pipecat's."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipecat.frames.frames import DataFrame, SystemFrame, TranscriptionFrame


@dataclass
class MarkFrame(SystemFrame):
    """The carrier has played everything up to the mark of this name, or dropped it on a clear."""

    mark: str = ""


@dataclass
class SustainedSpeechFrame(SystemFrame):
    """The person has been speaking long enough to mean it: while we speak, this is an interruption."""


@dataclass
class UtteranceFrame(TranscriptionFrame):
    """One whole turn of the person.

    `last_voice_at` is when its last speech sample was received (event-loop seconds), `speech_ms` how long the
    person spoke, `decode_ms` how long Whisper took, `began_at` when the first sample was received.
    An interruption must not drop it: it is what interrupted us.
    """

    interruptible: bool = field(default=False, init=False)

    last_voice_at: float = 0.0
    began_at: float = 0.0
    speech_ms: int = 0
    decode_ms: int = 0


@dataclass
class SayFrame(DataFrame):
    """A clause to speak; `mark` asks the carrier to say when it was heard; `pause_ms` of silence follow it."""

    text: str = ""
    mark: str | None = None
    pause_ms: int = 0
