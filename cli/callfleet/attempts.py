"""`callfleet attempts`: attempts whose truth nobody could find, and what somebody knows about them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from callfleet.access import AuditorUrl, with_database
from callfleet_core.attempts import (
    MAX_LISTED,
    AttemptDesk,
    AttemptFacts,
    Need,
    Resolution,
    ResolveRefusedError,
    State,
    Verdict,
)
from callfleet_core.money import format_micros

attempts_app = typer.Typer(help="Attempts to call whose outcome nobody could find.", no_args_is_help=True)

WIDE = 220
Actor = Annotated[str, typer.Option(envvar="CALLFLEET_ACTOR", help="Who decides; kept in the audit log.")]


@attempts_app.command("list")
def list_attempts(
    state: Annotated[State | None, typer.Option(help="Only attempts in this state.")] = None,
    unresolved: Annotated[
        bool, typer.Option("--unresolved", help="Only dials of which the carrier knows nothing.")
    ] = False,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="Only calls that must have ended, and nobody knows how.")
    ] = False,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="At most so many, the oldest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    database_url: AuditorUrl = "",
) -> None:
    """Show attempts that are not settled, how old they are, what they hold, and what the carrier was asked.

    NEEDS says why somebody must decide: Overdue, Unresolved, or NoDuration; `callfleet attempts resolve` takes the
    decision. An attempt without it is the operator's to end.
    """
    if state and (unresolved or overdue):
        raise ResolveRefusedError("--state goes without --unresolved and --overdue: these say what is needed")
    needs = frozenset({Need.UNRESOLVED} if unresolved else ()) | frozenset({Need.OVERDUE} if overdue else ())
    found = with_database(
        database_url,
        lambda engine: AttemptDesk(engine).list(state=state, needs=needs, namespace=namespace, limit=limit),
    )
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found], default=_plain, indent=2))
    else:
        _show(found)


@attempts_app.command("resolve")
def resolve(
    attempt: Annotated[UUID, typer.Argument(help="The attempt's ID, from `callfleet attempts list`.")],
    verdict: Annotated[Verdict, typer.Option("--as", help="What became of it.")],
    reason: Annotated[
        str, typer.Option(help="How you know; kept in the audit log for ever: no numbers, no names of those called.")
    ],
    actor: Actor,
    duration_s: Annotated[
        int | None, typer.Option("--duration", min=1, help="Seconds, of a completed call, as the carrier bills them.")
    ] = None,
    call_sid: Annotated[str | None, typer.Option(help="The carrier's SID of the call, if there was one.")] = None,
    database_url: AuditorUrl = "",
) -> None:
    """Say what became of an attempt that needs it; the operator then settles it.

    Only no-answer may be followed by another attempt, as the campaign says, and only where its session still waits.
    """
    said = Resolution(verdict, actor, reason, duration_s, call_sid)
    done = with_database(database_url, lambda engine: AttemptDesk(engine).resolve(attempt, said))
    held = f"; {_money(done)} stay held until the operator has settled it" if done.held_micros else ""
    typer.echo(f"attempt {done.id} of {done.session_name} is resolved as {verdict.value}{held}")


def _show(found: list[AttemptFacts]) -> None:
    headings = ("ID", "SESSION", "STATE", "NEEDS", "AGE", "HELD", "CALL", "ASKED", "LAST ASKED")
    table = Table(*headings, box=None, header_style="")
    now = datetime.now(UTC)
    for item in found:
        session = f"{item.namespace}/{item.session_name}"
        asked = f"{item.lookups_empty} empty" if item.lookups_empty else "yes" if item.last_lookup_at else "no"
        last = f"{_age(now - item.last_lookup_at)} ago" if item.last_lookup_at else "-"
        age = _age(now - (item.begun_at or item.granted_at))
        state = f"{item.state} ({item.end_status})" if item.end_status else item.state
        needs = item.needs.value if item.needs else "-"
        table.add_row(str(item.id), session, state, needs, age, _money(item), item.call_sid or "-", asked, last)
    console = Console(width=None if Console().is_terminal else WIDE, soft_wrap=True)
    console.print(table if found else "no such attempt")


def _money(item: AttemptFacts) -> str:
    return f"{format_micros(item.held_micros)} {item.currency}"


def _age(passed: timedelta) -> str:
    """Two units at most, as kubectl shows ages."""
    minutes, seconds = divmod(max(0, int(passed.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
