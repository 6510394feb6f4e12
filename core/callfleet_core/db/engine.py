"""The one way to open PostgreSQL: SQLAlchemy's async engine over psycopg, with a bounded pool and timeouts."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

POOL_SIZE = 20  # D1 of docs/requirements.md
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5


def database_url(url: str) -> URL:
    """SQLAlchemy's URL for a postgresql:// or postgresql+psycopg:// address."""
    return make_url(url).set(drivername="postgresql+psycopg")


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
