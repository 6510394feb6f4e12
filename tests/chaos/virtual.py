"""An event loop whose clock jumps to the next timer when there is nothing to do and nobody waits for a socket.

Sleeping costs nothing. PostgreSQL is real: while an answer of its is awaited, the clock stands still.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

# A socket that says nothing for so long, in real seconds, says nothing more.
PATIENCE_S = 60.0
# The loop's own: by which other threads and signals wake it.
_OWN_SOCKETS = 1


class StuckError(Exception):
    """Nothing can happen any more: no timer, or an answer that does not come."""


class _Selector(selectors.EpollSelector):
    """Asked for the next events it moves the clock instead of waiting, where it can."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if len(self.get_map()) > _OWN_SOCKETS:
            events = super().select(PATIENCE_S)
            if not events:
                raise StuckError(f"PostgreSQL has said nothing for {PATIENCE_S:.0f} s")
            return events
        if timeout is None:
            raise StuckError("nothing is ready, and nobody sleeps")
        self._advance(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `on_jump` is told the clock's new time, in seconds since the loop's beginning."""

    def __init__(self, on_jump: Callable[[float], None]) -> None:
        self._virtual_s = 0.0
        self._on_jump = on_jump
        super().__init__(_Selector(self._jump))
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since the loop was made; sleeps included."""
        return self._virtual_s

    def _jump(self, by_s: float) -> None:
        self._virtual_s += by_s
        self._on_jump(self._virtual_s)

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]  # the standard library's stub is generic in what it cannot check here
        """At once: a thread would have a time of its own."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # whoever awaits it gets it
            future.set_exception(error)
        return future
