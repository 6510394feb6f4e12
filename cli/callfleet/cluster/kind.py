"""kind, where a container engine lets it work."""

import ipaddress
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from callfleet.cluster.errors import ClusterError, ProviderUnavailableError
from callfleet.cluster.handle import ClusterHandle
from callfleet.cluster.layout import Layout
from callfleet.cluster.ocilayout import stream_layout
from callfleet.cluster.pretend_gpu import patch_for
from callfleet.parts.api import program
from callfleet.parts.debian import which

CREATE_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 60.0
LOAD_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class KindLoader:
    """Loads archives with `kind load image-archive`."""

    name: str

    def load(self, archive: Path) -> None:
        """Load the archive, or a layout folder as an archive, into kind's node."""
        if archive.is_dir():
            with tempfile.NamedTemporaryFile(suffix=".tar") as scratch:
                stream_layout(archive, (), scratch.file)
                scratch.flush()
                self._load_file(Path(scratch.name))
        else:
            self._load_file(archive)

    def check(self) -> None:
        """Raises ClusterError when kind no longer knows the cluster."""
        if self.name not in _run(["kind", "get", "clusters"], COMMAND_TIMEOUT_S).stdout.split():
            raise ClusterError(f"the kind cluster {self.name} has gone")

    def _load_file(self, archive: Path) -> None:
        done = _run(["kind", "load", "image-archive", str(archive), "--name", self.name], LOAD_TIMEOUT_S)
        if done.returncode != 0:
            raise ClusterError(f"kind could not load {archive}: {done.stderr.strip()[-400:]}")


def kubeconfig_path(layout: Layout) -> Path:
    """Where a kind cluster's kubeconfig is kept; its existence says that kind provides this cluster."""
    return layout.home / "kind.kubeconfig"


def up(layout: Layout, gpus: int) -> ClusterHandle:
    """A kind cluster of that name. Raises ProviderUnavailableError, saying why kind does not work here."""
    if which("kind") is None:
        raise ProviderUnavailableError("kind is not on PATH")
    path = kubeconfig_path(layout)
    layout.home.mkdir(parents=True, exist_ok=True)
    # Before anything is created: whoever is stopped half-way finds what there is to delete.
    path.touch(0o600)
    try:
        if layout.name in _run(["kind", "get", "clusters"], COMMAND_TIMEOUT_S).stdout.split():
            argv = ["kind", "export", "kubeconfig", "--name", layout.name, "--kubeconfig", str(path)]
        else:
            argv = ["kind", "create", "cluster", "--name", layout.name, "--kubeconfig", str(path), "--wait", "110s"]
        done = _run(argv, CREATE_TIMEOUT_S)
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = f"it was not done after {CREATE_TIMEOUT_S:.0f} s"
    if reason:
        down(layout)
        raise ProviderUnavailableError(f"`kind create cluster` failed: {reason}")
    context = f"kind-{layout.name}"
    _add_gpus(path, context, f"{layout.name}-control-plane", gpus)
    loader = KindLoader(layout.name)
    return ClusterHandle(layout.name, "kind", path, context, _gateway(), None, loader)


def down(layout: Layout) -> bool:
    """Delete the kind cluster, if there is one; True if there was."""
    path = kubeconfig_path(layout)
    if which("kind") is None or not path.exists():
        return False
    _run(["kind", "delete", "cluster", "--name", layout.name, "--kubeconfig", str(path)], COMMAND_TIMEOUT_S)
    path.unlink(missing_ok=True)
    return True


def gateway_in(text: str) -> str | None:
    """The first IPv4 gateway in the JSON of `docker network inspect kind`."""
    for network in json.loads(text or "[]"):
        for pool in network.get("IPAM", {}).get("Config") or []:
            gateway = pool.get("Gateway", "")
            if gateway and ipaddress.ip_address(gateway).version == 4:
                return str(gateway)
    return None


def _gateway() -> str | None:
    for engine in ("docker", "podman"):
        if which(engine):
            done = _run([engine, "network", "inspect", "kind"], COMMAND_TIMEOUT_S)
            if done.returncode == 0:
                return gateway_in(done.stdout)
    return None


def _add_gpus(kubeconfig: Path, context: str, node: str, gpus: int) -> None:
    patch = json.dumps(patch_for({}, gpus))
    argv = [str(program("kubectl")), "--kubeconfig", str(kubeconfig), "--context", context]
    argv += ["patch", "node", node, "--subresource=status", "--type=json", "-p", patch]
    done = _run(argv, COMMAND_TIMEOUT_S)
    if done.returncode != 0:
        raise ClusterError(f"the pretend GPU could not be added: {done.stderr.strip()}")


def _run(argv: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        start_new_session=True,  # a second Ctrl-C must not end what cleans up
    )
