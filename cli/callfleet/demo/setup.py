"""Brings everything up that a demo needs, each step listed with its time, and ends all of it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from callfleet import hostservices
from callfleet.cluster import api as cluster_api
from callfleet.cluster.handle import ClusterHandle
from callfleet.images import BuiltImage, build
from callfleet.installation import HostService, Installation, Settings, installation_databases, installed
from callfleet.parts.api import ensure
from callfleet.parts.locks import file_lock
from callfleet.parts.paths import lock_path, log_home
from callfleet.parts.progress import Step
from callfleet.parts.reporter import Progress

CLUSTER = "callfleet-demo"
# How long another demo may take to end; a killed one is gone at once.
OTHER_DEMO_TIMEOUT_S = 60.0
STEPS = (
    Step("images-load", "Images into the cluster", 25),
    Step("host", "PostgreSQL, Redis and Ollama on this machine", 10),
    Step("install", "CallFleet by its chart", 40),
)


@dataclass(frozen=True)
class DemoOptions:
    """What a user may choose; None means the demo's own."""

    campaign: Path
    people: Path
    database_url: str | None = None
    redis_url: str | None = None
    ollama_url: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None


@contextmanager
def everything_up(options: DemoOptions, console: Console, on_cleanup: Callable[[], None]) -> Iterator[Installation]:
    """Parts, images, cluster, host services and the chart; `on_cleanup` is called before any of it is ended.

    One demo at a time: they would share a cluster's name. Raises PartError when another one does not end.
    """

    def tell() -> None:
        console.print(f"Another demo runs here: waiting up to {OTHER_DEMO_TIMEOUT_S:.0f} s for its end.")

    with file_lock(lock_path("demo"), OTHER_DEMO_TIMEOUT_S, tell), ExitStack() as stack:
        try:
            with Progress("Setting CallFleet up", console=console) as progress:
                installation = _bring_up(stack, options, progress)
            yield installation
        finally:
            on_cleanup()


def _bring_up(stack: ExitStack, options: DemoOptions, progress: Progress) -> Installation:
    ensure(progress=progress)
    images = build(progress=progress)
    cluster = stack.enter_context(_cluster(options, progress))
    for step in STEPS:
        progress.add(step)
    with progress.step("images-load"):
        for image in images.values():
            cluster.load_image(image.layout)
    with progress.step("host"):
        settings = _host_services(stack, options, images, cluster.bridge_address)
    with progress.step("install"):
        return stack.enter_context(installed(cluster, settings, log_home() / "demo"))


@contextmanager
def _cluster(options: DemoOptions, progress: Progress) -> Iterator[ClusterHandle]:
    given = options.kubeconfig is not None or options.context is not None
    if not given:
        cluster_api.down(CLUSTER)  # what a killed demo may have left
    try:
        yield cluster_api.up(
            CLUSTER, progress, kubeconfig=options.kubeconfig, context=options.context, ends_with_owner=True
        )
    finally:
        if not given:
            cluster_api.down(CLUSTER)


def _host_services(
    stack: ExitStack, options: DemoOptions, images: Mapping[str, BuiltImage], bridge: str | None
) -> Settings:
    listen = ("127.0.0.1",) if bridge is None else ("127.0.0.1", bridge)
    postgres = stack.enter_context(hostservices.postgres(listen, options.database_url))
    redis = stack.enter_context(hostservices.redis(listen, options.redis_url))
    ollama = stack.enter_context(hostservices.ollama(bridge, options.ollama_url))
    databases = stack.enter_context(installation_databases(postgres.url))
    return Settings(
        databases=databases.at(bridge if options.database_url is None else None),
        redis_url=redis.url_at(bridge) if bridge and options.redis_url is None else redis.url,
        ollama_url=ollama.proxy_url or ollama.url,
        ollama_token=ollama.token,
        people=options.people.read_text(),
        operator_image=images["operator"].ref,
        worker_image=images["worker-demo"].ref,
        host_services=(
            HostService.of("PostgreSQL", postgres.url, postgres.log),
            HostService.of("Redis", redis.url, redis.log),
            HostService.of("Ollama", ollama.url, ollama.log),
        ),
    )
