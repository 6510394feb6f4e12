"""The one way to open PostgreSQL: SQLAlchemy's async engine over psycopg, with a bounded pool and timeouts."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from callfleet_core.errors import DatabaseUrlError

POOL_SIZE = 20  # D1 of docs/requirements.md
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5


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
    """An async engine; connections are checked before use, so that a restarted server costs no request."""
    return create_async_engine(
        database_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": application,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC",
        },
    )
