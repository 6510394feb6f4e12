"""The money's half of the model: accounts, their limits, and what is posted to them (docs/architecture.md).

Written from the protocol's words, not from the SQL: where the two differ, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from tests.chaos.model.facts import BEGINNING, STALE, Account, Entry, Item, Owner, key_of

from callfleet_core.windows import Window


class Said(NamedTuple):
    """The answer to a request to hold."""

    result: str
    account: str | None = None
    shortfall: int | None = None


HELD = Said("Held")


class Money:
    """Accounts, and the entries that made their balances."""

    def __init__(self, epoch: int = 0) -> None:
        self.now: datetime = BEGINNING
        self.epoch = epoch
        self.accounts: dict[str, Account] = {}
        self.entries: list[Entry] = []

    def take_epoch(self) -> int:
        """A new leader: whatever is written under an older epoch has no effect from now on."""
        self.epoch += 1
        return self.epoch

    def pass_time(self, seconds: int) -> None:
        """The clock goes on."""
        self.now += timedelta(seconds=seconds)

    def set_limit(
        self,
        epoch: int,
        owner: Owner,
        window: Window,
        currency: str,
        limit: int | None,
        suspended: bool,
        uid: str,
        generation: int,
    ) -> str:
        """A new object replaces the limit; the same one only with a generation that is not older."""
        if epoch != self.epoch:
            return STALE
        if any(account.owner == owner and account.currency != currency for account in self.accounts.values()):
            return "CurrencyMismatch"
        if any(each.owner == owner and _is_in_the_way(each, window, limit) for each in self.accounts.values()):
            return "TimeZoneMismatch"
        new = Account(owner, window, currency, limit, suspended, uid, generation)
        known = self.accounts.setdefault(key_of(owner, window), new)
        if known.uid == uid and generation < known.generation:
            return "Stale"
        # Somebody who changes the object has looked at its overruns; that a day is over says nothing.
        unseen = [
            each for each in self._windows_of(known)
            if each.overrun and (each.uid, each.generation) == (uid, generation)
            and (each is known or _is_before(each.window, known.window))
        ]  # fmt: skip
        meters = frozenset[str]().union(*(each.overrun_meters for each in unseen))
        known.overrun, known.overrun_meters = bool(unseen), meters
        known.limit, known.suspended, known.closed = limit, suspended, False
        known.uid, known.generation = uid, generation
        return "Applied"

    def clear_overruns(self, keys: Sequence[str]) -> list[str]:
        """Somebody has looked: at all windows of each account's kind, or, where one is not overrun, at none."""
        windows = {key: self._windows_of(self.accounts[key]) if key in self.accounts else [] for key in keys}
        fine = [key for key in keys if not any(each.overrun for each in windows[key])]
        if not fine:
            for each in (each for of_it in windows.values() for each in of_it):
                each.overrun, each.overrun_meters = False, frozenset()
        return fine

    def _windows_of(self, account: Account) -> list[Account]:
        """All windows of the account's kind of the same owner."""
        return [
            each for each in self.accounts.values()
            if (each.owner, each.window.kind) == (account.owner, account.window.kind)
        ]  # fmt: skip

    def close_account(self, epoch: int, owner: Owner) -> str | None:
        """The object is gone: nothing more is held in its accounts, what is open settles into them."""
        if epoch != self.epoch:
            return STALE
        for account in self.accounts.values():
            account.closed |= account.owner == owner
        return None

    def refusal(self, item: Item) -> Said | None:
        """Why the accounts do not cover an item; None: every one of them does.

        What can never be covered comes before money that is missing, and money that is spent before money that only is
        held; of several accounts the one that misses most is named.
        """
        if not item.accounts:
            return Said("BudgetNotFound")
        for key in item.accounts:
            unfit = self._unfit(key, item)
            if unfit is not None:
                return Said(unfit, key)
        limited = [(key, self.accounts[key], self.accounts[key].limit) for key in item.accounts]
        asked = [(key, account, limit) for key, account, limit in limited if limit is not None]
        exhausted = [(account.spent + item.amount - limit, key) for key, account, limit in asked]
        held = [(account.spent + account.held + item.amount - limit, key) for key, account, limit in asked]
        return _most("BudgetExhausted", exhausted) or _most("BudgetHeld", held)

    def _unfit(self, key: str, item: Item) -> str | None:
        account = self.accounts.get(key)
        if account is None or account.closed:
            return "BudgetNotFound"
        if account.currency != item.currency:
            return "CurrencyMismatch"
        if account.suspended or account.overrun:
            return "Suspended"
        return None if account.is_open(self.now) else "WindowClosed"

    def post(self, attempt: UUID, keys: Iterable[str], kind: str, held: int, spent: int, number: int = 0) -> None:
        """The same posting in each account."""
        for key in keys:
            account = self.accounts[key]
            account.held += held
            account.spent += spent
            self.entries.append(Entry(attempt, key, kind, number, held, spent, account.limit))


def are_two_todays(one: Window, other: Window) -> bool:
    """Two days, or two months, at the same time, by the midnights of two time zones."""
    if one.kind is not other.kind or one.zone == other.zone:
        return False
    if one.start is None or one.end is None or other.start is None or other.end is None:
        return False
    return one.start < other.end and other.start < one.end


def _is_in_the_way(account: Account, window: Window, limit: int | None) -> bool:
    """Whether a window of another time zone has this one's name, or is one from which a limit would begin anew."""
    if account.window.kind is not window.kind or account.window.zone == window.zone:
        return False
    counted = account.limit is not None or account.held != 0 or account.spent != 0
    return account.window.key == window.key or (
        limit is not None and counted and are_two_todays(account.window, window)
    )


def _is_before(window: Window, other: Window) -> bool:
    return window.start is not None and other.start is not None and window.start < other.start


def _most(result: str, shortfalls: Sequence[tuple[int, str]]) -> Said | None:
    worst = max((short for short, _ in shortfalls), default=0)
    if worst <= 0:
        return None
    return Said(result, next(key for short, key in shortfalls if short == worst), worst)
