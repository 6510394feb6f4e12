"""What the supervisor runs, in which order: pure command lines of a layout, addresses and programs."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from callfleet.cluster.config import API_PORT
from callfleet.cluster.layout import Layout
from callfleet.cluster.network import Block
from callfleet.cluster.programs import Programs

HERE = Path(__file__).resolve().parent
ETCD_URL = "http://127.0.0.1:2379"


@dataclass(frozen=True)
class Component:
    """A program of the cluster. `ready`: `tcp:HOST:PORT`, `unix:PATH` or `https:URL`; waited for if given.

    `once`: it must end with 0 before the next component starts.
    """

    name: str
    argv: Sequence[str]
    log: str
    ready: str | None = None
    once: bool = False


@dataclass(frozen=True)
class Spec:
    """The supervisor's orders; see `supervisor.py` for what it does with each."""

    run: str
    ca: str
    cgroup: str
    ends_with_owner: bool
    components: Sequence[Component]
    tmpfs: Sequence[str] = ("/run", "/var/log", "/var/lib/cni")
    # The kubelet wants these, and would write them into the host's kernel: it sees files of ours instead.
    pretended_sysctls: dict[str, str] = field(
        default_factory=lambda: {
            "vm/overcommit_memory": "1",
            "vm/panic_on_oom": "0",
            "kernel/panic": "10",
            "kernel/panic_on_oops": "1",
            "kernel/keys/root_maxkeys": "1000000",
            "kernel/keys/root_maxbytes": "25000000",
        }
    )
    # These belong to the cluster's own network namespace.
    sysctls: dict[str, str] = field(default_factory=lambda: {"net/ipv4/ip_forward": "1"})

    def as_json(self) -> dict[str, Any]:
        """A plain structure for the spec file."""
        return asdict(self)


def all_components(layout: Layout, block: Block, programs: Programs, gpus: int) -> list[Component]:
    """Every component in starting order."""
    return [
        etcd(layout, programs),
        purge(layout, programs),
        containerd(layout, programs),
        apiserver(layout, block, programs),
        controller_manager(layout, block, programs),
        scheduler(layout, programs),
        kubelet(layout, block, programs),
        proxy(layout, programs),
        coredns(layout, programs),
        pretend_gpu(layout, block, gpus),
    ]


def _component(layout: Layout, name: str, argv: Sequence[str], **more: Any) -> Component:
    return Component(name, [str(word) for word in argv], str(layout.logs / f"{name}.log"), **more)


def etcd(layout: Layout, programs: Programs) -> Component:
    """The store; nothing in it outlives the cluster, so it never waits for the disk."""
    argv = [f"{programs.etcd}", "--unsafe-no-fsync", "--data-dir", f"{layout.run}/etcd", "--log-level", "warn"]
    argv += ["--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL]
    argv += ["--listen-peer-urls", "http://127.0.0.1:2380"]
    return _component(layout, "etcd", argv, ready="tcp:127.0.0.1:2379")


def purge(layout: Layout, programs: Programs) -> Component:
    """Forgets the containers of an earlier start; images stay."""
    script = HERE / "purge.py"
    argv = [sys.executable, "-I", f"{script}", f"{programs.containerd}", f"{layout.run}/containerd-purge.toml"]
    argv += [f"{programs.ctr}", f"{layout.containerd_socket}", f"{programs.pause_image}"]
    return _component(layout, "purge", argv, once=True)


def containerd(layout: Layout, programs: Programs) -> Component:
    """Runs the containers."""
    argv = [f"{programs.containerd}", "--config", f"{layout.run}/containerd.toml", "--log-level", "warn"]
    return _component(layout, "containerd", argv, ready=f"unix:{layout.containerd_socket}")


def apiserver(layout: Layout, block: Block, programs: Programs) -> Component:
    """The API: certificates only, RBAC."""
    pki = layout.pki
    flags = {
        "advertise-address": block.node,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": pki / "ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "etcd-servers": ETCD_URL,
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-client-certificate": pki / "apiserver-kubelet.crt",
        "kubelet-client-key": pki / "apiserver-kubelet.key",
        "kubelet-preferred-address-types": "InternalIP",
        "secure-port": API_PORT,
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": pki / "service-accounts.key",
        "service-account-signing-key-file": pki / "service-accounts.key",
        "service-cluster-ip-range": block.services,
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
    }
    argv = [f"{programs.kubernetes}/kube-apiserver", *_flags(flags)]
    return _component(layout, "kube-apiserver", argv, ready=f"https://{block.node}:{API_PORT}/readyz")


def controller_manager(layout: Layout, block: Block, programs: Programs) -> Component:
    """The built-in controllers."""
    flags = {
        "kubeconfig": layout.run / "kube-controller-manager.kubeconfig",
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "root-ca-file": layout.pki / "ca.crt",
        "service-account-private-key-file": layout.pki / "service-accounts.key",
        "service-cluster-ip-range": block.services,
        "use-service-account-credentials": "true",
    }
    argv = [f"{programs.kubernetes}/kube-controller-manager", *_flags(flags)]
    return _component(layout, "kube-controller-manager", argv)


def scheduler(layout: Layout, programs: Programs) -> Component:
    """Places pods."""
    flags = {
        "kubeconfig": layout.run / "kube-scheduler.kubeconfig",
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
    }
    return _component(layout, "kube-scheduler", [f"{programs.kubernetes}/kube-scheduler", *_flags(flags)])


def kubelet(layout: Layout, block: Block, programs: Programs) -> Component:
    """The node's agent."""
    flags = {
        "config": layout.run / "kubelet.yaml",
        "kubeconfig": layout.run / "kubelet.kubeconfig",
        "hostname-override": layout.name,
        "node-ip": block.node,
        "root-dir": layout.run / "kubelet",
        "cert-dir": layout.run / "kubelet" / "certificates",
    }
    return _component(layout, "kubelet", [f"{programs.kubernetes}/kubelet", *_flags(flags)])


def proxy(layout: Layout, programs: Programs) -> Component:
    """Serves ClusterIPs."""
    argv = [f"{programs.kubernetes}/kube-proxy", f"--config={layout.run / 'kube-proxy.yaml'}"]
    return _component(layout, "kube-proxy", argv)


def coredns(layout: Layout, programs: Programs) -> Component:
    """The cluster's names."""
    return _component(layout, "coredns", [f"{programs.coredns}", "-conf", f"{layout.run / 'Corefile'}"])


def pretend_gpu(layout: Layout, block: Block, gpus: int) -> Component:
    """Keeps `nvidia.com/gpu` on the node's status, for the scheduler to count."""
    argv = [sys.executable, "-I", f"{HERE / 'pretend_gpu.py'}", f"https://{block.node}:{API_PORT}"]
    argv += [layout.name, str(gpus), f"{layout.pki}"]
    return _component(layout, "pretend-gpu", argv)


def _flags(flags: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
