"""Housekeeping of the records in PostgreSQL: next year's partitions, and what workers of a release before may do."""

from __future__ import annotations

import structlog

from callfleet_core.db.partitions import ensure_partitions, unpartitioned
from callfleet_core.db.rights import close_worker_tables
from callfleet_operator.context import Context
from callfleet_operator.metrics import UNPARTITIONED

EVERY_S = 3600.0

_log = structlog.get_logger(__name__)


async def reconcile(context: Context) -> None:
    """Makes missing partitions, counts the calls that have none, and ends what earlier workers were left."""
    made = await ensure_partitions(context.engine, context.now())
    if made:
        _log.info("partitions made", count=made)
    UNPARTITIONED.set(await unpartitioned(context.engine))
    if await close_worker_tables(context.engine):
        _log.info("workers write their records through functions only from now on")
