"""The one way to open PostgreSQL: SQLAlchemy's async engine over psycopg, with a bounded pool and timeouts."""

from __future__ import annotations

import time
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from callfleet_core.errors import DatabaseUrlError

POOL_SIZE = 20  # D1 of docs/requirements.md
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5
# A connection that was idle for longer is asked whether it lives before it is used. One in steady use finds out by
# itself, and would spend a round trip in two on the question.
IDLE_UNASKED_S: Final = 1.0


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


def create_engine(url: str, *, pool_size: int = POOL_SIZE, application: str = "callfleet") -> AsyncEngine:
    """An async engine; idle connections are checked before use, so that a restarted server costs next to no request."""
    engine = create_async_engine(
        database_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": application,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC",
        },
    )
    _ask_the_idle(engine.sync_engine)
    return engine


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
