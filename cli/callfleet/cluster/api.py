"""A cluster for the demo, the tests and people: `up` finds or starts one, `down` ends it.

Synchronous on purpose: everything here waits for processes; call it through `asyncio.to_thread` where a loop
runs. A session fixture is `with cluster("callfleet-tests") as handle: yield handle`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from callfleet.cluster import kind, local
from callfleet.cluster.errors import ClusterError, ProviderUnavailableError
from callfleet.cluster.handle import ClusterHandle, GivenLoader
from callfleet.cluster.layout import Layout, layout_for
from callfleet.cluster.localimages import LocalLoader
from callfleet.cluster.network import Block
from callfleet.cluster.programs import find_programs
from callfleet.parts.api import ensure
from callfleet.parts.locks import file_lock
from callfleet.parts.paths import lock_path
from callfleet.parts.progress import Step
from callfleet.parts.reporter import Progress

DEFAULT_NAME = "callfleet"
DEFAULT_GPUS = 4
PARTS = ("debian", "k8s", "coredns", "kubectl", "pause")
LOCK_TIMEOUT_S = 300.0
START_EXPECTED_S = 12.0
PROVIDER_VARIABLE = "CALLFLEET_CLUSTER"

__all__ = ["DEFAULT_NAME", "PARTS", "ClusterHandle", "cluster", "down", "find", "up"]


def up(
    name: str = DEFAULT_NAME,
    progress: Progress | None = None,
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    gpus: int = DEFAULT_GPUS,
    optimised: bool = False,
    ends_with_owner: bool = False,
) -> ClusterHandle:
    """The given cluster, else kind's, else a local one that is started (or is running already).

    `gpus`: pretend GPUs on the node. `ends_with_owner`: a local cluster ends with this process, even by kill -9.
    `optimised`: Kubernetes with compiler optimisation, for benchmarks. Raises ClusterError or PartError.
    """
    if kubeconfig is not None or context is not None:
        return _given(kubeconfig, context)
    if progress is None:
        with Progress("Starting a cluster") as own:
            return up(name, own, gpus=gpus, optimised=optimised, ends_with_owner=ends_with_owner)
    layout = layout_for(name)
    with file_lock(lock_path(f"cluster-{name}"), LOCK_TIMEOUT_S):
        running = _running(layout)
        if running is not None:
            return running
        provider = wanted_provider()
        if provider != "local":
            try:
                return kind.up(layout, gpus)
            except ProviderUnavailableError as reason:
                if provider == "kind":
                    raise
                progress.say(f"Not using kind: {reason}. Starting a local node instead.")
        return _start_local(layout, progress, gpus, optimised=optimised, ends_with_owner=ends_with_owner)


def wanted_provider() -> str | None:
    """`kind` or `local` where the environment asks for one (`CALLFLEET_CLUSTER`). Raises ClusterError."""
    provider = os.environ.get(PROVIDER_VARIABLE) or None
    if provider not in {None, "kind", "local"}:
        raise ClusterError(f"{PROVIDER_VARIABLE} is {provider!r}: set it to kind or local, or not at all")
    return provider


def down(name: str = DEFAULT_NAME, *, purge: bool = False) -> bool:
    """End the cluster of that name and whatever a killed run left of it; True if something ran.

    `purge`: its images and logs go too.
    """
    layout = layout_for(name)
    with file_lock(lock_path(f"cluster-{name}"), LOCK_TIMEOUT_S):
        by_kind = kind.down(layout)
        ran = local.stop(layout) or by_kind
        if purge:
            shutil.rmtree(layout.home, ignore_errors=True)
        return ran


def find(name: str = DEFAULT_NAME) -> ClusterHandle | None:
    """The handle of a running cluster, or None."""
    return _running(layout_for(name))


@contextmanager
def cluster(
    name: str = DEFAULT_NAME, progress: Progress | None = None, *, gpus: int = DEFAULT_GPUS
) -> Iterator[ClusterHandle]:
    """A cluster for the block; it ends with the block, and with this process however it ends."""
    handle = up(name, progress, gpus=gpus, ends_with_owner=True)
    try:
        yield handle
    finally:
        down(name)


def _start_local(
    layout: Layout, progress: Progress, gpus: int, *, optimised: bool, ends_with_owner: bool
) -> ClusterHandle:
    key = f"cluster-{layout.name}"
    progress.add(Step(key, f"Kubernetes node {layout.name}", START_EXPECTED_S))
    parts = [*PARTS, "k8s-optimised"] if optimised else PARTS
    ensure(parts, progress)
    with progress.step(key):
        try:
            block = local.start(layout, find_programs(optimised=optimised), gpus, ends_with_owner=ends_with_owner)
            local.wait_ready(layout, block, gpus)
        except BaseException:
            local.stop(layout)
            raise
    return _local_handle(layout, block)


def _running(layout: Layout) -> ClusterHandle | None:
    if local.is_running(layout) and local.status(layout)["phase"] == "running":
        return _local_handle(layout, local.block_of(layout))
    return None


def _local_handle(layout: Layout, block: Block) -> ClusterHandle:
    return ClusterHandle(
        name=layout.name,
        provider="local",
        kubeconfig=layout.kubeconfig,
        context=f"callfleet-{layout.name}",
        bridge_address=str(block.host),
        log_dir=layout.logs,
        loader=LocalLoader(layout),
    )


def _given(kubeconfig: Path | None, context: str | None) -> ClusterHandle:
    path = kubeconfig or Path.home() / ".kube" / "config"
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ClusterError(f"{path} cannot be read as a kubeconfig: {error}") from error
    names = [entry["name"] for entry in content.get("contexts") or []]
    chosen = context or content.get("current-context")
    if chosen not in names:
        raise ClusterError(f"{path} has no context {chosen!r}; it has: {', '.join(names) or 'none'}")
    return ClusterHandle(chosen, "given", path, chosen, None, None, GivenLoader())
