"""Pause points: places at which a test stops the operator to kill it there. Off unless the environment names one."""

from __future__ import annotations

import asyncio

import structlog

LONGEST_PAUSE_S = 600

_log = structlog.get_logger(__name__)


async def pause_point(wanted: str | None, here: str) -> None:
    """Waits here when `wanted` names this point; the log line says so, and is what the test waits for."""
    if wanted == here:
        _log.warning("paused for a test", point=here)
        await asyncio.sleep(LONGEST_PAUSE_S)
