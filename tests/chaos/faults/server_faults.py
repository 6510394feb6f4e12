"""Faults of the server: it restarts, its backends die, it takes no writes, it has no room, it is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import AsyncExitStack
from typing import Final

import psycopg
from tests.chaos.faults.stage import NothingHappenedError, Stage, aside

from callfleet_core.db.engine import POOL_SIZE, POOL_TIMEOUT_S

_A_WHILE_S: Final = 2.0
_KILLS: Final = 12
_MORE_THAN_ALL: Final = 200


async def restart(stage: Stage) -> None:
    """An immediate restart, in the middle of everything: the server recovers from its log."""
    before = stage.load.history.failures
    await aside(stage.server.stop)
    await asyncio.sleep(1)
    stage.is_over()
    await aside(stage.server.start)
    stage.must_have_failed(before)


async def killed_backend(stage: Stage) -> None:
    """Backends are ended by pg_terminate_backend, and one by SIGKILL, upon which PostgreSQL ends all others."""
    async with stage.session() as session:
        for _ in range(_KILLS):
            await stage.backends(session, "pg_terminate_backend(pid)")
            await asyncio.sleep(0.1)
        stage.must_have_said("57P01")
        for pid in await stage.backends(session, "pid"):
            os.kill(pid, signal.SIGKILL)
    stage.is_over()
    await _answers(stage)
    stage.must_have_said("57P03")  # "the database system is in recovery mode"


async def _answers(stage: Stage) -> None:
    for _ in range(300):
        with contextlib.suppress(psycopg.OperationalError):
            async with stage.session():
                return
        await asyncio.sleep(0.1)
    raise TimeoutError("the server did not come up again within 30 s")


async def read_only(stage: Stage) -> None:
    """The server takes no writes for a while; then the service's name leads to a standby for a while."""
    before = stage.load.history.failures
    async with stage.session() as session:
        await session.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await session.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(_A_WHILE_S)
        await session.execute("SET default_transaction_read_only = off")
        await session.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await session.execute("SELECT pg_reload_conf()")
    stage.must_have_said("25006")
    stage.must_have_failed(before)
    await asyncio.sleep(_A_WHILE_S)
    before = stage.load.history.failures
    await _behind_a_standby(stage)
    stage.must_have_failed(before)


async def _behind_a_standby(stage: Stage) -> None:
    if stage.standby is None:
        raise NothingHappenedError("there is no standby")
    stage.proxy.leads_to = stage.standby.port
    stage.proxy.cut_all()
    await asyncio.sleep(_A_WHILE_S)
    # Whoever is connected to the standby stays so: nobody is told that the name leads elsewhere now.
    stage.proxy.leads_to = stage.server.port


async def pool_empty(stage: Stage) -> None:
    """All connections of the pools are held, past the patience of who waits for one; then the server has none left."""
    before = stage.load.history.failures
    async with AsyncExitStack() as held:
        for engine in stage.load.engines:
            for _ in range(POOL_SIZE):
                await held.enter_async_context(engine.connect())
        await asyncio.sleep(POOL_TIMEOUT_S + 1.5)
    stage.must_have_failed(before)
    await asyncio.sleep(1)
    async with stage.session() as session, AsyncExitStack() as foreign:
        for _ in range(2):  # what the load loses in between is taken, too
            await stage.backends(session, "pg_terminate_backend(pid)", _MORE_THAN_ALL)
            with contextlib.suppress(psycopg.OperationalError):
                for _ in range(_MORE_THAN_ALL):
                    await foreign.enter_async_context(stage.session())
        await asyncio.sleep(_A_WHILE_S)
    stage.must_have_said("53300")


async def promoted_standby(stage: Stage) -> None:
    """The primary dies at once; its synchronous standby is promoted, and the service's name leads to it."""
    if stage.standby is None:
        raise NothingHappenedError("there is no standby")
    before = stage.load.history.failures
    await aside(stage.server.kill)
    stage.server, stage.standby = stage.standby, None
    await aside(lambda: stage.server.execute("SELECT pg_promote()"))
    stage.proxy.leads_to = stage.server.port
    async with stage.session() as session:
        row = await (
            await session.execute("SELECT timeline_id, pg_is_in_recovery() FROM pg_control_checkpoint()")
        ).fetchone()
    stage.must_have_failed(before)
    if row is None or row[1]:
        raise NothingHappenedError("the standby was not promoted")
