"""The demo's command line."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from callfleet.checkout import sample
from callfleet.demo import run as demo_run
from callfleet.demo.record import Recorder
from callfleet.demo.report import report
from callfleet.demo.run import NAMESPACE, Outcome
from callfleet.demo.setup import CLUSTER, DemoOptions
from callfleet.demo.words import question_types
from callfleet.interrupts import Interrupts, deaf_until_the_end


def demo(
    campaign: Annotated[Path | None, typer.Option(help="Apply this file instead of the demo's campaign.")] = None,
    people: Annotated[Path | None, typer.Option(help="The people who answer (docs/simulator.md).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as one JSON object on standard output.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave everything running until Ctrl-C, and say how to reach it.")] = False,
    record: Annotated[Path | None, typer.Option(help="Write the screens into this file, as an animated SVG.")] = None,
    database_url: Annotated[str | None, typer.Option(help="A PostgreSQL to use; a database is made there.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="A Redis to use.")] = None,
    ollama_url: Annotated[str | None, typer.Option(help="An Ollama to use.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Use this kubeconfig's cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="Use this context of a kubeconfig.")] = None,
) -> None:
    """Bring all up, call a campaign of twelve people within a budget for six, and sum up."""
    started_at = demo_run.now()
    console = Console(stderr=True)
    options = DemoOptions(
        campaign=campaign or sample("demo-campaign.yaml"),
        people=people or sample("demo-people.yaml"),
        database_url=database_url,
        redis_url=redis_url,
        ollama_url=ollama_url,
        kubeconfig=kubeconfig,
        context=context,
    )
    recorder = None if record is None else Recorder(record)
    try:
        with (
            Interrupts() as interrupts,
            demo_run.run_demo(
                options, console, started_at, others=[recorder] if recorder else [], on_cleanup=interrupts.hold
            ) as outcome,
        ):
            picture = report(outcome.summary, outcome.scene, question_types(options.campaign))
            if recorder is not None:
                recorder.write(picture)
            _tell(outcome, picture, console, as_json=as_json)
            if keep:
                _keep(console)
    except KeyboardInterrupt as interrupt:
        deaf_until_the_end()
        console.print("stopped; nothing is left running")
        raise typer.Exit(130) from interrupt
    if outcome.summary["overspent"]:
        raise typer.Exit(1)


def _tell(outcome: Outcome, picture: RenderableType, console: Console, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(outcome.summary) + "\n")
        sys.stdout.flush()
    else:
        console.print(picture)


def _keep(console: Console) -> None:
    console.print(
        f"kept: `callfleet cluster status --name {CLUSTER}` says where its kubeconfig is; "
        f"the campaign is in namespace {NAMESPACE}. Ctrl-C ends everything."
    )
    signal.pause()
