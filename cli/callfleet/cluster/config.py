"""The configuration files of a local cluster, as pure text of its layout and addresses."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from callfleet.cluster.layout import Layout
from callfleet.cluster.network import Block
from callfleet.cluster.programs import Programs
from callfleet.parts.baseimage import PAUSE_NAME

CLUSTER_DOMAIN = "cluster.local"
API_PORT = 6443
DNS_PORT = 53


def containerd_config(layout: Layout, programs: Programs, *, cri: bool) -> str:
    """containerd's TOML. Without `cri` it only serves its store, to clean it before pods start."""
    disabled = '"io.containerd.internal.v1.opt"' + ("" if cri else ', "io.containerd.grpc.v1.cri"')
    return f"""\
version = 2
root = "{layout.images}"
state = "/run/callfleet-containerd"
disabled_plugins = [{disabled}]

[grpc]
  address = "{layout.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_NAME}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{programs.cni}"
  conf_dir = "{layout.run / "cni"}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def cni_config(layout: Layout, block: Block) -> str:
    """The pods' network: a bridge, addresses from the block, host ports."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(layout.run / "ipam"),
            "ranges": [[{"subnet": str(block.pods)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "callfleet", "plugins": [bridge, portmap]}, indent=1)


def kubelet_config(layout: Layout, block: Block) -> str:
    """The kubelet's YAML: cgroupfs, no eviction by disk, no image collection (images are loaded by hand)."""
    return _yaml(
        "kubelet.config.k8s.io/v1beta1",
        "KubeletConfiguration",
        {
            "address": str(block.node),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(layout.pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(layout.pki / "kubelet.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{layout.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
            "clusterDNS": [str(block.node)],
            "clusterDomain": CLUSTER_DOMAIN,
            "resolvConf": str(layout.run / "resolv.conf"),
            "podLogsDir": str(layout.logs / "pods"),
            "volumePluginDir": str(layout.run / "volume-plugins"),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "serializeImagePulls": False,
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "10s",
            "maxPods": 110,
        },
    )


def proxy_config(layout: Layout, block: Block) -> str:
    """kube-proxy's YAML: iptables; the connection table's size belongs to the host and is left alone."""
    return _yaml(
        "kubeproxy.config.k8s.io/v1alpha1",
        "KubeProxyConfiguration",
        {
            "mode": "iptables",
            "bindAddress": str(block.node),
            "hostnameOverride": layout.name,
            "clusterCIDR": str(block.pods),
            "clientConnection": {"kubeconfig": str(layout.run / "kube-proxy.kubeconfig")},
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            "iptables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
        },
    )


def corefile(layout: Layout, block: Block) -> str:
    """CoreDNS: the cluster's names; any other name does not exist, for the cluster has no way out."""
    return f"""\
{CLUSTER_DOMAIN}:{DNS_PORT} in-addr.arpa:{DNS_PORT} {{
    bind {block.node}
    errors
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {layout.run / "coredns.kubeconfig"}
        pods insecure
        ttl 5
    }}
    loadbalance
}}
.:{DNS_PORT} {{
    bind {block.node}
    errors
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""


def _yaml(version: str, kind: str, fields: Mapping[str, Any]) -> str:
    return yaml.safe_dump({"apiVersion": version, "kind": kind, **fields}, sort_keys=False)
