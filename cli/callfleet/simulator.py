"""`callfleet simulator`: the carrier simulator, for whoever uses it without the rest of CallFleet."""

from __future__ import annotations

import os

import typer

from callfleet.parts.api import models_folder
from callfleet.parts.errors import PartError


def simulator(context: typer.Context) -> None:
    """Be a carrier: Twilio's Calls API with people who answer (docs/simulator.md)."""
    from callfleet_simulator.__main__ import main

    if "CALLFLEET_MODELS_DIR" not in os.environ:
        _use_built_models()
    raise typer.Exit(main(context.args, "callfleet simulator"))


def _use_built_models() -> None:
    try:
        os.environ["CALLFLEET_MODELS_DIR"] = str(models_folder())
    except PartError:
        return  # people who do not talk need none; otherwise the simulator says what is missing
