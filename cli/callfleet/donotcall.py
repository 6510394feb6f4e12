"""`callfleet do-not-call`: who must not be called, in a namespace or in the whole installation."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from callfleet.access import DatabaseUrl, keys_from_environment, with_database
from callfleet_core.donotcall import EVERYWHERE, MAX_LISTED, DoNotCallList, Listed
from callfleet_core.errors import CallFleetError
from callfleet_core.phone import normalise

do_not_call_app = typer.Typer(help="Who must not be called: opted out in a call, or put here.", no_args_is_help=True)

WIDE = 160
Answer = TypeVar("Answer")
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The campaigns' namespace.")]
Everywhere = Annotated[bool, typer.Option("--everywhere", help="In every namespace of the installation.")]
# Never an argument: those are seen by whoever lists processes, and kept by shells.
Phone = Annotated[str, typer.Option(prompt="Number, like +15550100001", hide_input=True, help="Whose; asked for.")]
Actor = Annotated[str, typer.Option(envvar="CALLFLEET_ACTOR", help="Who decides; kept in the audit log.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit log for ever: no numbers, no names of those called.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@do_not_call_app.command("add")
def add(
    phone: Phone, actor: Actor, reason: Reason, namespace: Namespace = "", everywhere: Everywhere = False,
    database_url: DatabaseUrl = "",
) -> None:  # fmt: skip
    """Put a number on the list: no campaign calls it any more, grants that are not dialled yet included."""
    where, number = _where(namespace, everywhere), normalise(phone)
    done = _with_list(database_url, lambda book: book.put(where, number, actor=actor, reason=reason))
    typer.echo(f"this number is on the list of {_said(where)}{'' if done else ' already'}")
    if where and not _with_list(database_url, lambda book: book.knows(where)):
        typer.echo(f"nobody of {_said(where)} was ever called or listed: see whether its name is right", err=True)


@do_not_call_app.command("remove")
def remove(
    phone: Phone, actor: Actor, reason: Reason, namespace: Namespace = "", everywhere: Everywhere = False,
    database_url: DatabaseUrl = "",
) -> None:  # fmt: skip
    """Take a number off the list: campaigns call it again, where its consent is still valid."""
    where, number = _where(namespace, everywhere), normalise(phone)
    if not _with_list(database_url, lambda book: book.take_off(where, number, actor=actor, reason=reason)):
        raise CallFleetError(
            f"this number is not on the list of {_said(where)}: `callfleet do-not-call check` says where"
        )
    typer.echo(f"this number is no longer on the list of {_said(where)}")


@do_not_call_app.command("check")
def check(phone: Phone, as_json: AsJson = False, database_url: DatabaseUrl = "") -> None:
    """Show where a number is on the list, since when, and why."""
    number = normalise(phone)
    _show(_with_list(database_url, lambda book: book.of_number(number)), as_json, "this number is on no list")


@do_not_call_app.command("list")
def show(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="At most so many, the latest.")] = 100,
    as_json: AsJson = False,
    database_url: DatabaseUrl = "",
) -> None:
    """Show the latest entries; numbers are not stored with them, and cannot be shown."""
    _show(_with_list(database_url, lambda book: book.newest(namespace, limit)), as_json, "nobody is on the list")


def _with_list(database_url: str, work: Callable[[DoNotCallList], Coroutine[Any, Any, Answer]]) -> Answer:
    subjects = keys_from_environment()
    return with_database(database_url, lambda engine: work(DoNotCallList(engine, subjects)))


def _where(namespace: str, everywhere: bool) -> str:
    if bool(namespace) == everywhere:
        raise CallFleetError("say either --namespace or --everywhere")
    return EVERYWHERE if everywhere else namespace


def _said(where: str) -> str:
    return f"namespace {where}" if where else "the whole installation"


def _show(found: list[Listed], as_json: bool, nobody: str) -> None:
    if as_json:
        rows = [{**asdict(item), "attempt_id": item.attempt_id and str(item.attempt_id),
                 "since": item.since.isoformat()} for item in found]  # fmt: skip
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("NAMESPACE", "SINCE", "WHY", "CALL", box=None, header_style="")
    for item in found:
        since = item.since.strftime("%Y-%m-%d %H:%M UTC")
        table.add_row(item.namespace or "(all)", since, item.source, str(item.attempt_id or "-"))
    console = Console(width=None if Console().is_terminal else WIDE, soft_wrap=True)
    console.print(table if found else nobody)
