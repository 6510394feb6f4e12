"""`callfleet cluster`: a cluster to run on, started, looked at and ended."""

from pathlib import Path
from typing import Annotated

import typer

from callfleet.cluster import api, local
from callfleet.cluster.errors import ClusterError
from callfleet.cluster.layout import layout_for
from callfleet.parts.errors import PartError

cluster_app = typer.Typer(help="A Kubernetes cluster to run on.", no_args_is_help=True)
Name = Annotated[str, typer.Option(help="The cluster's name.")]


@cluster_app.command("up")
def up(
    name: Name = api.DEFAULT_NAME,
    context: Annotated[str | None, typer.Option(help="Use this context of a kubeconfig.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Use this kubeconfig.")] = None,
    gpus: Annotated[int, typer.Option(min=0, max=64, help="Pretend GPUs on the node.")] = api.DEFAULT_GPUS,
    optimised: Annotated[bool, typer.Option(help="Optimised Kubernetes, for benchmarks.")] = False,
) -> None:
    """Use the given cluster, or kind, or start a local node; print how to reach it."""
    try:
        handle = api.up(name, kubeconfig=kubeconfig, context=context, gpus=gpus, optimised=optimised)
    except (ClusterError, PartError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; nothing is left running", err=True)
        raise typer.Exit(130) from error
    typer.echo(f"export KUBECONFIG={handle.kubeconfig}")
    typer.echo(f"# {handle.provider} cluster, context {handle.context}", err=True)
    if handle.bridge_address:
        typer.echo(f"# this machine, as pods see it: {handle.bridge_address}", err=True)


@cluster_app.command("down")
def down(
    name: Name = api.DEFAULT_NAME,
    purge: Annotated[bool, typer.Option("--purge", help="Its images and logs go too.")] = False,
) -> None:
    """End the cluster and everything that a killed run may have left; images stay cached."""
    try:
        ran = api.down(name, purge=purge)
    except (ClusterError, PartError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"cluster {name} {'ended' if ran else 'was not running'}")


@cluster_app.command("status")
def status(name: Name = api.DEFAULT_NAME) -> None:
    """Print the state of each component and where its log is; exit 1 unless all run."""
    handle = api.find(name)
    layout = layout_for(name)
    report = local.status(layout)
    if handle is None:
        typer.echo(f"cluster {name} is not running" + (f": {report['error']}" if report["error"] else ""))
        raise typer.Exit(1)
    typer.echo(f"cluster {name}: {report['phase']}, kubeconfig {handle.kubeconfig}")
    for component, facts in report["components"].items():
        state = "running" if facts["returncode"] is None else f"ended with {facts['returncode']}"
        typer.echo(f"  {component:25} {state:15} {facts['log']}")
