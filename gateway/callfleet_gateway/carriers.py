"""Whose carrier account is it? The installation's own, and those that campaigns bring."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from callfleet_gateway.security import CarrierCheck

log = structlog.get_logger(__name__)

# Accounts are read again for an unknown SID or a signature that does not fit, which anybody can send: not more often.
REREAD_S = 2.0

ReadAccounts = Callable[[], Awaitable[Mapping[str, str]]]


async def no_accounts() -> Mapping[str, str]:
    """What there is to read where campaigns bring no accounts."""
    return {}


class CarrierChecks:
    """The check of each account. The operator writes the accounts: SID → JSON with authToken and publicURL."""

    def __init__(
        self, own_sid: str, own: CarrierCheck, read: ReadAccounts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._own = {own_sid: own}
        self._checks = dict(self._own)
        self._read, self._clock = read, clock
        self._read_at: float | None = None
        self._failed = False

    async def of(self, account_sid: str) -> CarrierCheck | None:
        """The account's check, or None for one that nobody here knows."""
        if account_sid not in self._checks:
            await self.refresh()
        return self._checks.get(account_sid)

    def is_uncertain(self, account_sid: str) -> bool:
        """True while it cannot be told whose account this is: they could not be read, and it is not our own."""
        return self._failed and account_sid not in self._own

    async def refresh(self) -> bool:
        """Reads the accounts again, unless that was just done; true when it was done."""
        now = self._clock()
        if self._read_at is not None and now - self._read_at < REREAD_S:
            return False
        self._read_at = now
        try:
            accounts = await self._read()
            self._failed = False
        except OSError as error:
            self._failed = True
            log.error("carrier accounts not read", error=type(error).__name__)
            return False
        self._checks = {**{sid: _check(entry) for sid, entry in accounts.items()}, **self._own}
        return True


def _check(entry: str) -> CarrierCheck:
    fields = json.loads(entry)
    return CarrierCheck(fields["authToken"], fields["publicURL"])
