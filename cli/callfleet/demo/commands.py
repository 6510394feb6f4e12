"""The demo's command line."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from callfleet.checkout import sample
from callfleet.demo import run as demo_run
from callfleet.demo.show import print_summary


def demo(
    campaign: Annotated[Path | None, typer.Option(help="Apply this file instead of the demo's campaign.")] = None,
    people: Annotated[Path | None, typer.Option(help="The people who answer (docs/simulator.md).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as one JSON object on standard output.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave everything running until Ctrl-C, and say how to reach it.")] = False,
    database_url: Annotated[str | None, typer.Option(help="A PostgreSQL to use; a database is made there.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="A Redis to use.")] = None,
    ollama_url: Annotated[str | None, typer.Option(help="An Ollama to use.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Use this kubeconfig's cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="Use this context of a kubeconfig.")] = None,
) -> None:
    """Bring all up, call a campaign of twelve people within a budget for six, and sum up."""
    started_at = demo_run.now()
    console = Console(stderr=True)
    options = demo_run.DemoOptions(
        campaign=campaign or sample("demo-campaign.yaml"),
        people=people or sample("demo-people.yaml"),
        database_url=database_url,
        redis_url=redis_url,
        ollama_url=ollama_url,
        kubeconfig=kubeconfig,
        context=context,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with demo_run.run_demo(options, console, started_at) as summary:
            _finish(summary, console, as_json, keep)
    except KeyboardInterrupt as interrupt:
        console.print("stopped; nothing is left running")
        raise typer.Exit(130) from interrupt


def _finish(summary: dict[str, Any], console: Console, as_json: bool, keep: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
        sys.stdout.flush()
    else:
        print_summary(console, summary)
    if keep:
        console.print(
            f"kept: `callfleet cluster status --name {demo_run.CLUSTER}` says where its kubeconfig is; "
            f"the campaign is in namespace {demo_run.NAMESPACE}. Ctrl-C ends everything."
        )
        signal.pause()
    if summary["overspent"]:
        raise typer.Exit(1)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
