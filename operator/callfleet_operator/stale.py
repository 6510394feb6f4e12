"""Sessions whose last write failed: whether they still are as they were seen, a watch tells in a moment."""

from __future__ import annotations

from datetime import datetime, timedelta

# A watch brings a newer version within a second. Where none has come by then, the write changed nothing: the API server
# failed, or was cut off. Whoever acts on a view that is stale after all is refused by its resourceVersion.
STALE_FOR = timedelta(seconds=5)


class StaleViews:
    """By session: the resourceVersion that is not to be acted on, and until when."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], tuple[str, datetime]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def mark(self, key: tuple[str, str], version: str, now: datetime) -> None:
        """Has nobody act on this version for a moment; what is marked longer than that is forgotten."""
        self._until.pop(key, None)
        self._until[key] = version, now + STALE_FOR
        # In the order in which they pass, and so only as many as fail in a moment are kept.
        while (first := next(iter(self._until))) != key and self._until[first][1] <= now:
            del self._until[first]

    def holds(self, key: tuple[str, str], version: str, now: datetime) -> bool:
        """Whether this version is not to be acted on."""
        known = self._until.get(key)
        if known is None:
            return False
        if known[0] == version and now < known[1]:
            return True
        del self._until[key]
        return False
