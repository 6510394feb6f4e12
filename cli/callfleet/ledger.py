"""`callfleet ledger`: the ledger against the carrier's bill."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet.access import AuditorUrl, with_database
from callfleet.overruns import overruns_app
from callfleet.recovery import recovery_app
from callfleet_core.errors import CallFleetError
from callfleet_core.money import format_micros
from callfleet_core.reconciliation import MAX_LISTED, DifferenceKind, Noted, Progress, ReconciliationDesk

ledger_app = typer.Typer(
    help="The ledger against the carrier's bill, after an overrun and after a restore.", no_args_is_help=True
)
ledger_app.add_typer(overruns_app, name="overruns")
ledger_app.add_typer(recovery_app, name="recovery")

WIDE = 200
POLL_S = 1.0
Day = Annotated[datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="A day, in UTC.")]


@ledger_app.command("reconcile")
def reconcile(
    actor: Annotated[str, typer.Option(envvar="CALLFLEET_ACTOR", help="Who asks; kept in the audit log.")],
    day: Day = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit log.")] = "asked for by hand",
    wait_s: Annotated[float, typer.Option("--wait", min=0, max=3600, help="Seconds to wait for the operator.")] = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    database_url: AuditorUrl = "",
) -> None:
    """Let the operator compare a day with the carrier's list now, and show what differs; yesterday unless said.

    The operator does so by itself an hour after each day's end. It asks the carrier: this command needs no credentials.
    """
    asked = _day(day) or datetime.now(UTC).date() - timedelta(days=1)
    if asked > datetime.now(UTC).date():
        raise CallFleetError(f"{asked} has not begun: give a day until today, in UTC")

    async def work(engine: AsyncEngine) -> tuple[list[Progress], list[Noted]]:
        desk = ReconciliationDesk(engine)
        if not await desk.request(asked, actor, reason):
            raise CallFleetError(f"no call was placed in the week until {asked}: there is nothing to compare")
        done = await _answered(desk, asked, wait_s)
        return done, await desk.differences(day=asked)

    done, found = with_database(database_url, work)
    if as_json:
        _print_json({"accounts": [asdict(item) for item in done], "differences": [asdict(item) for item in found]})
    else:
        for account in done:
            typer.echo(_sentence(account))
        _show(found)
    if any(account.problem for account in done):
        raise typer.Exit(1)


@ledger_app.command("differences")
def differences(
    day: Day = None,
    kind: Annotated[DifferenceKind | None, typer.Option(help="Only this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="At most so many, the newest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    database_url: AuditorUrl = "",
) -> None:
    """Show what the carrier's bill had otherwise than the ledger, and what was posted for it."""
    found = with_database(
        database_url, lambda engine: ReconciliationDesk(engine).differences(day=_day(day), kind=kind, limit=limit)
    )
    if as_json:
        _print_json([asdict(item) for item in found])
    else:
        _show(found)


async def _answered(desk: ReconciliationDesk, day: date, wait_s: float) -> list[Progress]:
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        accounts = await desk.progress(day)
        if all(account.is_answered for account in accounts):
            return accounts
        if asyncio.get_running_loop().time() >= deadline:
            raise CallFleetError(
                f"the operator has not compared {day} within {wait_s:.0f} s: is it running? It will, and"
                f" `callfleet ledger differences --date {day}` shows what it finds"
            )
        await asyncio.sleep(POLL_S)


def _day(value: datetime | None) -> date | None:
    return None if value is None else value.date()


def _sentence(account: Progress) -> str:
    if account.problem:
        return f"{account.account_sid} on {account.day} could not be compared: {account.problem}"
    waits = f", {account.open_calls} not over or not priced yet: looked at again" if account.open_calls else ""
    return f"{account.account_sid} on {account.day}: {account.calls} calls compared{waits}"


def _show(found: list[Noted]) -> None:
    headings = ("DAY", "DIFFERS", "CALL", "ATTEMPT", "SESSION", "LEDGER", "CARRIER", "POSTED")
    table = Table(*headings, box=None, header_style="")
    for item in found:
        session = f"{item.namespace}/{item.session_name}" if item.session_name else "-"
        posted = "-" if item.delta_micros is None else f"{format_micros(item.delta_micros)} {item.currency}"
        known = str(item.attempt_id) if item.attempt_id else "-"
        said = (item.expected or "-", item.found or "-")
        table.add_row(str(item.day), item.kind.value, item.call_sid, known, session, *said, posted)
    console = Console(width=None if Console().is_terminal else WIDE, soft_wrap=True)
    console.print(table if found else "no differences")


def _print_json(value: object) -> None:
    typer.echo(
        json.dumps(value, default=lambda item: item.isoformat() if isinstance(item, date) else str(item), indent=2)
    )
