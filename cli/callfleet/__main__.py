"""The callfleet command."""

from __future__ import annotations

import sys

import typer

from callfleet.attempts import attempts_app
from callfleet.calls import calls_app
from callfleet.cluster.commands import cluster_app
from callfleet.cluster.errors import ClusterError
from callfleet.contacts import contacts_app
from callfleet.database.commands import database_app
from callfleet.demo.commands import demo
from callfleet.explain import explain
from callfleet.hostservices import HostServiceError
from callfleet.images import ImageError, images_app
from callfleet.interrupts import Interrupts, end_with_make
from callfleet.ledger import ledger_app
from callfleet.parts.commands import parts_app
from callfleet.parts.errors import PartError
from callfleet.simulator import PASS_ON, simulator
from callfleet_core.errors import CallFleetError

app = typer.Typer(
    help="CallFleet: fleets of AI phone callers on Kubernetes, within a budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(attempts_app, name="attempts")
app.add_typer(cluster_app, name="cluster")
app.add_typer(database_app, name="database")
app.add_typer(ledger_app, name="ledger")
app.add_typer(parts_app, name="parts")
app.add_typer(images_app, name="images")
app.add_typer(calls_app, name="calls")
app.add_typer(contacts_app, name="contacts")
app.command("demo")(demo)
app.command("explain")(explain)
app.command("simulator", context_settings=PASS_ON)(simulator)


def main() -> None:
    """Runs the command; an error of ours is one clear sentence, not a traceback."""
    end_with_make()
    try:
        with Interrupts():
            app()
    except (CallFleetError, PartError, ClusterError, ImageError, HostServiceError) as error:
        sys.stderr.write(f"callfleet: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
