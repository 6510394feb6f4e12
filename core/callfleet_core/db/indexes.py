"""Indexes on tables in use: built beside their writers, whom they do not block and by whom they are not blocked."""

from __future__ import annotations

from typing import Final

import structlog
from alembic import op
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from callfleet_core.db.outages import sqlstate

TRIES: Final = 3
_LOCK_NOT_AVAILABLE: Final = "55P03"

_log = structlog.get_logger(__name__)


def build_index(name: str, definition: str) -> None:
    """CREATE INDEX CONCURRENTLY name `definition` ("ON table (columns) WHERE …"), outside of any transaction.

    It waits for transactions that were begun before it, each time for at most the migration's lock timeout, and is
    built TRIES times; what an attempt that failed has left behind is no index, and is dropped first. One that is there
    and whole is kept: a migration that stopped behind it can be run again. Raises OperationalError where somebody's
    transaction outlasts it all; the migration can simply be run again.
    """
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        for left in reversed(range(TRIES)):
            try:
                _build(connection, name, definition)
            except OperationalError as error:
                if sqlstate(error) != _LOCK_NOT_AVAILABLE or left == 0:
                    raise
                _log.warning("an index waits for somebody's long transaction", index=name, tries_left=left)
            else:
                return


def drop_index(name: str) -> None:
    """DROP INDEX CONCURRENTLY, outside of any transaction; one that is gone stays gone."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _build(connection: Connection, name: str, definition: str) -> None:
    valid = connection.execute(text(_IS_VALID), {"name": name}).scalar_one_or_none()
    if valid:
        return
    if valid is not None:
        connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
    connection.execute(text(f"CREATE INDEX CONCURRENTLY {name} {definition}"))


_IS_VALID: Final = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
