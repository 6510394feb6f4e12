"""The one way to open PostgreSQL: SQLAlchemy's async engine over psycopg, with a bounded pool and timeouts.

Every wait ends by itself, on both sides: the server's statements, locks and idle transactions, the client's connects,
answers and places in the pool. docs/database.md says what follows from that in an outage.
"""

from __future__ import annotations

import time
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from callfleet_core.db.connection import BoundedConnection
from callfleet_core.db.outages import sqlstate
from callfleet_core.errors import DatabaseUrlError

POOL_SIZE = 20  # D1 of docs/requirements.md
POOL_TIMEOUT_S = 10
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 10_000
# A client that was cut off between a statement and its COMMIT leaves its locks behind, for as long as TCP takes to
# notice: two hours, where nobody says otherwise.
IDLE_IN_TRANSACTION_TIMEOUT_MS = 15_000
CONNECT_TIMEOUT_S = 5
# A connection that was idle for longer is asked whether it lives before it is used. One in steady use finds out by
# itself, and would spend a round trip in two on the question.
IDLE_UNASKED_S: Final = 1.0
# A peer that does not answer probes for so long is gone.
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_PROBES = 10, 5, 2
_UNACKNOWLEDGED_MS = 20_000
# The protocol's SQL sees, in every statement, what was committed before it (docs/decisions/0014): whatever the role's
# or the database's default is.
_OPTIONS = (
    f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
    f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
    r" -c default_transaction_isolation=read\ committed -c timezone=UTC"
)
_READ_ONLY = "25006"  # read_only_sql_transaction


def database_url(url: str) -> URL:
    """SQLAlchemy's URL for a postgresql:// or postgresql+psycopg:// address.

    Raises DatabaseUrlError for anything else, without repeating it: it may hold a password.
    """
    if not url.startswith(("postgresql://", "postgresql+psycopg://")):
        raise DatabaseUrlError("a database's URL must begin with postgresql:// or postgresql+psycopg://")
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(
            "a database's URL is not postgresql://user:password@host:5432/name; write special characters as %XX"
        ) from None


def create_engine(
    url: str, *, pool_size: int = POOL_SIZE, application: str = "callfleet", replica: bool = False
) -> AsyncEngine:
    """An async engine; idle connections are checked before use, so that a restarted server costs next to no request.

    Only a server that takes writes is connected to, unless a `replica` is meant.
    """
    engine = create_async_engine(
        database_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        connect_args={
            "async_creator_fn": BoundedConnection.connect,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": application,
            "options": _OPTIONS,
            "target_session_attrs": "any" if replica else "read-write",
            "keepalives_idle": _KEEPALIVE_IDLE_S,
            "keepalives_interval": _KEEPALIVE_INTERVAL_S,
            "keepalives_count": _KEEPALIVE_PROBES,
            "tcp_user_timeout": _UNACKNOWLEDGED_MS,
        },
    )
    _ask_the_idle(engine.sync_engine)
    if not replica:
        event.listen(engine.sync_engine, "handle_error", _leave_a_demoted_server)
    return engine


def _leave_a_demoted_server(context: ExceptionContext) -> None:
    """A server that takes no writes any more is left, with all connections to it: another may be the primary."""
    if sqlstate(context.original_exception) == _READ_ONLY:
        context.is_disconnect = True


def _ask_the_idle(engine: Engine) -> None:
    """What `pool_pre_ping` does, but only for connections that were not used a moment ago."""

    def returned(_connection: Any, record: Any) -> None:
        record.info["returned_s"] = time.monotonic()

    def taken(connection: Any, record: Any, _fairy: Any) -> None:
        returned_s = record.info.get("returned_s")
        if returned_s is None or time.monotonic() - returned_s < IDLE_UNASKED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)
