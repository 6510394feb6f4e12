"""The callfleet command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer

from callfleet.interrupts import Interrupts, end_with_make
from callfleet_core.errors import CallFleetError

# Where each command lives. Only the one that is asked for is imported: all of them take a second or two.
GROUPS = {
    "attempts": "callfleet.attempts:attempts_app",
    "cluster": "callfleet.cluster.commands:cluster_app",
    "database": "callfleet.database.commands:database_app",
    "ledger": "callfleet.ledger:ledger_app",
    "parts": "callfleet.parts.commands:parts_app",
    "images": "callfleet.images:images_app",
    "calls": "callfleet.calls:calls_app",
    "contacts": "callfleet.contacts:contacts_app",
    "do-not-call": "callfleet.donotcall:do_not_call_app",
}
COMMANDS = {
    "demo": "callfleet.demo.commands:demo",
    "explain": "callfleet.explain:explain",
    "simulator": "callfleet.simulator:simulator",
}
# The simulator has a command line of its own, also in its image: it gets the arguments as they are, --help too.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The command line with the command that the arguments name, or with all, for its help and its complaints."""
    app = typer.Typer(
        help="CallFleet: fleets of AI phone callers on Kubernetes, within a budget.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(lambda: None)  # without it, a command that is alone would be the whole command line
    named = arguments[0] if arguments else ""
    only = named in GROUPS or named in COMMANDS
    for name, place in GROUPS.items():
        if not only or name == named:
            app.add_typer(_imported(place), name=name)
    for name, place in COMMANDS.items():
        if not only or name == named:
            app.command(name, context_settings=PASS_ON if name == "simulator" else None)(_imported(place))
    return app


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def main() -> None:
    """Runs the command; an error of ours is one clear sentence, not a traceback."""
    end_with_make()
    try:
        with Interrupts():
            app_for(sys.argv[1:])()
    except CallFleetError as error:
        sys.stderr.write(f"callfleet: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
