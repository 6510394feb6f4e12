"""A whole control plane whose nodes are KWOK's: pods are scheduled, and run and get ready without being anywhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.integration.apiserver import ApiServer, api_server, free_port

from callfleet.parts.api import program

NODES = 20
# As a cluster is tuned for many Jobs: their controllers' own limits are not what is compared.
_CLIENT = ("--kube-api-qps=2000", "--kube-api-burst=4000", "--leader-elect=false", "--secure-port=0")
_JOBS = ("--concurrent-job-syncs=50", "--concurrent-ttl-after-finished-syncs=50")
# Debian's etcd is too old to stream lists as watches: clients that wait for it would be late.
_ENVIRONMENT = {"KUBE_FEATURE_WatchListClient": "false"}
_CAPACITY = {"cpu": "1000", "memory": "1Ti", "pods": "10000", "nvidia.com/gpu": "1000"}


@contextmanager
def control_plane(home: Path, part: str) -> Iterator[ApiServer]:
    """API server and etcd, the controllers, the scheduler, and nodes that KWOK keeps; ended with the block."""
    with api_server(home, part) as server, ExitStack() as stack:
        kubeconfig = f"--kubeconfig={server.kubeconfig}"
        commands: tuple[list[str | Path], ...] = (
            [
                program(part, "kube-controller-manager"), kubeconfig, *_CLIENT, *_JOBS,
                f"--service-account-private-key-file={home / 'sa.key'}",
                # Nodes that only pretend to be there never fail, however late their heartbeats are.
                "--node-monitor-grace-period=24h",
            ],
            [program(part, "kube-scheduler"), kubeconfig, *_CLIENT],
            [program("kwok"), kubeconfig, "--manage-all-nodes=true", f"--server-address=127.0.0.1:{free_port()}"],
        )  # fmt: skip
        for command in commands:
            log = stack.enter_context((home / f"{Path(command[0]).name}.log").open("wb"))
            argv = [str(word) for word in command]
            process = stack.enter_context(subprocess.Popen(argv, stdout=log, stderr=log, env=os.environ | _ENVIRONMENT))
            stack.callback(process.kill)
        for index in range(NODES):
            server.request("POST", "/api/v1/nodes", _node(f"kwok-{index}"))
        yield server


def _node(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": _CAPACITY, "allocatable": _CAPACITY},
    }
