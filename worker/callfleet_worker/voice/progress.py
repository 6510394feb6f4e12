"""How much of a reply the person has heard: its clauses' lengths against the time since its first sample. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from callfleet_worker.agents.state import Line
from callfleet_worker.speech.audio import TELEPHONE_RATE

PAUSE_MS = {"ack": 120, "opening": 250, "note": 200, "filler": 200, "question": 0, "reask": 0, "closing": 0}
STANDING_MS = 100
"""Audio that is written but not yet heard: what stands in the carrier's buffer."""
_BYTES_PER_MS = 2 * TELEPHONE_RATE // 1000


def duration_ms(line: Line, audio_of: Callable[[str], bytes | None]) -> int:
    """A clause's length with its pause; a clause that is not rendered yet counts as long as its text takes to say."""
    audio = audio_of(line.text)
    spoken = len(audio) // _BYTES_PER_MS if audio is not None else 70 * len(line.text)
    return spoken + PAUSE_MS[line.kind]


def question_heard(lines: Sequence[Line], audio_of: Callable[[str], bytes | None], elapsed_ms: float) -> float:
    """The share of the reply's last clause that was heard `elapsed_ms` after the first sample, from 0 to 1."""
    if not lines:
        return 0.0
    lengths = [duration_ms(line, audio_of) for line in lines]
    into_last = elapsed_ms - STANDING_MS - sum(lengths[:-1])
    return min(1.0, max(0.0, into_last / max(1, lengths[-1])))
