"""Faults of what PostgreSQL runs on: the disk is slow, or full, the network is silent, the clock jumps."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg
from tests.chaos.faults.load import RESERVED
from tests.chaos.faults.stage import NothingHappenedError, Stage, aside
from tests.chaos.world import MICROS, PEOPLE, RUNS
from tests.integration.books import NAMESPACE

from callfleet.hostservices.errors import HostServiceError
from callfleet_core.db.connection import ANSWER_TIMEOUT_S
from callfleet_core.db.engine import LOCK_TIMEOUT_MS
from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import HoldRequest, HoldResult, Ledger, account_key
from callfleet_core.windows import Window, WindowKind, window_at

Answer = TypeVar("Answer")
_SYNC_S: Final = 3.0
_SLOW_S: Final = 9.0
_HANGS_S: Final = ANSWER_TIMEOUT_S + 5
_LOSING_S: Final = 2.0
_SILENT_S: Final = ANSWER_TIMEOUT_S + LOCK_TIMEOUT_MS / 1000
_SKEWED_S: Final = 2.0
_HOUR_S: Final = 3600.0
_DAILY: Final = "daily"
_SEGMENTS: Final = 40


async def slow_disk(stage: Stage) -> None:
    """Each sync of the primary's disk takes seconds longer; then the disk hangs, for longer than anybody waits."""
    before = stage.load.history.failures
    stage.machine.set(sync_s=_SYNC_S)
    await asyncio.sleep(_SLOW_S)
    if stage.load.history.longest_s < _SYNC_S:
        raise NothingHappenedError("nobody waited for the disk")
    stage.machine.set(sync_s=_HANGS_S)
    await asyncio.sleep(_HANGS_S)
    stage.machine.set()
    stage.must_have_failed(before)


async def network_cut(stage: Stage) -> None:
    """The network swallows everything for longer than anybody waits; what was connected then is dead for ever after."""
    before = stage.load.history.failures
    # First, so that all are caught with their locks, between a statement and its COMMIT.
    stage.proxy.swallows = b"COMMIT"
    await asyncio.sleep(_LOSING_S)
    stage.proxy.swallows = b""
    await asyncio.sleep(_SILENT_S)
    stage.proxy.swallows = None
    stage.must_have_failed(before)


async def disk_full(stage: Stage) -> None:
    """Ballast fills the disk until PostgreSQL can write its log no more; then there is room, and a keeper."""
    before = stage.load.history.failures
    ballast = stage.server.data / "ballast"
    await aside(lambda: _fill(ballast))
    with contextlib.suppress(psycopg.OperationalError):
        async with stage.session() as session:
            for _ in range(_SEGMENTS):
                await session.execute("SELECT pg_switch_wal(), pg_logical_emit_message(false, 'faults', 'a record')")
                await asyncio.sleep(0.2)
    await asyncio.sleep(2)
    stage.must_have_said("53100")
    stage.must_have_failed(before)
    ballast.unlink()
    stage.is_over()
    await aside(lambda: _keep(stage))


def _fill(path: Path) -> None:
    block = bytes(1 << 20)
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while len(block):
            try:
                os.write(file, block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                block = block[: len(block) // 2]
    finally:
        os.close(file)


def _keep(stage: Stage) -> None:
    """Starts the server again, as its keeper does, if it has given up."""
    for _ in range(5):
        if stage.server.is_alive():
            return
        with contextlib.suppress(HostServiceError):
            stage.server.stop()
            stage.server.start()
    raise TimeoutError("the server did not start again")


async def clock_skew(stage: Stage) -> None:
    """The server's clock jumps by hours, forwards and backwards; a budget's day is over meanwhile, and is not."""
    now = datetime.now(UTC)
    window = window_at(WindowKind.DAILY, ZoneInfo("UTC"), now)
    await _epoch_kept(lambda ledger: _set_daily_limit(ledger, window), stage)
    async with stage.session() as session:
        before = await (await session.execute(_BOUNDS)).fetchall()
        for hours in (6, -6, 30, 0):
            stage.machine.set(clock_s=hours * _HOUR_S)
            at = now + timedelta(hours=hours)
            await _assert_clock(session, at)
            expected = HoldResult.BUDGET_EXHAUSTED if _holds(window, at) else HoldResult.WINDOW_CLOSED
            answer = await _epoch_kept(lambda ledger: ledger.hold([_too_much(stage, window)]), stage)
            if answer[0].result is not expected:
                raise AssertionError(f"the window's budget answered {answer[0].result} at {hours} h")
            await asyncio.sleep(_SKEWED_S)
        if not before or await (await session.execute(_BOUNDS)).fetchall() != before:
            raise AssertionError("a budget's window moved")


_BOUNDS: Final = b"SELECT window_start, window_end FROM accounts WHERE window_start IS NOT NULL"


def _holds(window: Window, at: datetime) -> bool:
    return window.start is not None and window.end is not None and window.start <= at < window.end


async def _epoch_kept(work: Callable[[Ledger], Awaitable[Answer]], stage: Stage) -> Answer:
    """What the ledger answers, asked again where another epoch came between."""
    for _ in range(5):
        with contextlib.suppress(StaleEpochError):
            return await work(stage.load.player.ledger)
        await asyncio.sleep(0.5)
    return await work(stage.load.player.ledger)


async def _set_daily_limit(ledger: Ledger, window: Window) -> None:
    await ledger.set_limit(
        namespace=NAMESPACE, kind="Budget", name=_DAILY, window=window, currency="USD", limit_micros=MICROS,
        suspended=False, uid="1", generation=1,
    )  # fmt: skip


def _too_much(stage: Stage, window: Window) -> HoldRequest:
    """More than the window's budget has: it is refused for the money, or before that for the time."""
    asked = stage.load.player.world.request(
        uuid4(), person=PEOPLE + RESERVED - 1, run=RUNS, number=1, amount_micros=2 * MICROS, budgets=[], expires_s=120
    )
    return replace(asked, accounts=(account_key(NAMESPACE, "Budget", _DAILY, window),))


async def _assert_clock(session: psycopg.AsyncConnection[Any], at: datetime) -> None:
    row = await (await session.execute("SELECT clock_timestamp()")).fetchone()
    if row is None or abs(row[0] - at) > timedelta(minutes=10):
        raise NothingHappenedError("the server's clock is as it was")
