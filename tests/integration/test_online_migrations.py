"""Indexes that migrations build beside long transactions: nobody is blocked, and nothing half-built stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.exc import OperationalError
from tests.integration.books import Books, open_books

from callfleet_core.db import migrate as migrations
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import current_revision, migrate
from callfleet_core.errors import SchemaError

# The revision that only builds indexes, and the one before it.
BEFORE, INDEXES = "0007", "0008"
_INDEX = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('dial_attempts_history')"
_IS_WAITING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%')"
_TOUCH = "UPDATE dial_attempts SET lookups_empty = lookups_empty + 1 WHERE id = %s"


@pytest.fixture
async def attempts(database_url: str) -> list[UUID]:
    """Two attempts in a database that lacks the indexes."""
    engine = create_engine(database_url)
    books: Books = await open_books(engine)
    held = [await books.held(index) for index in range(2)]
    await engine.dispose()
    migrate(database_url, BEFORE, down=True)
    return held


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until(is_so: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = monotonic() + timeout_s
    while not is_so():
        assert monotonic() < deadline, "it never came to that"


async def test_a_long_writer_is_not_blocked_and_blocks_not_for_ever(database_url: str, attempts: list[UUID]) -> None:
    with psycopg.connect(database_url) as long, psycopg.connect(database_url, autocommit=True) as others:
        long.execute(_TOUCH, (attempts[0],))
        migration = in_background(lambda: migrate(database_url, INDEXES))
        until(lambda: others.execute(_IS_WAITING).fetchone() == (True,))
        others.execute("SET lock_timeout = '1s'")
        for _ in range(20):
            others.execute(_TOUCH, (attempts[1],))  # as quick as ever
        assert migration.is_alive()
        long.execute(_TOUCH, (attempts[0],))  # the long one goes on, too
        long.commit()
        migration.join(20)
        assert not migration.is_alive()
        assert others.execute(_INDEX).fetchone() == (True,)
    assert current_revision(database_url) == INDEXES


async def test_what_a_failed_build_left_behind_is_built_again(database_url: str, attempts: list[UUID]) -> None:
    with psycopg.connect(database_url) as long, psycopg.connect(database_url, autocommit=True) as others:
        long.execute(_TOUCH, (attempts[0],))
        with pytest.raises(OperationalError, match="lock timeout"):
            migrate(database_url, INDEXES, lock_timeout_ms=200)
        assert others.execute(_INDEX).fetchone() == (False,)  # PostgreSQL leaves it there, and it serves nobody
        assert current_revision(database_url) == BEFORE
        long.commit()
        migrate(database_url, INDEXES)
        assert others.execute(_INDEX).fetchone() == (True,)


async def test_what_is_built_already_is_kept(database_url: str, attempts: list[UUID]) -> None:
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(
            "CREATE INDEX dial_attempts_history ON dial_attempts (namespace, begun_at, id) WHERE begun_at IS NOT NULL"
        )
        built = session.execute("SELECT 'dial_attempts_history'::regclass::oid").fetchone()
        migrate(database_url, INDEXES)
        assert session.execute("SELECT 'dial_attempts_history'::regclass::oid").fetchone() == built


async def test_one_migrator_waits_for_the_other_but_not_for_ever(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "OTHER_MIGRATOR_S", 0.5)
    with psycopg.connect(empty_database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (migrations._MIGRATION_LOCK,))
        with pytest.raises(SchemaError, match="another migration is running"):
            migrate(empty_database_url)
    migrate(empty_database_url)
