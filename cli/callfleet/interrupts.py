"""Ctrl-C, a closed terminal and `kill`: the first one stops the work, none stops the clean-up that follows."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

# A KeyboardInterrupt can get lost where Python ignores exceptions (a destructor): after this long without a word
# from the clean-up, a further signal raises again.
LOST_AFTER_S = 20.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


def end_with_make() -> None:
    """Started by make, we get SIGTERM when it is killed: nobody would be left to end us."""
    if "MAKELEVEL" in os.environ:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def deaf_until_the_end() -> None:
    """For a process that has cleaned up and only has its exit status to give: no signal takes that from it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Interrupts:
    """For the block, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt once; then, and after `hold`, never again."""

    def __init__(self) -> None:
        self._raised_s: float | None = None
        self._held = False
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            # nohup means it. SIGINT, which shells ignore for background jobs, is taken all the same.
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # see deaf_until_the_end
                signal.signal(number, handler)

    def hold(self) -> None:
        """From here on there is only clean-up: signals are answered, and change nothing."""
        self._held = True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if not self._held and (self._raised_s is None or now_s - self._raised_s > LOST_AFTER_S):
            self._raised_s = now_s
            raise KeyboardInterrupt
        # Not through sys.stderr, which the interrupted code may be writing to; a closed terminal is no error here.
        with suppress(OSError):
            os.write(sys.stderr.fileno(), b"\r\ncleaning up, a few seconds more\r\n")
