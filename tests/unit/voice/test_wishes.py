"""Hearing twice what may be a wish not to be called."""

from __future__ import annotations

import asyncio

import pytest

from callfleet_worker.speech.clients import Heard, SpeechError
from callfleet_worker.voice.wishes import WISHES, WishfulRecogniser


class Ears:
    """Hears `plain` with the question in mind, and `wishful` with wishes in mind."""

    def __init__(self, plain: str | None, wishful: str | None = None, took_s: float = 0.0) -> None:
        self._plain, self._wishful, self._took_s = plain, wishful, took_s
        self.asked: list[tuple[str, float]] = []

    async def decode(self, _pcm16k: bytes, *, hint: str = "", deadline_s: float = 8.0) -> Heard:
        self.asked.append((hint, deadline_s))
        await asyncio.sleep(self._took_s)
        text = self._wishful if hint == WISHES else self._plain
        if text is None:
            raise SpeechError("busy")
        return Heard(text=text, avg_logprob=-0.3, no_speech_prob=0.1, language="en", audio_s=1.0, window="short")


async def heard(ears: Ears) -> str:
    return (await WishfulRecogniser(ears).decode(b"..", hint="A house or a condo?")).text


@pytest.mark.parametrize(
    ("plain", "wishful", "text"),
    [
        ("Call me.", "Stop calling me.", "Stop calling me."),
        ("Call me.", "Call me.", "Call me."),
        ("Call me tomorrow.", "Don't, tomorrow.", "Call me tomorrow."),
        ("Call me.", None, "Call me."),
    ],
)
async def test_a_wish_at_the_second_hearing_counts(plain: str, wishful: str | None, text: str) -> None:
    ears = Ears(plain, wishful)
    assert await heard(ears) == text
    assert [hint for hint, _ in ears.asked] == ["A house or a condo?", WISHES]


@pytest.mark.parametrize("said", ["A condo, I think.", "Stop calling me.", ""])
async def test_what_leaves_no_doubt_is_heard_once(said: str) -> None:
    ears = Ears(said, "Stop calling me.")
    assert await heard(ears) == said
    assert len(ears.asked) == 1


async def test_both_hearings_share_one_deadline() -> None:
    ears = Ears("Call me.", "Call me.", took_s=0.05)
    await WishfulRecogniser(ears).decode(b"..", deadline_s=1.0)
    assert ears.asked[0][1] == 1.0
    assert ears.asked[1][1] <= 0.95


async def test_the_first_hearings_failure_is_the_callers() -> None:
    with pytest.raises(SpeechError):
        await WishfulRecogniser(Ears(None)).decode(b"..")
