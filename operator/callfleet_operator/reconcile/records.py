"""Housekeeping of the records in PostgreSQL: next year's partitions are there before it begins."""

from __future__ import annotations

import structlog

from callfleet_core.db.partitions import ensure_partitions, unpartitioned
from callfleet_operator.context import Context
from callfleet_operator.metrics import UNPARTITIONED

EVERY_S = 3600.0

_log = structlog.get_logger(__name__)


async def reconcile(context: Context) -> None:
    """Makes missing partitions, and counts the calls that have none."""
    made = await ensure_partitions(context.engine, context.now())
    if made:
        _log.info("partitions made", count=made)
    UNPARTITIONED.set(await unpartitioned(context.engine))
