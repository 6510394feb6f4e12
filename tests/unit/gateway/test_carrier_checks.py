"""Which account a webhook is of: known ones, new ones, and ones that nobody knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import uuid4

from callfleet_gateway.carriers import REREAD_S, CarrierChecks
from callfleet_gateway.security import CarrierCheck

OWN, OTHER = "AC" + "0" * 32, "AC" + "1" * 32
_ATTEMPT = uuid4()
PUBLIC = "https://calls.example.com"


class Accounts:
    """What the operator wrote, and how often it was read."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.reads = 0
        self.now = 0.0
        self.away = False

    async def read(self) -> Mapping[str, str]:
        self.reads += 1
        if self.away:
            raise OSError("away")
        return dict(self.entries)

    def put(self, sid: str, token: str) -> None:
        self.entries[sid] = json.dumps({"authToken": token, "publicURL": PUBLIC})

    def checks(self) -> CarrierChecks:
        return CarrierChecks(OWN, CarrierCheck("own", PUBLIC), self.read, lambda: self.now)


async def test_a_new_account_is_known_at_its_first_webhook() -> None:
    accounts = Accounts()
    checks = accounts.checks()
    assert await checks.of(OTHER) is None
    accounts.put(OTHER, "other")
    accounts.now += REREAD_S
    assert await checks.of(OTHER) is not None
    assert await checks.of(OWN) is not None


async def test_strangers_cannot_make_us_read_all_the_time() -> None:
    accounts = Accounts()
    checks = accounts.checks()
    for index in range(50):
        assert await checks.of(f"AC{index:032d}"[:34] + "x") is None
    assert accounts.reads == 1


async def test_what_was_known_stays_while_the_api_server_is_away() -> None:
    accounts = Accounts()
    accounts.put(OTHER, "other")
    checks = accounts.checks()
    assert await checks.of(OTHER) is not None
    accounts.away, accounts.now = True, 10.0
    assert not await checks.refresh()
    assert await checks.of(OTHER) is not None


async def test_nobody_takes_the_installations_own_account_over() -> None:
    accounts = Accounts()
    accounts.put(OWN, "stolen")
    checks = accounts.checks()
    assert await checks.refresh()
    own = await checks.of(OWN)
    assert own is not None
    assert own.media_token_is(_ATTEMPT, CarrierCheck("own", PUBLIC).media_token(_ATTEMPT))


async def test_whose_account_it_is_cannot_be_told_while_the_api_server_is_away() -> None:
    """The request is asked for again then (503): a refusal would lose a call's end."""
    accounts = Accounts()
    accounts.put(OTHER, "other")
    accounts.away = True
    checks = accounts.checks()
    assert await checks.of(OTHER) is None
    assert (checks.is_uncertain(OTHER), checks.is_uncertain(OWN)) == (True, False)
    accounts.away, accounts.now = False, REREAD_S
    assert await checks.of(OTHER) is not None
    assert not checks.is_uncertain(OTHER)
