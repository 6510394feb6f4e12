"""What an administrator's commands need of an installation: its database and its keys, from the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final, TypeVar

import typer
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.crypto import Keyring
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import current_revision, head_revision
from callfleet_core.db.outages import sqlstate
from callfleet_core.errors import CallFleetError, HashKeyError, SchemaError
from callfleet_core.subjects import Subjects

HASH_KEY: Final = "CALLFLEET_HASH_KEY"
ENCRYPTION_KEYS: Final = "CALLFLEET_ENCRYPTION_KEYS"
SHORTEST_KEY: Final = 32
_SECRET: Final = "kubectl get secret callfleet-operator -n callfleet -o jsonpath='{{.data.{0}}}' | base64 -d"  # noqa: S105  # how to read it

DatabaseUrl = Annotated[
    str, typer.Option(envvar="DATABASE_URL", show_default=False, help="CallFleet's PostgreSQL, as its schema's owner.")
]
AuditorUrl = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="DATABASE_URL",
        show_default=False,
        help="CallFleet's PostgreSQL, as a login with the role callfleet_auditor, or as its schema's owner.",
    ),
]
_INSUFFICIENT_PRIVILEGE: Final = "42501"

Answer = TypeVar("Answer")


def how_to_read(key: str) -> str:
    """The command that reads an entry of the installation's Secret."""
    return _SECRET.format(key)


def assert_database(database_url: str) -> None:
    """Raises CallFleetError without a database, SchemaError for one of another version."""
    if not database_url:
        raise CallFleetError(
            "DATABASE_URL is missing: give --database-url, or take it from the installation:"
            f" {how_to_read('DATABASE_URL')}"
        )
    found, needed = current_revision(database_url), head_revision()
    if found != needed:
        raise SchemaError(
            f"the database is at revision {found}, this command needs {needed}: use the same version, or run"
            " callfleet database migrate"
        )


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Says what PostgreSQL's driver raises in a sentence. Raises CallFleetError."""
    try:
        yield
    except OperationalError as error:
        raise CallFleetError(f"PostgreSQL does not answer: {str(error.orig).splitlines()[0]}") from error
    except ProgrammingError as error:
        if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise
        raise CallFleetError(
            f"this login may not do that ({str(error.orig).splitlines()[0]}): it needs the role callfleet_auditor,"
            " or to be the schema's owner"
        ) from error


def with_database(database_url: str, work: Callable[[AsyncEngine], Awaitable[Answer]]) -> Answer:
    """Does something with the installation's database. Raises CallFleetError saying what is missing."""
    with in_plain_words():
        assert_database(database_url)
        return asyncio.run(_with_engine(database_url, work))


async def _with_engine(database_url: str, work: Callable[[AsyncEngine], Awaitable[Answer]]) -> Answer:
    engine = create_engine(database_url, pool_size=1, application="callfleet-cli")
    try:
        return await work(engine)
    finally:
        await engine.dispose()


def keys_from_environment() -> Subjects:
    """The installation's keys. Raises HashKeyError or KeyringError saying where they are to be had."""
    key = os.environ.get(HASH_KEY, "")
    if len(key) < SHORTEST_KEY:
        raise HashKeyError(
            f"{HASH_KEY} is missing: contacts are keyed by it, so it must be the installation's:"
            f" export {HASH_KEY}=$({how_to_read(HASH_KEY)})"
        )
    ring = os.environ.get(ENCRYPTION_KEYS, "")
    if not ring:
        raise CallFleetError(
            f"{ENCRYPTION_KEYS} is missing: people are encrypted with the installation's:"
            f" export {ENCRYPTION_KEYS}=$({how_to_read(ENCRYPTION_KEYS)})"
        )
    return Subjects(Keyring.parse(ring), key.encode())
