"""Brings everything up, lets a campaign run until nothing more can happen, and sums up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from callfleet import hostservices
from callfleet.cluster import api as cluster_api
from callfleet.cluster.handle import ClusterHandle
from callfleet.demo.show import Narrator
from callfleet.demo.summary import is_over, read_facts, summarise
from callfleet.images import build
from callfleet.installation import HostService, Installation, InstallError, Settings, installation_databases, installed
from callfleet.parts.api import ensure
from callfleet.parts.paths import log_home
from callfleet.parts.progress import Step
from callfleet.parts.reporter import Progress

NAMESPACE = "demo"
LONGEST_S = 15 * 60
POLL_S = 1.0
CLUSTER = "callfleet-demo"
# The carrier's own categories for what connects a call (Usage Records).
USAGE_PATH = "/2010-04-01/Accounts/{account}/Usage/Records.json"


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
def everything_up(options: DemoOptions, console: Console) -> Iterator[Installation]:
    """Parts, images, cluster, host services and the chart, each a step that is listed from the start."""
    with ExitStack() as stack:
        with Progress("Setting CallFleet up", console=console) as progress:
            ensure(progress=progress)
            images = build(progress=progress)
            cluster = stack.enter_context(_cluster(options, progress))
            for step in (
                Step("images-load", "Images into the cluster", 25),
                Step("host", "PostgreSQL, Redis and Ollama on this machine", 10),
                Step("install", "CallFleet by its chart", 40),
            ):
                progress.add(step)
            with progress.step("images-load"):
                for image in images.values():
                    cluster.load_image(image.layout)
            bridge = cluster.bridge_address
            listen = ("127.0.0.1",) if bridge is None else ("127.0.0.1", bridge)
            with progress.step("host"):
                postgres = stack.enter_context(hostservices.postgres(listen, options.database_url))
                redis = stack.enter_context(hostservices.redis(listen, options.redis_url))
                ollama = stack.enter_context(hostservices.ollama(bridge, options.ollama_url))
                databases = stack.enter_context(installation_databases(postgres.url))
            own_postgres = options.database_url is None
            settings = Settings(
                databases=databases.at(bridge if own_postgres else None),
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
            with progress.step("install"):
                installation = stack.enter_context(installed(cluster, settings, log_home() / "demo"))
        yield installation


@contextmanager
def _cluster(options: DemoOptions, progress: Progress) -> Iterator[ClusterHandle]:
    given = options.kubeconfig is not None or options.context is not None
    try:
        yield cluster_api.up(
            CLUSTER, progress, kubeconfig=options.kubeconfig, context=options.context, ends_with_owner=True
        )
    finally:
        if not given:
            cluster_api.down(CLUSTER)


@contextmanager
def run_demo(options: DemoOptions, console: Console, started_at: datetime) -> Iterator[dict[str, Any]]:
    """Yields the summary while everything is still up, so that the caller may keep it."""
    check_input(options)
    with everything_up(options, console) as installation:
        ensure_namespace(installation, NAMESPACE)
        console.print(f"kubectl apply -n {NAMESPACE} -f {options.campaign}", highlight=False)
        installation.kubectl("apply", "-n", NAMESPACE, "-f", str(options.campaign))
        sessions = watch(installation, console)
        yield summarise(
            read_facts(installation.databases.owner, NAMESPACE),
            sessions,
            carrier_bill(installation),
            started_at,
        )


def check_input(options: DemoOptions) -> None:
    """Refuses what cannot work before anything is built. Raises InstallError."""
    for path in (options.campaign, options.people):
        if not path.is_file():
            raise InstallError(f"{path} is not a file: give the path of a YAML file")
    try:
        documents = [item for item in yaml.safe_load_all(options.campaign.read_text()) if item]
    except yaml.YAMLError as error:
        raise InstallError(f"{options.campaign} is not YAML: {error}") from error
    if not any(isinstance(item, dict) and item.get("kind") == "Campaign" for item in documents):
        raise InstallError(f"{options.campaign} holds no Campaign: see docs/samples/demo-campaign.yaml")


def ensure_namespace(installation: Installation, name: str) -> None:
    """Creates a namespace unless it exists."""
    body = yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    installation.kubectl("apply", "-f", "-", stdin=body)


def watch(installation: Installation, console: Console, longest_s: float = LONGEST_S) -> list[dict[str, Any]]:
    """Tells what happens until every session is terminal or waits for money. Raises InstallError on a dead part."""
    narrator = Narrator(console)
    deadline = time.monotonic() + longest_s
    over_since: float | None = None
    while time.monotonic() < deadline:
        installation.cluster.check()
        sessions = installation.objects("callsessions", NAMESPACE)
        narrator.tell(sessions)
        # Twice over: the last settlement may just have returned money that admits one more.
        if not is_over(sessions):
            over_since = None
        elif over_since is None:
            over_since = time.monotonic()
        elif time.monotonic() - over_since > 6.0:
            return sessions
        complaints = installation.dead_components(NAMESPACE)
        if complaints:
            raise InstallError("a component is dead:\n" + "\n".join(f"  {line}" for line in complaints))
        time.sleep(POLL_S)
    raise InstallError(f"the campaign was not over after {longest_s:.0f} s; logs: {installation.log_dir}")


def carrier_bill(installation: Installation) -> Decimal:
    """What the carrier says it has billed for calls and media streams, by its own Usage Records."""
    records = installation.simulator_get(USAGE_PATH.format(account=installation.account_sid))["usage_records"]
    wanted = {"calls-outbound", "calls-media-stream-minutes"}
    return sum((Decimal(item["price"]) for item in records if item["category"] in wanted), Decimal(0))


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)
