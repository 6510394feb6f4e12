"""The operator's side of the ledger: epochs, limits, holds, revocations and settlements.

Amounts are integer micros. Every write carries the leader's epoch; an older one raises StaleEpochError. What the
carrier says of a call is true whoever brings it, and carries none (`callfleet_core.dialing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.db.outages import until_done
from callfleet_core.ledger.batch import settlement_document
from callfleet_core.ledger.fencing import fenced, named
from callfleet_core.ledger.holding import HoldDesk
from callfleet_core.ledger.records import (
    Attempt,
    Balance,
    HoldAnswer,
    HoldRequest,
    LimitResult,
    OpenAttempt,
    Settlement,
)
from callfleet_core.pricing import CostLine
from callfleet_core.windows import Window

# More unsettled attempts than this are walked in the next cycle; one cycle stays bounded.
MAX_ATTEMPTS_A_CYCLE = 1_000
# A settlement keeps its accounts locked until it is committed: holds wait for no longer than for so many.
MOST_SETTLEMENTS: Final = 200

_ATTEMPT_COLUMNS = ", ".join(
    f"a.{name}"
    for name in Attempt.__dataclass_fields__
    if name not in {"disposition", "uncovered", "tries", "not_placed", "over"}
)
# An account that holds for the attempt was closed, or its window has ended.
_UNCOVERED = (
    "EXISTS (SELECT 1 FROM holds h JOIN accounts k ON k.id = h.account_id"
    " WHERE h.attempt_id = a.id AND (k.closed OR NOT window_is_open(k)))"
)
_EARLIER = (
    "(SELECT count(*) FROM dial_attempts b WHERE b.namespace = a.namespace AND b.session_name = a.session_name"
    " AND b.run_id = a.run_id AND b.contact_id = a.contact_id AND b.state <> 'revoked' AND b.number <= a.number"
    " AND {})"
)
# Each arm is what a partial index has: the settled ones, nearly all, are never read.
_UNSETTLED: Final = (
    "a.state IN ('granted', 'dialing', 'placed') OR a.state = 'ended'"
    " OR (a.state = 'settled' AND a.reason = 'LateEvidence')"
)
_BALANCE_COLUMNS = ", ".join(Balance.__dataclass_fields__)


class Ledger:
    """The books, for the one operator that leads."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._desk = HoldDesk(engine)
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch under which this operator writes; 0 before take_epoch."""
        return self._epoch

    async def take_epoch(self) -> int:
        """Becomes the leader in the books: every write of an earlier epoch is refused from now on."""
        self._epoch = int(await self._write("ledger_take_epoch()"))
        return self._epoch

    async def set_limit(
        self,
        *,
        namespace: str,
        kind: str,
        name: str,
        window: Window,
        currency: str,
        limit_micros: int | None,
        suspended: bool,
        uid: str,
        generation: int,
    ) -> LimitResult:
        """Puts an object's limit in force, unless a newer one is."""
        answer = await self._write(
            "ledger_set_limit(:epoch, :namespace, :kind, :name, :window, :start, :end, :currency,"
            " CAST(:limit AS bigint), :suspended, :uid, :generation, :zone)",
            epoch=self._epoch,
            namespace=namespace,
            kind=kind,
            name=name,
            window=window.key,
            start=window.start,
            end=window.end,
            currency=currency,
            limit=limit_micros,
            suspended=suspended,
            uid=uid,
            generation=generation,
            zone=window.zone,
        )
        return LimitResult(answer)

    async def forget_later(self, *, namespace: str, kind: str, name: str, uid: str, generation: int) -> bool:
        """Forgets what was taken from an object's later generations, after the cluster was restored from a backup.

        Answers whether there was any. For a Campaign, what `ContactBook.mirror_campaign` took goes with it.
        """
        return bool(
            await self._write(
                "ledger_forget_later(:epoch, :namespace, :kind, :name, :uid, :generation)",
                epoch=self._epoch,
                namespace=namespace,
                kind=kind,
                name=name,
                uid=uid,
                generation=generation,
            )
        )

    async def close_account(self, *, namespace: str, kind: str, name: str) -> None:
        """Closes a deleted object's accounts: no new holds; what is open settles into them."""
        await self._write(
            "ledger_close_account(:epoch, :namespace, :kind, :name)",
            epoch=self._epoch,
            namespace=namespace,
            kind=kind,
            name=name,
        )

    async def hold(self, requests: Sequence[HoldRequest]) -> list[HoldAnswer]:
        """Holds a batch in the order given, in one transaction, each item whole or not at all."""
        if not requests:
            return []
        return await self._desk.hold(self._epoch, requests)

    async def revoke(self, attempt_id: UUID, reason: str) -> str:
        """Takes a grant back and returns its money; answers the state met when it was no longer granted."""
        return str(
            await self._write(
                "ledger_revoke(:epoch, :attempt, :reason)", epoch=self._epoch, attempt=attempt_id, reason=reason
            )
        )

    async def settle(self, attempt_id: UUID, lines: Sequence[CostLine], *, seen: str | None = None) -> str:
        """Posts an ended attempt's actual cost, once; answers the attempt's state.

        `seen`: the end status for which the lines were made. Where the final word has come meanwhile, nothing is
        posted: the answer is "ended", and the attempt is still to be settled.
        """
        return (await self.settle_batch([Settlement(attempt_id, lines, seen)]))[0]

    async def settle_batch(self, settlements: Sequence[Settlement]) -> list[str]:
        """Settles as `settle` does, MOST_SETTLEMENTS in a transaction, each whole or not at all; answers in order.

        A transaction in which one cannot be posted posts none of it. Asked again, what was posted is settled.
        """
        states: list[str] = []
        epoch = self._epoch  # read once: this one may come to lead again while a transaction waits
        for start in range(0, len(settlements), MOST_SETTLEMENTS):
            batch = settlement_document(settlements[start : start + MOST_SETTLEMENTS])
            states += await self._write("ledger_settle(:epoch, CAST(:batch AS jsonb))", epoch=epoch, batch=batch)
        return states

    async def balances(self, at: datetime | None = None) -> list[Balance]:
        """Every account; with `at` those alone whose window is not over then: a year of days is not read to hold."""
        where = "" if at is None else "WHERE window_end IS NULL OR window_end > :at"
        query = f"SELECT {_BALANCE_COLUMNS} FROM accounts {where} ORDER BY id"  # noqa: S608  # names of our own
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(query), {} if at is None else {"at": at})
            return [Balance(**row) for row in rows.mappings()]

    async def balance(self, key: str) -> Balance | None:
        """One account, or None."""
        query = f"SELECT {_BALANCE_COLUMNS} FROM accounts WHERE key = :key"  # noqa: S608  # names of our own
        async with self._engine.connect() as connection:
            row = (await connection.execute(text(query), {"key": key})).mappings().one_or_none()
            return None if row is None else Balance(**row)

    async def balances_of(self, *, namespace: str, kind: str, name: str, at: datetime) -> list[Balance]:
        """An object's accounts whose window is not over then."""
        query = (
            f"SELECT {_BALANCE_COLUMNS} FROM accounts WHERE namespace = :namespace AND kind = :kind AND name = :name"  # noqa: S608  # names of our own
            " AND (window_end IS NULL OR window_end > :at) ORDER BY id"
        )
        asked = {"namespace": namespace, "kind": kind, "name": name, "at": at}
        async with self._engine.connect() as connection:
            return [Balance(**row) for row in (await connection.execute(text(query), asked)).mappings()]

    async def unsettled_attempts(self, after: Attempt | None = None) -> list[Attempt]:
        """Attempts that are granted, dialing, placed or ended, and settled ones with late evidence; the oldest first.

        MAX_ATTEMPTS_A_CYCLE at most, granted `after` another one: what must know of all of them asks for
        `open_attempts`.
        """
        if after is None:
            return await self._attempts(_UNSETTLED)
        where = f"({_UNSETTLED}) AND (a.granted_at, a.id) > (:granted_at, :id)"
        return await self._attempts(where, granted_at=after.granted_at, id=after.id)

    async def unsettled_attempts_of(self, namespace: str, campaign: str) -> list[Attempt]:
        """A campaign's, likewise; an empty answer says that there are none."""
        where = f"({_UNSETTLED}) AND a.namespace = :namespace AND a.campaign = :campaign"
        return await self._attempts(where, namespace=namespace, campaign=campaign)

    async def latest_attempts(self, namespace: str, session_names: Sequence[str]) -> dict[str, Attempt]:
        """The newest attempt that was not revoked, by session name, however many are asked for."""
        rows = await self._attempts(
            # Looked up name by name, however many attempts there are beside these.
            "a.id IN (SELECT (SELECT n.id FROM dial_attempts n WHERE n.namespace = :namespace"
            " AND n.session_name = asked.name AND n.state <> 'revoked'"
            " ORDER BY n.number DESC, n.granted_at DESC, n.id DESC LIMIT 1)"
            " FROM unnest(CAST(:names AS text[])) AS asked (name))",
            at_most=len(session_names),
            namespace=namespace,
            names=list(session_names),
        )
        return {attempt.session_name: attempt for attempt in rows}

    async def open_attempts(self) -> list[OpenAttempt]:
        """All attempts that are granted, dialing, placed or ended and not settled; there are no more than slots."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_OPEN_ATTEMPTS))
            return [OpenAttempt(*row) for row in rows]

    async def unresolved_holds(self) -> dict[str, int]:
        """What each account holds for calls whose end or length somebody must find out, in micros, by its key.

        It may take days until that comes back (`callfleet attempts`). Only accounts that have any.
        """
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_UNRESOLVED_HOLDS))
            return {row.key: int(row.micros) for row in rows}

    async def known_sids(self, sids: Sequence[str]) -> set[str]:
        """Those of the carrier's calls that are some attempt's."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT call_sid FROM dial_attempts WHERE call_sid = ANY(:sids)"), {"sids": list(sids)}
            )
            return set(rows.scalars())

    async def request_cancel(self, attempt_id: UUID) -> None:
        """Mirrors a cancellation, before anything acts on it.

        Fenced, although a person wants it: a deposed leader's view may show an object of the same name that is gone,
        and the one that is there is not canceled. No wish is lost: whoever leads reads it from the object itself.
        """
        await self._execute(
            "UPDATE dial_attempts SET cancel_requested_at = COALESCE(cancel_requested_at, clock_timestamp())"
            " WHERE id = :attempt",
            attempt=attempt_id,
        )

    async def note_lookup(self, attempt_id: UUID, *, empty: bool) -> None:
        """Remembers that the carrier was asked about an attempt's call. Fenced: two empty answers end an attempt."""
        await self._execute(
            "UPDATE dial_attempts SET last_lookup_at = clock_timestamp(),"
            " lookups_empty = lookups_empty + :empty WHERE id = :attempt",
            attempt=attempt_id,
            empty=int(empty),
        )

    async def overspent_accounts(self) -> list[str]:
        """Keys of accounts in which a hold was ever made above the limit then in force, replayed from the entries.

        The definition is docs/architecture.md's: a hold made while spent + held + hold exceeded that row's limit.
        """
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_OVERSPENT))
            return [str(row.key) for row in rows]

    async def _attempts(self, where: str, at_most: int = MAX_ATTEMPTS_A_CYCLE, **parameters: Any) -> list[Attempt]:
        query = (
            f"SELECT {_ATTEMPT_COLUMNS}, c.disposition, {_UNCOVERED} AS uncovered, grant_is_over(a) AS over,"  # noqa: S608  # names of our own
            f" {_EARLIER.format('b.counts')} AS tries, {_EARLIER.format('NOT b.counts')} AS not_placed"
            " FROM dial_attempts a LEFT JOIN calls c ON c.id = a.id"
            f" WHERE {where} ORDER BY a.granted_at, a.id LIMIT {at_most}"
        )
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(query), parameters)
            return [Attempt(**row) for row in rows.mappings()]

    async def _write(self, call: str, **parameters: Any) -> Any:
        async def write() -> Any:
            async with self._engine.begin() as connection:
                return (await connection.execute(text(f"SELECT {call}"), parameters)).scalar_one()

        try:
            return await until_done(write)
        except DBAPIError as error:
            raise named(error) from None

    async def _execute(self, statement: str, **parameters: Any) -> None:
        epoch = self._epoch

        async def execute() -> None:
            async with fenced(self._engine, lambda: epoch) as connection:
                await connection.execute(text(statement), parameters)

        await until_done(execute)


# Each arm is what a partial index has, as in unsettled_attempts.
_OPEN_ATTEMPTS: Final = (
    f"SELECT {', '.join(OpenAttempt.__dataclass_fields__)} FROM dial_attempts"  # noqa: S608  # names of our own
    " WHERE state IN ('granted', 'dialing', 'placed') OR state = 'ended'"
)
_UNRESOLVED_HOLDS: Final = """
SELECT k.key, sum(e.held_micros) AS micros FROM attempts_overview a JOIN ledger_entries e ON e.attempt_id = a.id
JOIN accounts k ON k.id = e.account_id
WHERE (a.state IN ('granted', 'dialing', 'placed') OR a.state = 'ended') AND a.needs IS NOT NULL
GROUP BY k.key HAVING sum(e.held_micros) > 0
"""
# A hold made while spent + held + hold exceeded the limit in force then (docs/architecture.md), replayed.
OVERSPENT_HOLDS: Final = """
SELECT account_id FROM (
    SELECT account_id, kind, limit_micros,
           sum(held_micros + spent_micros) OVER (PARTITION BY account_id ORDER BY id) AS balance
    FROM ledger_entries
) e WHERE kind = 'hold' AND limit_micros IS NOT NULL AND balance > limit_micros
"""
_OVERSPENT = f"SELECT DISTINCT a.key FROM ({OVERSPENT_HOLDS}) o JOIN accounts a ON a.id = o.account_id"  # noqa: S608  # ours
