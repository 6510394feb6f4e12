"""`callfleet ledger overruns`: accounts that a stale price stopped, and the word that somebody has looked."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from callfleet.access import AuditorUrl, with_database
from callfleet_core.ledger.overruns import Overrun, OverrunDesk

overruns_app = typer.Typer(help="Accounts that stopped because a call cost more than was held for it.")

WIDE = 200


@overruns_app.callback(invoke_without_command=True)
def list_overruns(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    database_url: AuditorUrl = "",
) -> None:
    """Show the accounts for which nothing is held until somebody has looked, and the meters above their caps."""
    if context.invoked_subcommand is not None:
        return
    found = with_database(database_url, lambda engine: OverrunDesk(engine).list())
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found], indent=2))
    else:
        _show(found)


@overruns_app.command("clear")
def clear(
    accounts: Annotated[
        list[str],
        typer.Argument(
            metavar="ACCOUNT...", help="From `callfleet ledger overruns`; NAMESPACE/KIND/NAME: all of an object's."
        ),
    ],
    actor: Annotated[str, typer.Option(envvar="CALLFLEET_ACTOR", help="Who has looked; kept in the audit log.")],
    reason: Annotated[str, typer.Option(help="What was wrong, and is right now; kept in the audit log.")],
    database_url: AuditorUrl = "",
) -> None:
    """Let accounts go on, all or none, once the prices are right."""
    with_database(database_url, lambda engine: OverrunDesk(engine).clear(accounts, actor, reason))
    typer.echo(f"{', '.join(accounts)}: calls are admitted again; the operator goes on within seconds")


def _show(found: list[Overrun]) -> None:
    table = Table("ACCOUNT", "NAMESPACE", "KIND", "NAME", "WINDOW", "METERS", box=None, header_style="")
    for item in found:
        meters = ", ".join(item.meters) or "-"
        table.add_row(item.account, item.namespace or "-", item.kind, item.name, item.time_window, meters)
    console = Console(width=None if Console().is_terminal else WIDE, soft_wrap=True)
    console.print(table if found else "no account is overrun")
