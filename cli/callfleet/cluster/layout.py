"""Where one local cluster keeps its files."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from callfleet.cluster.errors import ClusterError
from callfleet.parts.paths import cache_root

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
# The kernel's limit for the path of a Unix socket is 107 bytes.
LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True)
class Layout:
    """The folders of the cluster `name`. `run` lives for one start; `images` stays for the next."""

    name: str

    @property
    def home(self) -> Path:
        """Everything of this cluster."""
        return cache_root() / "clusters" / self.name

    @property
    def run(self) -> Path:
        """State of the running cluster: keys, sockets, etcd's data, the kubelet's folder."""
        return self.home / "run"

    @property
    def images(self) -> Path:
        """containerd's content: images survive a stop."""
        return self.home / "containerd"

    @property
    def logs(self) -> Path:
        """One log a component; kept until the next start."""
        return self.home / "logs"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.run / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.run / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """containerd's socket, reachable from the host."""
        return self.run / "containerd.sock"

    @property
    def launcher_file(self) -> Path:
        """Process ids with start times, written by the launcher."""
        return self.run / "launcher.json"

    @property
    def owner_file(self) -> Path:
        """The process that the cluster ends with; absent when it ends with none."""
        return self.run / "owner.json"

    @property
    def status_file(self) -> Path:
        """What the supervisor says about its components."""
        return self.run / "status.json"

    @property
    def spec_file(self) -> Path:
        """What the supervisor runs."""
        return self.run / "spec.json"

    @property
    def cgroup(self) -> str:
        """The name of the cluster's control group."""
        return f"callfleet-{self.name}"

    @property
    def device(self) -> str:
        """The host's end of the link; interface names have at most 15 characters."""
        return f"cf-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"


def layout_for(name: str) -> Layout:
    """The layout of a cluster. Raises ClusterError on a name Kubernetes would refuse or too long a path."""
    if not NAME_PATTERN.fullmatch(name):
        raise ClusterError(f"{name!r} is not a cluster name: use up to 32 of a-z, 0-9 and -")
    layout = Layout(name)
    if len(str(layout.containerd_socket)) > LONGEST_SOCKET_PATH:
        raise ClusterError(f"{layout.run} is too long a path for sockets; set XDG_CACHE_HOME to a shorter one")
    return layout
