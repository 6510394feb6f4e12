"""`callfleet images`: build what pods run, and put it into a cluster."""

from typing import Annotated

import typer

from callfleet.cluster import api as cluster_api
from callfleet.cluster.errors import ClusterError
from callfleet.images.build import DEFAULT, build, built
from callfleet.images.errors import ImageError
from callfleet.parts.errors import PartError

images_app = typer.Typer(help="The images that pods run.", no_args_is_help=True)
Names = Annotated[list[str] | None, typer.Argument(help=f"Images; {' and '.join(DEFAULT)} by default.")]


@images_app.command("build")
def build_images(names: Names = None) -> None:
    """Build images with buildah, docker or podman, unless nothing has changed; print their names."""
    try:
        for image in build(tuple(names) if names else DEFAULT).values():
            typer.echo(image.ref)
    except (ImageError, PartError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped", err=True)
        raise typer.Exit(130) from error


@images_app.command("load")
def load(
    names: Names = None,
    cluster: Annotated[str, typer.Option(help="The cluster's name.")] = cluster_api.DEFAULT_NAME,
) -> None:
    """Put the images built last into a running cluster."""
    try:
        handle = cluster_api.find(cluster)
        if handle is None:
            raise ClusterError(f"cluster {cluster} is not running: `callfleet cluster up` starts it")
        for name in names or DEFAULT:
            image = built(name)
            handle.load_image(image.layout)
            typer.echo(image.ref)
    except (ClusterError, ImageError, PartError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
