"""What is true of the books whatever was asked, in whatever order; AssertionError says what is not."""

from __future__ import annotations

from collections import Counter, defaultdict

from tests.chaos.model.facts import NOBODY_REACHED, Entry
from tests.chaos.model.protocol import Protocol

# What an attempt's postings are in each of its accounts, by its state; late ones and corrections come behind.
_POSTED = {
    "granted": ("hold",), "dialing": ("hold",), "placed": ("hold",), "ended": ("hold",),
    "revoked": ("hold", "release"), "settled": ("hold", "settle"),
}  # fmt: skip


class Watch:
    """Looks at the books after every step; remembers what may never go back."""

    def __init__(self) -> None:
        self._epoch = 0
        self._generations: dict[str, tuple[str, int]] = {}
        self._bounds: dict[str, object] = {}
        self._seen = 0
        self._held: Counter[str] = Counter()
        self._spent: Counter[str] = Counter()

    def look(self, books: Protocol) -> None:
        """All of it."""
        self._never_back(books)
        self._replay(books)
        _once_and_wholly(books)
        _people(books)

    def _never_back(self, books: Protocol) -> None:
        assert books.epoch >= self._epoch, "an epoch came back"
        self._epoch = books.epoch
        for key, account in books.accounts.items():
            uid, newest = self._generations.get(key, (account.uid, account.generation))
            assert account.uid != uid or account.generation >= newest, f"{key}: an older generation is in force again"
            self._generations[key] = account.uid, account.generation
            assert self._bounds.setdefault(key, account.window) == account.window, f"{key}: its window moved"

    def _replay(self, books: Protocol) -> None:
        """Balances are the sums of the postings, and no hold was above the limit then in force."""
        for entry in books.entries[self._seen :]:
            self._held[entry.account] += entry.held
            self._spent[entry.account] += entry.spent
            balance = self._held[entry.account] + self._spent[entry.account]
            if entry.kind == "hold" and entry.limit is not None:
                assert balance <= entry.limit, f"{entry.account}: held above its limit"
        self._seen = len(books.entries)
        for key, account in books.accounts.items():
            assert account.held == self._held[key] >= 0, f"{key}: held is not the sum of what was posted"
            assert account.spent == self._spent[key], f"{key}: spent is not the sum of what was posted"


def _once_and_wholly(books: Protocol) -> None:
    """What is held returns once and wholly, in all accounts alike; what is spent is what was posted."""
    posted: defaultdict[tuple[object, str], list[Entry]] = defaultdict(list)
    for entry in books.entries:
        posted[entry.attempt, entry.account].append(entry)
    for id_, attempt in books.attempts.items():
        for key in attempt.item.accounts:
            entries = posted.pop((id_, key))
            wanted = _POSTED[attempt.state]
            kinds = tuple(entry.kind for entry in entries)
            rest = [kind for kind in kinds[len(wanted) :] if kind != "correction"]
            assert kinds[: len(wanted)] == wanted, f"{attempt.state} with {kinds}"
            assert rest in ([], ["late"] if attempt.state == "settled" else []), f"{attempt.state} with {kinds}"
            left = attempt.item.amount if len(wanted) == 1 else 0
            assert sum(entry.held for entry in entries) == left, f"{left} should be left of the hold"
            # What is posted late is beside a settlement at nothing.
            assert sum(entry.spent for entry in entries) == (attempt.actual or 0)
    assert not posted, "something was posted for nobody"


def _people(books: Protocol) -> None:
    """One open attempt a number; nobody is called again in a run who was reached, nor more often than is allowed."""
    busy = Counter(attempt.item.place.person for attempt in books.open_attempts())
    assert all(count == 1 for count in busy.values()), "a number has two open attempts"
    for place in books.done:
        past = sorted(books.attempts_of(place), key=lambda attempt: attempt.granted_at)
        for earlier in past[:-1]:
            # Late evidence may say that somebody was reached after all: then there is no attempt from then on.
            reached = earlier.end_status not in NOBODY_REACHED
            assert not reached or earlier.reason == "LateEvidence" or "late" in _kinds(books, earlier.item.id)
            assert earlier.state == "settled", "called again before the attempt before was over"
        numbers = [attempt.item.number for attempt in past]
        assert numbers == sorted(set(numbers)), "an attempt's number was used twice"


def _kinds(books: Protocol, attempt: object) -> set[str]:
    return {entry.kind for entry in books.entries if entry.attempt == attempt}
