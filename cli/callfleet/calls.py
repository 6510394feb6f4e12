"""`callfleet calls`: what was called, said and learned, for whoever runs the installation."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet.access import DatabaseUrl, keys_from_environment, with_database
from callfleet_core.db.engine import create_engine
from callfleet_core.db.replica import Reader
from callfleet_core.errors import CallFleetError
from callfleet_core.history import BEGINNING, END, CallHistory, CallPage, CallRecord, Cursor, Saying

calls_app = typer.Typer(help="Calls of the past, by opaque ids.", no_args_is_help=True)

ReadUrl = Annotated[
    str, typer.Option(envvar="DATABASE_READ_URL", show_default=False, help="A replica to read from, if there is one.")
]
Moment = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="In UTC.")]
Answer = TypeVar("Answer")


@calls_app.command("list")
def list_calls(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Whose calls.")],
    campaign: Annotated[str | None, typer.Option("--campaign", "-c", help="Only this campaign's.")] = None,
    since: Moment = None,
    until: Moment = None,
    after: Annotated[str, typer.Option(help="Where the page before ended.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    database_url: DatabaseUrl = "",
    read_url: ReadUrl = "",
) -> None:
    """List calls, newest first, a page at a time."""
    cursor = Cursor.parse(after) if after else None
    span = (_utc(since, BEGINNING), _utc(until, END))
    page = _read(
        database_url,
        read_url,
        lambda history: history.page(
            namespace, campaign=campaign, since=span[0], until=span[1], after=cursor, limit=limit
        ),
    )
    if as_json:
        calls = [asdict(call) for call in page.calls]
        typer.echo(json.dumps({"calls": calls, "after": page.after.text() if page.after else None}, default=str))
        return
    _show(page)


@calls_app.command("show")
def show_call(
    call: Annotated[UUID, typer.Argument(help="A call's id, from `callfleet calls list`.")],
    transcript: Annotated[bool, typer.Option(help="What was said, too; needs the installation's keys.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    database_url: DatabaseUrl = "",
    read_url: ReadUrl = "",
) -> None:
    """Show a call and what was learned in it."""
    subjects = keys_from_environment() if transcript else None

    async def work(history: CallHistory) -> tuple[CallRecord | None, list[Any], list[Saying]]:
        found = await history.call(call)
        leads = [item for item in await history.leads_of(found.contact_id) if item.call_id == call] if found else []
        return found, leads, await history.conversation(call, subjects) if subjects else []

    found, leads, said = _read(database_url, read_url, work)
    if found is None:
        raise CallFleetError(f"there is no call {call}: callfleet calls list")
    record, lead = asdict(found), asdict(leads[0]) if leads else None
    if as_json:
        parts = {"call": record, "lead": lead, "said": [asdict(item) for item in said]}
        typer.echo(json.dumps(parts, default=str))
        return
    for name, value in {**record, **(lead or {})}.items():
        typer.echo(f"{name:<20} {'' if value is None else value}")
    for item in said:
        typer.echo(f"{item.at:%H:%M:%S} {'agent' if item.by_agent else 'person'}: {item.content}")


def _show(page: CallPage) -> None:
    table = Table(
        "BEGUN", "CAMPAIGN", "SESSION", "STATUS", "DISPOSITION", "SECONDS", "COST", "ID", box=None, header_style=""
    )
    for call in page.calls:
        seconds = "" if call.duration_s is None else str(call.duration_s)
        cost = "" if call.cost is None else f"{call.cost.normalize():f}"
        begun = f"{call.begun_at:%Y-%m-%d %H:%M:%S}"
        ending = (call.status, call.disposition or "", seconds, cost)
        table.add_row(begun, call.campaign, call.session, *ending, str(call.id))
    console = Console(width=None if Console().is_terminal else 200, soft_wrap=True)
    console.print(table if table.row_count else "no calls")
    if page.after is not None:
        typer.echo(f"more: --after {page.after.text()}")


def _utc(given: datetime | None, default: datetime) -> datetime:
    return default if given is None else given.replace(tzinfo=UTC)


def _read(database_url: str, read_url: str, work: Callable[[CallHistory], Awaitable[Answer]]) -> Answer:
    async def run(primary: AsyncEngine) -> Answer:
        replica = create_engine(read_url, pool_size=1, application="callfleet-cli", replica=True) if read_url else None
        try:
            return await work(CallHistory(Reader(primary, replica)))
        finally:
            if replica is not None:
                await replica.dispose()

    return with_database(database_url, run)
