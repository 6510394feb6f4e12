"""When somebody has finished, and how long a text asks us to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_worker.voice.endpointing import (
    COMPLETE_MS,
    DECODE_AFTER_MS,
    HESITANT_MS,
    MAX_UTTERANCE_MS,
    NEUTRAL_MS,
    SUSTAINED_MS,
    Endpointer,
    Step,
    patience_ms,
)

CHUNK_MS = 20


def feed(ends: Endpointer, voiced: bool, duration_ms: int) -> list[Step]:
    steps = [ends.step(voiced, CHUNK_MS) for _ in range(duration_ms // CHUNK_MS)]
    return [step for step in steps if step is not Step.NOTHING]


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("Yes, I am.", True, COMPLETE_MS),
        ("A condo, I think.", True, COMPLETE_MS),
        ("Yes, and", True, HESITANT_MS),
        ("Three hundred...", True, HESITANT_MS),
        ("Um", False, HESITANT_MS),
        ("I think", False, HESITANT_MS),
        ("about", False, HESITANT_MS),
        ("The weather is nice.", False, NEUTRAL_MS),
        ("", False, NEUTRAL_MS),
    ],
)
def test_patience_follows_the_words(text: str, answers: bool, expected: int) -> None:
    assert patience_ms(text, answers=answers) == expected


def test_a_pause_starts_a_decode_and_speech_takes_it_back() -> None:
    ends = Endpointer()
    assert feed(ends, True, 200) == [Step.STARTED]
    assert feed(ends, False, DECODE_AFTER_MS) == [Step.PAUSED]
    assert feed(ends, True, 100) == [Step.RESUMED]
    assert ends.silence_ms == 0
    assert ends.speech_ms == 300


def test_long_speech_is_sustained_once_and_cut_once() -> None:
    ends = Endpointer()
    steps = feed(ends, True, MAX_UTTERANCE_MS + 2_000)
    assert steps == [Step.STARTED, Step.SUSTAINED, Step.TOO_LONG]


def test_a_short_word_is_never_sustained() -> None:
    assert feed(Endpointer(), True, SUSTAINED_MS - 2 * CHUNK_MS) == [Step.STARTED]


@given(st.lists(st.booleans(), max_size=400))
def test_counts_never_disagree_with_the_audio(voiced: list[bool]) -> None:
    ends = Endpointer()
    for one in voiced:
        ends.step(one, CHUNK_MS)
        assert 0 <= ends.speech_ms <= ends.total_ms
        assert ends.silence_ms <= ends.total_ms
