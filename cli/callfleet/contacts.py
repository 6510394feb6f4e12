"""`callfleet contacts`: contact lists in the database, for campaigns that name them (`contacts: {listRef: …}`)."""

from __future__ import annotations

import io
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from callfleet.access import DatabaseUrl, keys_from_environment, with_database
from callfleet_core.api.common import ObjectName
from callfleet_core.contactlist import ContactListError, Row, read_contacts
from callfleet_core.contacts import contact_id
from callfleet_core.errors import CallFleetError
from callfleet_core.lists import MAX_PROBLEMS, ContactLists, Imported, ImportRefusedError
from callfleet_core.phone import normalise
from callfleet_core.privacy import Erasure, Privacy

contacts_app = typer.Typer(help="Contact lists in the database, which campaigns name.", no_args_is_help=True)

# Where nobody watches, a line for so many rows.
LINE_EVERY: Final = 100_000

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The campaigns' namespace.")]
ListName = Annotated[str, typer.Option("--list", "-l", help="The list's name, as campaigns write it.")]
Answer = TypeVar("Answer")


@contacts_app.command("import")
def import_list(
    file: Annotated[Path, typer.Argument(help="CSV; the first line names the columns.", exists=True, dir_okay=False)],
    namespace: Namespace,
    name: ListName,
    database_url: DatabaseUrl = "",
    dry_run: Annotated[bool, typer.Option(help="Check everything and say what would change; change nothing.")] = False,
) -> None:
    """Import a CSV file as a contact list, whole or not at all; campaigns that name it follow within seconds.

    Columns: phone, and if known name, consent_kind, consent_source, consent_time.
    """
    _assert_name(namespace, "--namespace")
    _assert_name(name, "--list")
    subjects = keys_from_environment()

    def work(lists: ContactLists) -> Coroutine[Any, Any, Imported]:
        return lists.import_rows(namespace, name, rows, subjects, dry_run=dry_run, on_progress=on_progress)

    try:
        with _progress(file) as (rows, on_progress):
            imported = _run(database_url, work)
    except ImportRefusedError as error:
        _tell_problems(error)
        raise
    typer.echo(_sentence(namespace, name, imported))


@contacts_app.command("erase")
def erase(
    namespace: Namespace,
    phone: Annotated[str, typer.Option(prompt="Number, like +15550100001", hide_input=True, help="Whose; asked for.")],
    database_url: DatabaseUrl = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Erase a person: their key is destroyed, so that number, name and what was said are gone.

    A backup from before still has the key, wrapped by the installation's (docs/privacy.md).

    What calls cost and that they were made stays, by an opaque id, and the person is never called again.
    """
    subjects = keys_from_environment()
    contact = contact_id(namespace, normalise(phone), subjects.hash_key)
    if not yes:
        typer.confirm(f"Erase this person in namespace {namespace}? Nothing brings them back.", abort=True)
    match with_database(database_url, lambda engine: Privacy(engine, subjects).erase(contact)):
        case Erasure.UNKNOWN:
            raise CallFleetError(f"nobody with this number is stored in namespace {namespace}")
        case Erasure.OPEN:
            raise CallFleetError("a call to this person is open: cancel it, or wait until it has ended, and try again")
    typer.echo(f"erased: contact {contact} in {namespace}")


@contacts_app.command("lists")
def show_lists(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace.")] = None,
    database_url: DatabaseUrl = "",
) -> None:
    """Show the lists, how many contacts they have, and which campaigns call from them."""
    table = Table("NAMESPACE", "LIST", "CONTACTS", "VERSION", "IMPORTED", "CAMPAIGNS", box=None, header_style="")
    for item in _run(database_url, lambda lists: lists.lists(namespace)):
        imported = item.imported_at.strftime("%Y-%m-%d %H:%M UTC")
        counts = (f"{item.contacts:,}", str(item.version))
        table.add_row(item.namespace, item.name, *counts, imported, ", ".join(item.campaigns))
    console = Console(width=None if Console().is_terminal else 160, soft_wrap=True)
    console.print(table if table.row_count else "no list has been imported")


@contacts_app.command("delete")
def delete_list(
    namespace: Namespace,
    name: ListName,
    database_url: DatabaseUrl = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete a list, with what it said of consent; campaigns that name it call nobody of it any more."""
    if not yes:
        typer.confirm(f"Delete list {name} of namespace {namespace}, and the consents that it states?", abort=True)
    contacts = _run(database_url, lambda lists: lists.delete(namespace, name))
    typer.echo(f"list {name} in {namespace} is deleted: it had {contacts:,} contacts")


def _run(database_url: str, work: Callable[[ContactLists], Coroutine[Any, Any, Answer]]) -> Answer:
    """Does something with the lists. Raises CallFleetError saying what is missing, KeyboardInterrupt as Exit 130."""
    try:
        return with_database(database_url, lambda engine: work(ContactLists(engine)))
    except KeyboardInterrupt as interrupt:
        typer.echo("stopped; `callfleet contacts lists` says what is there", err=True)
        raise typer.Exit(130) from interrupt


def _assert_name(value: str, option: str) -> None:
    try:
        TypeAdapter(ObjectName).validate_python(value)
    except ValidationError as error:
        raise ContactListError(f"{option} must be small letters, digits and dashes, at most 63") from error


def _sentence(namespace: str, name: str, imported: Imported) -> str:
    change = f"{imported.joined:,} new, {imported.left:,} gone"
    if imported.without_consent:
        change += f", {imported.without_consent:,} without consent, who will not be called"
    contacts = f"{imported.contacts:,} contacts ({change})"
    if imported.version is None:
        return f"nothing was changed: list {name} in {namespace} would have {contacts}"
    return f"list {name} in {namespace}: {contacts}, version {imported.version}"


def _tell_problems(error: ImportRefusedError) -> None:
    for problem in error.problems:
        typer.echo(f"row {problem.row}: {problem.text}", err=True)
    if error.total > len(error.problems):
        typer.echo(f"… and {error.total - MAX_PROBLEMS:,} rows more", err=True)


@contextmanager
def _progress(file: Path) -> Iterator[tuple[Iterator[Row], Callable[[int], None]]]:
    """The file's rows, and what is to be told of how many were read; a bar on a terminal, else a line now and then."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.fields[rows]:>9,} rows"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with file.open("rb") as raw, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("import", total=file.stat().st_size, rows=0)

        def told(rows: int) -> None:
            bar.update(task, completed=raw.tell(), rows=rows)
            if not console.is_terminal and rows % LINE_EVERY == 0:
                console.print(f"{rows:,} rows read", highlight=False)

        yield _rows(io.TextIOWrapper(raw, encoding="utf-8", newline="")), told


def _rows(lines: io.TextIOWrapper) -> Iterator[Row]:
    try:
        yield from read_contacts(lines)
    except UnicodeDecodeError as error:
        raise ContactListError("the file is not UTF-8: save it as UTF-8 and import it again") from error
