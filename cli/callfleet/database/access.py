"""How commands reach the installation's PostgreSQL: its address, the schema's revision, what to do when it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import typer
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import current_revision, head_revision
from callfleet_core.errors import CallFleetError, SchemaError

_SECRET: Final = "kubectl get secret callfleet-operator -n callfleet -o jsonpath='{{.data.{0}}}' | base64 -d"  # noqa: S105  # how to read it
_INSUFFICIENT_PRIVILEGE: Final = "42501"

Answer = TypeVar("Answer")
AuditorUrl = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="DATABASE_URL",
        show_default=False,
        help="CallFleet's PostgreSQL, as a login with the role callfleet_auditor, or as its schema's owner.",
    ),
]


def how_to_read(key: str) -> str:
    """A line of shell that prints a setting of the installation."""
    return _SECRET.format(key)


def with_database(database_url: str, work: Callable[[AsyncEngine], Awaitable[Answer]]) -> Answer:
    """Does something with the installation's database. Raises CallFleetError saying what is missing."""
    if not database_url:
        raise CallFleetError(
            "DATABASE_URL is missing: give --database-url, or take it from the installation:"
            f" {how_to_read('DATABASE_URL')}"
        )
    try:
        _assert_schema(database_url)
        return asyncio.run(_with_engine(database_url, work))
    except OperationalError as error:
        raise CallFleetError(f"PostgreSQL does not answer: {str(error.orig).splitlines()[0]}") from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        raise CallFleetError(
            f"this login may not do that ({str(error.orig).splitlines()[0]}): it needs the role callfleet_auditor,"
            " or be the schema's owner"
        ) from error


async def _with_engine(database_url: str, work: Callable[[AsyncEngine], Awaitable[Answer]]) -> Answer:
    engine = create_engine(database_url, pool_size=1, application="callfleet-cli")
    try:
        return await work(engine)
    finally:
        await engine.dispose()


def _assert_schema(database_url: str) -> None:
    found, needed = current_revision(database_url), head_revision()
    if found != needed:
        raise SchemaError(
            f"the database is at revision {found}, this command needs {needed}:"
            " use the installation's version, or run callfleet database migrate"
        )
