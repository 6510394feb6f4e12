"""Writes what a local cluster starts from: keys, kubeconfigs, configuration files, the supervisor's orders."""

import datetime as dt
import json
import shutil

from callfleet.cluster import config
from callfleet.cluster.components import Spec, all_components
from callfleet.cluster.layout import Layout
from callfleet.cluster.network import Block
from callfleet.cluster.pki import Authority
from callfleet.cluster.programs import Programs

SYSTEM_USERS = {
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "kube-proxy": "system:kube-proxy",
}
MASTERS = "system:masters"


def write_files(layout: Layout, block: Block, programs: Programs, gpus: int, *, ends_with_owner: bool) -> None:
    """Fill the run folder of a cluster that is about to start; the previous logs go."""
    shutil.rmtree(layout.logs, ignore_errors=True)
    for folder in (layout.run, layout.logs, layout.logs / "pods", layout.images, layout.run / "cni"):
        folder.mkdir(parents=True, exist_ok=True)
    layout.run.chmod(0o700)
    _write_pki(layout, block)
    texts = {
        "containerd.toml": config.containerd_config(layout, programs, cri=True),
        "containerd-purge.toml": config.containerd_config(layout, programs, cri=False),
        "cni/10-callfleet.conflist": config.cni_config(layout, block),
        "kubelet.yaml": config.kubelet_config(layout, block),
        "kube-proxy.yaml": config.proxy_config(layout, block),
        "Corefile": config.corefile(layout, block),
        "resolv.conf": f"nameserver {block.node}\n",
        "block": f"{block.network}\n",
    }
    for name, text in texts.items():
        (layout.run / name).write_text(text)
    spec = Spec(
        run=str(layout.run),
        ca=str(layout.pki / "ca.crt"),
        cgroup=layout.cgroup,
        ends_with_owner=ends_with_owner,
        components=all_components(layout, block, programs, gpus),
    )
    layout.spec_file.write_text(json.dumps(spec.as_json(), indent=1))


def _write_pki(layout: Layout, block: Block) -> None:
    """One authority; a certificate each for the servers and for every user of the API."""
    authority = Authority(layout.pki, dt.datetime.now(dt.UTC))
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    service += [f"kubernetes.default.svc.{config.CLUSTER_DOMAIN}", str(block.first_service)]
    hosts = [*service, "localhost", "127.0.0.1", str(block.node)]
    authority.issue("apiserver", "kube-apiserver", hosts=hosts)
    authority.issue("apiserver-kubelet", "kube-apiserver-kubelet", groups=[MASTERS])
    authority.signing_key("service-accounts")
    node_user = f"system:node:{layout.name}"
    kubelet = authority.issue("kubelet", node_user, groups=["system:nodes"], hosts=[layout.name, str(block.node)])
    admin = authority.issue("admin", "callfleet-admin", groups=[MASTERS])
    server = f"https://{block.node}:{config.API_PORT}"
    users = {name: authority.issue(name, user) for name, user in SYSTEM_USERS.items()}
    users |= {"kubelet": kubelet, "coredns": admin}
    for name, pair in users.items():
        authority.kubeconfig(layout.run / f"{name}.kubeconfig", pair, server, layout.name)
    authority.kubeconfig(layout.kubeconfig, admin, server, f"callfleet-{layout.name}")
