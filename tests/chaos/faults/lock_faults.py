"""Faults between transactions: ones that cannot be serialised, deadlocks, locks that somebody keeps."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import psycopg
from tests.chaos.faults.stage import NothingHappenedError, Stage

from callfleet_core.db.engine import LOCK_TIMEOUT_MS

_SERIALIZABLE_S: Final = 5.0
_DEADLOCKS: Final = 3
_DEADLOCKS_WITHIN_S: Final = 20.0
# Longer than anybody's patience.
_KEPT_S: Final = LOCK_TIMEOUT_MS / 1000 + 2


async def serialization_failures(stage: Stage) -> None:
    """Sessions are serializable: the role's default says so, and a pooler drops what a session says itself."""
    await _reconnect(stage, "ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'serializable'", pooler=True)
    await asyncio.sleep(_SERIALIZABLE_S)
    await _reconnect(stage, "ALTER ROLE CURRENT_USER RESET default_transaction_isolation", pooler=False)
    stage.must_have_said("40001")


async def _reconnect(stage: Stage, statement: str, *, pooler: bool) -> None:
    async with stage.session() as session:
        await session.execute(statement.encode())
    stage.proxy.without_options = pooler
    stage.proxy.cut_all()


async def deadlocks(stage: Stage) -> None:
    """Somebody locks the accounts in the other order, and is never the one whom PostgreSQL chooses to end."""
    deadline = time.monotonic() + _DEADLOCKS_WITHIN_S
    async with stage.session() as session:
        await session.execute("SET deadlock_timeout = '60s'")
        ids = [row[0] for row in await (await session.execute("SELECT id FROM accounts ORDER BY id DESC")).fetchall()]
        while time.monotonic() < deadline:
            await _lock_backwards(session, ids)
            if stage.said("40P01") >= _DEADLOCKS:
                return
    raise NothingHappenedError("there was no deadlock")


async def _lock_backwards(session: psycopg.AsyncConnection[Any], ids: list[int]) -> None:
    async with session.transaction():
        for account in ids:
            await session.execute("SELECT FROM accounts WHERE id = %s FOR UPDATE", (account,))
            await asyncio.sleep(0.05)


async def long_locks(stage: Stage) -> None:
    """Somebody keeps the ledger's entries to himself, then one account, past everybody's patience."""
    before = stage.load.history.failures
    async with stage.session() as session:
        for statement in (
            b"LOCK TABLE ledger_entries IN ACCESS EXCLUSIVE MODE",
            b"SELECT FROM accounts WHERE id = (SELECT min(id) FROM accounts) FOR UPDATE",
        ):
            async with session.transaction():
                await session.execute(statement)
                await asyncio.sleep(_KEPT_S)
            await asyncio.sleep(1)
    stage.must_have_said("55P03")
    stage.must_have_failed(before)
