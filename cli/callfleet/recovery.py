"""`callfleet ledger recovery`: how far a restored database is, and opening it by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from callfleet.access import AuditorUrl, with_database
from callfleet_core.errors import CallFleetError
from callfleet_core.recovery import RecoveryDesk, RecoveryStatus

recovery_app = typer.Typer(help="A restored or promoted database, and the calls that it forgot.")


@recovery_app.callback(invoke_without_command=True)
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    database_url: AuditorUrl = "",
) -> None:
    """Show whether admission is closed because the database was restored, since when calls are booked, and how far.

    The calls that were found are shown by `callfleet ledger differences --kind Lost`.
    """
    if context.invoked_subcommand is not None:
        return
    found = with_database(database_url, lambda engine: RecoveryDesk(engine).status())
    if as_json:
        typer.echo(json.dumps(asdict(found), default=_plain, indent=2))
    else:
        typer.echo(_sentences(found))


@recovery_app.command("open")
def open_by_hand(
    actor: Annotated[str, typer.Option(envvar="CALLFLEET_ACTOR", help="Who decides; kept in the audit log.")],
    reason: Annotated[str, typer.Option(help="How you know that nobody will be called twice; kept in the audit log.")],
    database_url: AuditorUrl = "",
) -> None:
    """Open admission although not all of the carrier's lists were read: calls that are not booked may be made again."""
    if not with_database(database_url, lambda engine: RecoveryDesk(engine).open(actor, reason)):
        raise CallFleetError(
            "nothing is being rebuilt, so there is nothing to open; `callfleet ledger recovery` says what the operator"
            " knows of the database"
        )
    typer.echo("admission is open again; the operator goes on within seconds")


def _sentences(found: RecoveryStatus) -> str:
    if found.recovering_since is None:
        if found.is_another:
            return "closed: this is not the database that was trusted last; the operator has not looked at it yet"
        return "open" if found.trusted_at is None else f"open; the database was seen last at {_time(found.trusted_at)}"
    lines = [
        f"closed since {_time(found.recovering_since)}: {found.recovery_reason}",
        f"the carrier's calls since {_time(found.recovering_from)} are booked again",
        f"complete readings of the carrier's lists: {found.recovery_passes} of 2, the last ended"
        f" {_time(found.recovery_pass_at)}",
    ]
    if found.recovery_problem:
        lines.append(f"the last one was not complete: {found.recovery_problem}")
    return "\n".join(lines)


def _time(value: datetime | None) -> str:
    return "never" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
