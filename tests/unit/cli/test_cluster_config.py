"""The local cluster's addresses, certificates and configuration, without starting one."""

import datetime as dt
import ipaddress
import json
import os
import tomllib
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from callfleet.cluster import config
from callfleet.cluster.api import up
from callfleet.cluster.components import Spec, all_components
from callfleet.cluster.errors import ClusterError
from callfleet.cluster.kind import gateway_in
from callfleet.cluster.layout import layout_for
from callfleet.cluster.leftovers import ProcessId
from callfleet.cluster.localimages import listed_images, superseded
from callfleet.cluster.network import POOL, Block, choose_block, networks_in
from callfleet.cluster.pki import Authority
from callfleet.cluster.pretend_gpu import patch_for
from callfleet.cluster.programs import Programs
from callfleet.cluster.supervisor import start_ticks

BLOCK = Block(IPv4Network("10.200.4.0/22"))
PROGRAMS = Programs(*(Path(f"/parts/{name}") for name in ("k8s", "coredns", "etcd", "c", "ctr", "cni", "pause")))


def test_the_first_block_that_nothing_uses_is_chosen() -> None:
    taken = [IPv4Network("10.200.0.0/24"), IPv4Network("10.200.5.7/32"), IPv4Network("192.168.0.0/16")]
    assert choose_block(taken).network == IPv4Network("10.200.8.0/22")


def test_the_default_route_takes_nothing() -> None:
    assert choose_block([IPv4Network("0.0.0.0/0")]).network.subnet_of(POOL)


def test_a_machine_with_no_free_block_is_told_so() -> None:
    with pytest.raises(ClusterError, match="in use"):
        choose_block([IPv4Network("10.0.0.0/8")])


def test_link_pods_and_services_do_not_overlap() -> None:
    parts = [BLOCK.link, BLOCK.pods, BLOCK.services]
    assert all(part.subnet_of(BLOCK.network) for part in parts)
    assert not any(a.overlaps(b) for a in parts for b in parts if a is not b)
    assert (BLOCK.host, BLOCK.node) == (BLOCK.link[1], BLOCK.link[2])


def test_networks_are_read_from_what_ip_prints() -> None:
    addresses = json.dumps([{"addr_info": [{"local": "192.0.2.2", "prefixlen": 24}]}, {}])
    routes = json.dumps([{"dst": "default"}, {"dst": "10.200.0.0/22"}, {"dst": "192.0.2.2"}])
    expected = {"192.0.2.0/24", "10.200.0.0/22", "192.0.2.2/32"}
    assert {str(network) for network in networks_in(addresses, routes)} == expected


@pytest.mark.parametrize("name", ["", "Tests", "a_b", "-a", "a" * 33, "../x"])
def test_names_that_kubernetes_would_refuse_are_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="not a cluster name"):
        layout_for(name)


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("x" * 90)))
    with pytest.raises(ClusterError, match="XDG_CACHE_HOME"):
        layout_for("tests")


def test_the_api_servers_certificate_is_signed_and_names_every_way_to_reach_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    pair = authority.issue("apiserver", "kube-apiserver", hosts=["kubernetes", "10.200.4.2"])
    cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.cert_path.read_bytes()))
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.200.4.2")]
    assert pair.key.stat().st_mode & 0o077 == 0


def test_groups_become_organisations_because_kubernetes_reads_them_so(tmp_path: Path) -> None:
    pair = Authority(tmp_path, dt.datetime.now(dt.UTC)).issue("admin", "me", groups=["system:masters"])
    subject = x509.load_pem_x509_certificate(pair.cert.read_bytes()).subject
    assert subject.rfc4514_string() == "CN=me,O=system:masters"


def test_the_kubelet_asks_the_clusters_dns_and_uses_its_own_control_group() -> None:
    kubelet = yaml.safe_load(config.kubelet_config(layout_for("tests"), BLOCK))
    assert kubelet["clusterDNS"] == ["10.200.4.2"]
    assert kubelet["cgroupRoot"] == "/callfleet-tests"
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}


def test_names_outside_the_cluster_do_not_exist() -> None:
    text = config.corefile(layout_for("tests"), BLOCK)
    inside, outside = text.split("\n.:53 {")
    assert "kubernetes cluster.local" in inside
    assert "rcode NXDOMAIN" in outside
    assert "forward" not in text


def test_only_the_store_cleaner_runs_containerd_without_kubernetes() -> None:
    layout = layout_for("tests")
    disabled = [
        tomllib.loads(config.containerd_config(layout, PROGRAMS, cri=cri))["disabled_plugins"] for cri in (True, False)
    ]
    assert ["io.containerd.grpc.v1.cri" in plugins for plugins in disabled] == [False, True]


def test_components_start_in_order_and_each_has_its_own_log() -> None:
    layout = layout_for("tests")
    parts = all_components(layout, BLOCK, PROGRAMS, gpus=4)
    names = [part.name for part in parts]
    assert names.index("etcd") < names.index("kube-apiserver") < names.index("kubelet")
    assert names.index("purge") < names.index("containerd")
    assert len({part.log for part in parts}) == len(parts)
    assert all(isinstance(word, str) for part in parts for word in part.argv)


def test_the_supervisors_orders_survive_json() -> None:
    layout = layout_for("tests")
    parts = all_components(layout, BLOCK, PROGRAMS, gpus=4)
    spec = Spec("run", "ca", "group", ends_with_owner=True, components=parts).as_json()
    assert json.loads(json.dumps(spec))["components"][0]["name"] == "etcd"


def test_a_node_that_counts_its_gpus_is_left_alone() -> None:
    whole = {"capacity": {"nvidia.com/gpu": "4"}, "allocatable": {"nvidia.com/gpu": "4"}}
    assert patch_for(whole, 4) == []
    half = {"capacity": {"nvidia.com/gpu": "4"}, "allocatable": {"nvidia.com/gpu": "0"}}
    expected = {"op": "add", "path": "/status/allocatable/nvidia.com~1gpu", "value": "4"}
    assert patch_for(half, 4) == [expected]


def test_a_process_id_is_not_mistaken_for_a_later_process() -> None:
    here = start_ticks(os.getpid())
    assert ProcessId(os.getpid(), here).is_alive()
    assert not ProcessId(os.getpid(), here + 1).is_alive()


def test_a_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    ticks = start_ticks(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        assert not ProcessId(pid, ticks).is_alive()
    finally:
        os.waitpid(pid, 0)


def test_images_are_read_from_ctrs_table() -> None:
    table = "REF TYPE DIGEST SIZE\nlocalhost/a:1 application/x sha256:aa 3 MiB\n"
    assert listed_images(table) == {"localhost/a:1": "sha256:aa"}


def test_kinds_bridge_is_its_ipv4_gateway() -> None:
    pools = [{"Gateway": "fc00::1"}, {"Gateway": "172.18.0.1"}]
    assert gateway_in(json.dumps([{"IPAM": {"Config": pools}}])) == "172.18.0.1"
    assert gateway_in("[]") is None


def test_a_given_cluster_is_taken_from_its_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({"contexts": [{"name": "prod"}], "current-context": "prod"}))
    handle = up(kubeconfig=path)
    assert (handle.provider, handle.context, handle.bridge_address) == ("given", "prod", None)
    with pytest.raises(ClusterError, match="push it"):
        handle.load_image(tmp_path / "image.tar")


def test_a_context_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({"contexts": [{"name": "prod"}]}))
    with pytest.raises(ClusterError, match="it has: prod"):
        up(kubeconfig=path, context="staging")


def test_an_image_is_superseded_when_another_tag_is_loaded_and_nothing_uses_it() -> None:
    tags = {"localhost/a:1": "d1", "localhost/a:2": "d2", "localhost/a:3": "d3", "localhost/b:1": "d4"}
    ids = {
        "sha256:c0": "d0",
        "sha256:c1": "d1",
        "sha256:c2": "d2",
        "sha256:c3": "d3",
        "sha256:c4": "d4",
        "sha256:c9": "d9",
    }
    containers = "CONTAINER IMAGE RUNTIME\nc1 localhost/a:2 io.containerd.runc.v2\nc2 sha256:c9 io.containerd.runc.v2\n"
    assert superseded(tags | ids, ["localhost/a:3"], containers) == ["localhost/a:1", "sha256:c0", "sha256:c1"]
