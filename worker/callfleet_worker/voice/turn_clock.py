"""How long a person waits: from the last speech sample received to the first reply sample written, at the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TurnClock:
    """Stamps media as the serializer sees it, which is before any resampling, queueing or inference."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._waiting: tuple[float, asyncio.Future[int | None]] | None = None
        self.first_written_at: float | None = None

    def now(self) -> float:
        """Seconds on the event loop's clock."""
        return self._now()

    def expect_reply(self, last_voice_at: float) -> asyncio.Future[int | None]:
        """Resolves to the latency in ms once a reply sample is written; to None when there will be no reply."""
        self.give_up()
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting = (last_voice_at, future)
        return future

    def give_up(self) -> None:
        """The turn stays unanswered: the person spoke on, or the call ended."""
        if self._waiting is not None and not self._waiting[1].done():
            self._waiting[1].set_result(None)
        self._waiting = None

    def begin_reply(self) -> None:
        """The next sample written is a reply's first."""
        self.first_written_at = None

    def media_written(self) -> None:
        """A media message is being written to the socket."""
        if self.first_written_at is None:
            self.first_written_at = self._now()
        if self._waiting is None:
            return
        last_voice_at, future = self._waiting
        self._waiting = None
        if not future.done():
            future.set_result(round((self._now() - last_voice_at) * 1000))
