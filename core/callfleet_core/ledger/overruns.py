"""Overruns: accounts that stopped because a call cost more than was held, and a person's word that they have looked.

Everything here works with the role callfleet_auditor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.audit import word
from callfleet_core.errors import CallFleetError


class NotOverrunError(CallFleetError):
    """An account that nobody needs to look at; nothing was changed."""


@dataclass(frozen=True)
class Overrun:
    """An account for which nothing is held until somebody has looked, by its key.

    `time_window`: total, daily/DAY or monthly/MONTH; `meters` ran above their caps; none: an amount was above its hold.
    """

    account: str
    namespace: str
    kind: str
    name: str
    time_window: str
    meters: list[str]


class OverrunDesk:
    """Overruns for those who look at them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def list(self) -> list[Overrun]:
        """Every account that is stopped: of an object's days, or months, the newest."""
        async with self._engine.connect() as connection:
            return [Overrun(**row) for row in (await connection.execute(text(_LIST))).mappings()]

    async def clear(self, accounts: Sequence[str], actor: str, reason: str) -> None:
        """Lets accounts go on, in all windows of their kind, all of them or none. Audited.

        An object (namespace/kind/name) stands for all of its accounts that are stopped. Raises NotOverrunError, with
        nothing changed, where one of them is not overrun, and WordMissingError.
        """
        who, why = word(actor, reason)
        async with self._engine.begin() as connection:
            stopped = [Overrun(**row) for row in (await connection.execute(text(_LIST))).mappings()]
            named = [key for given in dict.fromkeys(accounts) for key in _accounts_of(given, stopped)]
            answer = await connection.execute(
                text("SELECT overrun_clear(:accounts, :actor, :reason)"),
                {"accounts": list(dict.fromkeys(named)), "actor": who, "reason": why},
            )
            fine: list[str] = answer.scalar_one()
        if fine:
            raise NotOverrunError(
                f"nothing was changed: {', '.join(fine)} is no account that is overrun; `callfleet ledger overruns`"
                " lists those that are"
            )


def _accounts_of(given: str, stopped: Sequence[Overrun]) -> Sequence[str]:
    mine = [item.account for item in stopped if f"{item.namespace}/{item.kind}/{item.name}" == given]
    return mine or [given]


_LIST = f"SELECT {', '.join(Overrun.__dataclass_fields__)} FROM overruns() ORDER BY account"  # noqa: S608  # ours
