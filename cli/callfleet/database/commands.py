"""The database's command line. It works on DATABASE_URL, as the schema's owner."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet.access import in_plain_words, keys_from_environment, with_database
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
    with in_plain_words():
        migrate(database_url)
    typer.echo(f"at revision {current_revision(database_url)}")


@database_app.command("status")
def status(database_url: Url) -> None:
    """Say at which revision the schema is; exit 1 where that is not this version's."""
    with in_plain_words():
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

    async def run(engine: AsyncEngine) -> tuple[int, int]:
        return await ensure_partitions(engine, datetime.now(UTC), years), await unpartitioned(engine)

    made, left = with_database(database_url, run)
    typer.echo(f"{made} partitions made; {left} calls lie outside of any year's")


@database_app.command("rotate-keys")
def rotate_keys(database_url: Url) -> None:
    """Wrap everybody's key by the newest of CALLFLEET_ENCRYPTION_KEYS; may be stopped and begun again at any moment.

    First give the operator the new key in front of the old one (encryptionKeys), then rotate, then take the old away.
    """
    subjects = keys_from_environment()
    newest = subjects.newest_version

    async def run(engine: AsyncEngine) -> tuple[int, int]:
        privacy = Privacy(engine, subjects)
        done = await privacy.rotate(newest, lambda count: typer.echo(f"{count:,} done", err=True))
        return done, await privacy.left_to_rotate(newest)

    done, left = with_database(database_url, run)
    typer.echo(f"{done:,} keys are wrapped by version {newest}; {left:,} by an older one")
    if left:
        raise typer.Exit(1)
