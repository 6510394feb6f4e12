"""What the application sent to be heard: a buffer played at the line's pace, with marks between the audio."""

from __future__ import annotations

from collections import deque

from callfleet_simulator.audio import FRAME_SAMPLES, SAMPLE_RATE, SILENCE

MAX_BUFFER_S = 300  # a carrier buffers much, not endlessly


class Playout:
    """Bytes of μ-law and marks, in order. Pure: the media loop calls `pop` every 20 ms."""

    def __init__(self) -> None:
        self._items: deque[bytes | str] = deque()
        self._buffered = 0
        self.dropped_bytes = 0

    @property
    def buffered_ms(self) -> int:
        """How much audio waits to be heard."""
        return self._buffered * 1000 // SAMPLE_RATE

    def add_audio(self, data: bytes) -> None:
        """Appends audio; what exceeds the buffer's bound is dropped and counted."""
        room = MAX_BUFFER_S * SAMPLE_RATE - self._buffered
        if len(data) > room:
            self.dropped_bytes += len(data) - room
            data = data[:room]
        if data:
            self._items.append(data)
            self._buffered += len(data)

    def add_mark(self, name: str) -> list[str]:
        """Queues a mark behind the audio; with nothing to wait for it comes back at once."""
        if not self._items:
            return [name]
        self._items.append(name)
        return []

    def clear(self) -> list[str]:
        """Throws the waiting audio away and returns the marks that waited in it."""
        marks = [item for item in self._items if isinstance(item, str)]
        self._items.clear()
        self._buffered = 0
        return marks

    def pop(self) -> tuple[bytes, list[str]]:
        """The next 20 ms to be heard, filled up with silence, and the marks that were reached."""
        frame = bytearray()
        while self._items and len(frame) < FRAME_SAMPLES:
            item = self._items[0]
            if isinstance(item, str):
                break
            taken = item[: FRAME_SAMPLES - len(frame)]
            frame += taken
            self._buffered -= len(taken)
            if len(taken) == len(item):
                self._items.popleft()
            else:
                self._items[0] = item[len(taken) :]
        marks = self._reached()
        return bytes(frame) + SILENCE[len(frame) :], marks

    def _reached(self) -> list[str]:
        marks = []
        while self._items and isinstance(self._items[0], str):
            marks.append(str(self._items.popleft()))
        return marks
