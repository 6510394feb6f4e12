"""The database's command line. It works on DATABASE_URL, as the schema's owner."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from callfleet.access import assert_database, keys_from_environment
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import current_revision, head_revision, migrate
from callfleet_core.db.partitions import ensure_partitions, unpartitioned
from callfleet_core.privacy import Privacy

Url = Annotated[
    str,
    typer.Option("--database-url", envvar="DATABASE_URL", help="PostgreSQL, as the schema's owner.", show_envvar=True),
]

database_app = typer.Typer(help="CallFleet's PostgreSQL: its schema and its partitions.", no_args_is_help=True)


@database_app.command("migrate")
def migrate_command(database_url: Url) -> None:
    """Bring the schema to this version's."""
    migrate(database_url)
    typer.echo(f"at revision {current_revision(database_url)}")


@database_app.command("status")
def status(database_url: Url) -> None:
    """Say at which revision the schema is; exit 1 where that is not this version's."""
    found, wanted = current_revision(database_url), head_revision()
    typer.echo(f"at revision {found or 'none'}; this version needs {wanted}")
    if found != wanted:
        raise typer.Exit(1)


@database_app.command("partitions")
def partitions(
    database_url: Url,
    years: Annotated[int, typer.Option(min=0, max=20, help="How many years after this one.")] = 1,
) -> None:
    """Make the partitions of calls for this year and the next ones; the operator does so by itself."""

    async def run() -> tuple[int, int]:
        engine = create_engine(database_url, pool_size=1, application="callfleet-cli")
        try:
            made = await ensure_partitions(engine, datetime.now(UTC), years)
            return made, await unpartitioned(engine)
        finally:
            await engine.dispose()

    made, left = asyncio.run(run())
    typer.echo(f"{made} partitions made; {left} calls lie outside of any year's")


@database_app.command("rotate-keys")
def rotate_keys(database_url: Url) -> None:
    """Wrap everybody's key by the newest of CALLFLEET_ENCRYPTION_KEYS; may be stopped and begun again at any moment.

    First give the operator the new key in front of the old one (encryptionKeys), then rotate, then take the old away.
    """
    assert_database(database_url)
    subjects = keys_from_environment()

    async def run() -> tuple[int, int]:
        engine = create_engine(database_url, pool_size=1, application="callfleet-cli")
        try:
            privacy, newest = Privacy(engine, subjects), subjects.newest_version
            done = await privacy.rotate(newest, lambda count: typer.echo(f"{count:,} done", err=True))
            return done, await privacy.left_to_rotate(newest)
        finally:
            await engine.dispose()

    done, left = asyncio.run(run())
    typer.echo(f"{done:,} keys are wrapped by version {subjects.newest_version}; {left:,} by an older one")
    if left:
        raise typer.Exit(1)
