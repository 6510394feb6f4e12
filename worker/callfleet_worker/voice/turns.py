"""The words of turn-taking: whose turn it is, how long things may take, which timer went off."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Timings:
    """How long things may take, in seconds.

    `greeting_wait_s`: after pick-up, for the person's hello; `greeting_length_s`: for its end; `silence_s`: after our
    last word, before we ask whether somebody is there; `mark_grace_s`: for the carrier's mark, beyond the reply.
    """

    greeting_wait_s: float = 1.2
    greeting_length_s: float = 4.0
    silence_s: float = 6.0
    mark_grace_s: float = 2.5


class Phase(StrEnum):
    """Whose turn it is."""

    GREETING = "greeting"
    THINKING = "thinking"
    SPEAKING = "speaking"
    LISTENING = "listening"
    OVER = "over"


@dataclass(frozen=True)
class Tick:
    """A timer of ours went off; `serial` tells a stale one."""

    kind: str
    serial: int = 0
