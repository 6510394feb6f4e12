"""`callfleet parts`: list what is there, build what is not."""

from typing import Annotated

import typer

from callfleet.parts.api import ensure
from callfleet.parts.catalogue import DEFAULT, PARTS, plan_parts
from callfleet.parts.errors import PartError
from callfleet.parts.progress import duration_text

parts_app = typer.Typer(help="The real parts CallFleet runs on, found here or built once.", no_args_is_help=True)


@parts_app.command("build")
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Parts to build; all by default.")] = None,
) -> None:
    """Build every part that nothing on this machine provides, into the user's cache."""
    try:
        ensure(tuple(names) if names else DEFAULT)
    except PartError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; what was built so far is kept", err=True)
        raise typer.Exit(130) from error


@parts_app.command("list")
def list_parts() -> None:
    """Print each part, who provides it, and where; or how long it takes to build."""
    for planned in plan_parts(tuple(PARTS)):
        part, found = planned.part, planned.found
        where = f"{found.provider}: {found.path}" if found else f"not built (about {duration_text(part.expected_s)})"
        typer.echo(f"{part.name:15} {where}")
