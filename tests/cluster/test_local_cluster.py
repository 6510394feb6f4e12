"""The local cluster does what its users rely on, and is gone when it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from callfleet.cluster import api
from callfleet.cluster.errors import ClusterError
from callfleet.cluster.handle import ClusterHandle
from callfleet.cluster.layout import layout_for
from callfleet.cluster.leftovers import recorded
from callfleet.cluster.supervisor import PRECEDENCE, cgroup_roots
from callfleet.parts.api import ensure, program
from callfleet.parts.baseimage import BaseImagePart

pytestmark = pytest.mark.cluster

NAME = "localtest"
GPUS = 2
WAIT_S = 120
KUBECTL_TIMEOUT_S = 150
# Looks up a service by its name, asks it, and says what it heard.
ASK = "import urllib.request as u; print(u.urlopen('http://{}', timeout=5).status)"


@pytest.fixture(scope="module", autouse=True)
def local() -> Iterator[None]:
    """These tests are about the local node, also where kind is at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(api.PROVIDER_VARIABLE, "local")
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterHandle]:
    ensure(["base"])
    with api.cluster(NAME, gpus=GPUS) as handle:
        handle.load_image(program("base", "base.tar"))
        yield handle
    assert leftovers(NAME) == []
    api.down(NAME, purge=True)


def kubectl(cluster: ClusterHandle, *arguments: str, given: str | None = None) -> str:
    done = subprocess.run(
        cluster.kubectl(*arguments), input=given, capture_output=True, text=True, timeout=KUBECTL_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pod(name: str, command: Sequence[str], gpus: int = 0) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "main",
        "image": BaseImagePart().ref,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "securityContext": {"runAsUser": 10001, "readOnlyRootFilesystem": True},
    }
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def apply(cluster: ClusterHandle, *objects: dict[str, Any]) -> None:
    kubectl(cluster, "apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def wait_ready(cluster: ClusterHandle, name: str) -> None:
    """Fails with what the cluster says of the pod."""
    try:
        kubectl(cluster, "wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={WAIT_S}s")
    except AssertionError as error:
        raise AssertionError(kubectl(cluster, "describe", f"pod/{name}")) from error


def processes_of(name: str) -> list[psutil.Process]:
    """Every process whose command line names the cluster's folder."""
    folder = str(layout_for(name).home) + "/"
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and any(folder in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def leftovers(name: str) -> list[str]:
    """What a cluster that has ended must not leave: processes, mounts, its link, control groups."""
    layout = layout_for(name)
    left = [f"process {process.pid}" for process in processes_of(name)]
    left += [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    left += [f"link {path}" for path in Path("/sys/class/net").iterdir() if path.name == layout.device]
    left += [f"group {root}" for root in cgroup_roots() if (root / layout.cgroup).exists()]
    return left + ([f"folder {layout.run}"] if layout.run.exists() else [])


def test_the_node_is_ready_and_counts_its_gpus(cluster: ClusterHandle) -> None:
    node = json.loads(kubectl(cluster, "get", "node", NAME, "-o", "json"))["status"]
    conditions = {item["type"]: item["status"] for item in node["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["allocatable"]["nvidia.com/gpu"] == str(GPUS)


def test_pods_have_precedence_over_what_else_the_machine_does(cluster: ClusterHandle) -> None:
    groups = [root / layout_for(NAME).cgroup for root in cgroup_roots()]
    files = {name: group / name for group in groups for name in PRECEDENCE if (group / name).is_file()}
    assert files
    assert {name: path.read_text().strip() for name, path in files.items()}.items() <= PRECEDENCE.items()


def test_a_pod_runs_is_found_by_its_services_name_and_answers(cluster: ClusterHandle) -> None:
    server = pod("server", ["python3", "-m", "http.server", "8000"])
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "hello"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    apply(cluster, server, service, pod("client", ["sleep", "600"]))
    wait_ready(cluster, "server")
    wait_ready(cluster, "client")
    address = kubectl(cluster, "get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}")
    for host in ("hello.default.svc.cluster.local", "hello", address):
        assert kubectl(cluster, "exec", "client", "--", "python3", "-c", ASK.format(host)) == "200\n"
    look_up = "import socket; print(socket.gethostbyname('kubernetes.default'))"
    found = kubectl(cluster, "exec", "client", "--", "python3", "-c", look_up).strip()
    assert found == kubectl(cluster, "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    assert '"GET / HTTP/1.1" 200' in kubectl(cluster, "logs", "server")


def test_a_pod_reaches_this_machines_services_and_nothing_else(cluster: ClusterHandle) -> None:
    apply(cluster, pod("caller", ["sleep", "600"]))
    wait_ready(cluster, "caller")
    assert cluster.bridge_address is not None
    argv = [sys.executable, "-m", "http.server", "0", "--bind", cluster.bridge_address, "--directory", os.devnull]
    with subprocess.Popen([argv[0], "-u", *argv[1:]], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split("port ")[1].split()[0]
            ask = f"import socket; socket.create_connection(('{cluster.bridge_address}', {port}), 5); print('yes')"
            assert kubectl(cluster, "exec", "caller", "--", "python3", "-c", ask) == "yes\n"
        finally:
            server.terminate()
    outside = (
        "import socket\n"
        "for target in ('192.0.2.1', 'api.twilio.com'):\n"
        "    try: socket.create_connection((target, 443), 5)\n"
        "    except OSError as error: print(error.strerror)\n"
    )
    answers = kubectl(cluster, "exec", "caller", "--", "python3", "-c", outside).splitlines()
    assert answers == ["Network is unreachable", "Name or service not known"]


def test_the_scheduler_gives_away_no_more_gpus_than_there_are(cluster: ClusterHandle) -> None:
    apply(cluster, *(pod(f"gpu-{number}", ["sleep", "600"], gpus=1) for number in range(GPUS + 1)))
    deadline = time.monotonic() + WAIT_S
    while True:
        pods = json.loads(kubectl(cluster, "get", "pods", "-o", "json"))["items"]
        ours = [item for item in pods if item["metadata"]["name"].startswith("gpu-")]
        placed = [item for item in ours if item["spec"].get("nodeName")]
        refused = [
            condition["message"]
            for item in ours
            for condition in item["status"].get("conditions", [])
            if condition.get("reason") == "Unschedulable"
        ]
        if len(placed) == GPUS and refused:
            break
        assert time.monotonic() < deadline, (len(placed), refused)
        time.sleep(0.2)
    assert "Insufficient nvidia.com/gpu" in refused[0]


def test_an_image_that_is_there_is_not_loaded_twice(cluster: ClusterHandle) -> None:
    began_s = time.monotonic()
    cluster.load_image(program("base", "base.tar"))
    assert time.monotonic() - began_s < 2.0


def test_a_second_up_of_a_running_cluster_returns_it(cluster: ClusterHandle) -> None:
    assert api.up(NAME).kubeconfig == cluster.kubeconfig
    assert api.find(NAME) == cluster


def test_a_component_that_dies_is_named_with_its_log() -> None:
    name = f"{NAME}-dying"
    try:
        handle = api.up(name, ends_with_owner=True)
        scheduler = next(p for p in processes_of(name) if "kube-scheduler" in p.cmdline()[0])
        scheduler.kill()
        scheduler.wait(10)
        time.sleep(1.0)  # the supervisor looks twenty times a second
        with pytest.raises(ClusterError, match=r"kube-scheduler ended .*logs/kube-scheduler\.log"):
            handle.check()
    finally:
        api.down(name, purge=True)
    assert leftovers(name) == []


def test_a_cluster_ends_with_a_killed_owner_and_down_removes_the_rest() -> None:
    name = f"{NAME}-orphan"
    script = (
        f"from callfleet.cluster import api; api.up({name!r}, ends_with_owner=True); print('up', flush=True); input()"
    )
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        assert len(processes_of(name)) > 5
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while processes_of(name) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(name) == []
    api.down(name, purge=True)
    assert leftovers(name) == []


def test_a_cluster_whose_supervisor_is_killed_leaves_no_process_and_starts_again() -> None:
    name = f"{NAME}-killed"
    try:
        api.up(name)
        os.kill(recorded(layout_for(name))["launcher"].pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while processes_of(name) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_of(name) == []
        began_s = time.monotonic()
        assert api.up(name).provider == "local"
        assert time.monotonic() - began_s < 30
    finally:
        api.down(name, purge=True)
    assert leftovers(name) == []
