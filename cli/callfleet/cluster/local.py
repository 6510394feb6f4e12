"""One Kubernetes node on this machine, made of its own parts, in namespaces of its own."""

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import httpx

from callfleet.cluster.config import API_PORT
from callfleet.cluster.errors import ClusterError
from callfleet.cluster.files import write_files
from callfleet.cluster.layout import Layout
from callfleet.cluster.leftovers import clean, end_processes, owner_of, recorded
from callfleet.cluster.network import Block, choose_block, connect, taken_networks
from callfleet.cluster.pretend_gpu import patch_for
from callfleet.cluster.programs import Programs
from callfleet.cluster.supervisor import start_ticks
from callfleet.parts.locks import file_lock
from callfleet.parts.paths import lock_path

SUPERVISOR = Path(__file__).with_name("supervisor.py")
LAUNCH_TIMEOUT_S = 15.0
NETWORK_LOCK_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 180.0
POLL_S = 0.1
# The launchers of clusters that end with this process: the pipe to their standard input must stay open.
_OWNED: dict[str, subprocess.Popen[bytes]] = {}


def start(layout: Layout, programs: Programs, gpus: int, *, ends_with_owner: bool) -> Block:
    """Start the node's processes and join its network; `wait_ready` follows. Raises ClusterError.

    `ends_with_owner`: the cluster ends when this process does, however it ends.
    """
    _require_root()
    stop(layout)
    # Two clusters that start at once must not choose the same addresses.
    with file_lock(lock_path("cluster-network"), NETWORK_LOCK_TIMEOUT_S):
        block = choose_block(taken_networks())
        write_files(layout, block, programs, gpus, ends_with_owner=ends_with_owner)
        process = _launch(layout, keep_stdin=ends_with_owner)
        if ends_with_owner:
            _OWNED[layout.name] = process
            owner = {"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}
            layout.owner_file.write_text(json.dumps({"owner": owner}))
        connect(block, layout.device, _wait_for_init(layout, process))
    (layout.run / "network-ready").touch()
    return block


def stop(layout: Layout) -> bool:
    """End the cluster and remove what is left of it; True if it ran. Images and logs stay."""
    ran = end_processes(layout)
    owned = _OWNED.pop(layout.name, None)
    if owned is not None:
        owned.communicate()
    if layout.run.exists():
        _require_root()
        clean(layout)
    return ran


def is_running(layout: Layout) -> bool:
    """Whether process 1 of the cluster is alive, and so is the owner that it ends with, if it has one."""
    init, owner = recorded(layout).get("init"), owner_of(layout)
    return init is not None and init.is_alive() and (owner is None or owner.is_alive())


def block_of(layout: Layout) -> Block:
    """The addresses of the running cluster. Raises ClusterError when there is none."""
    try:
        return Block(IPv4Network((layout.run / "block").read_text().strip()))
    except FileNotFoundError as error:
        raise ClusterError(f"cluster {layout.name} is not running: `callfleet cluster up` starts it") from error


def status(layout: Layout) -> dict[str, Any]:
    """The supervisor's report: `phase`, `error`, and each component's log and exit code."""
    try:
        report: dict[str, Any] = json.loads(layout.status_file.read_text())
    except FileNotFoundError:
        report = {"phase": "starting", "error": "", "components": {}}
    return report


def check_alive(layout: Layout) -> None:
    """Raises ClusterError, naming the component and its log, when something of the cluster has ended."""
    report = status(layout)
    if report["phase"] == "failed":
        raise ClusterError(report["error"])
    if not is_running(layout):
        raise ClusterError(f"the cluster's supervisor has ended; its log is {layout.logs / 'supervisor.log'}")


def wait_ready(layout: Layout, block: Block, gpus: int) -> None:
    """Until the node is Ready, counts its GPUs, and pods can be created. Raises ClusterError."""
    context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
    context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    server = f"https://{block.node}:{API_PORT}"
    deadline = time.monotonic() + READY_TIMEOUT_S
    with httpx.Client(base_url=server, verify=context, timeout=5.0, trust_env=False) as client:
        for check, what in _readiness(client, layout.name, gpus):
            while not _true(check):
                check_alive(layout)
                if time.monotonic() > deadline:
                    raise ClusterError(f"{what} took over {READY_TIMEOUT_S:.0f} s; the logs are in {layout.logs}")
                time.sleep(POLL_S)


def _readiness(client: httpx.Client, node: str, gpus: int) -> list[tuple[Callable[[], bool], str]]:
    def node_ready() -> bool:
        answer = client.get(f"/api/v1/nodes/{node}")
        if answer.status_code != httpx.codes.OK:
            return False
        state = answer.json()["status"]
        conditions = {item["type"]: item["status"] for item in state.get("conditions", [])}
        return conditions.get("Ready") == "True" and not patch_for(state, gpus)

    def account_there() -> bool:
        answer = client.get("/api/v1/namespaces/default/serviceaccounts/default")
        return answer.status_code == httpx.codes.OK

    return [(node_ready, "making the node ready"), (account_there, "making the default service account")]


def _true(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except httpx.TransportError:
        return False


def _require_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError("a local cluster needs root: use sudo, or give --context and --kubeconfig")


def _launch(layout: Layout, *, keep_stdin: bool) -> subprocess.Popen[bytes]:
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    env = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    with (layout.logs / "supervisor.log").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-I", str(SUPERVISOR), str(layout.spec_file)],
            stdin=subprocess.PIPE if keep_stdin else subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/",
            start_new_session=True,
        )


def _wait_for_init(layout: Layout, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + LAUNCH_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            text = (layout.logs / "supervisor.log").read_text().strip()[-400:]
            raise ClusterError(f"this machine does not let us make namespaces: {text}")
        init = recorded(layout).get("init")
        if init is not None:
            return init.pid
        time.sleep(POLL_S / 4)
    raise ClusterError(f"the cluster's supervisor did not start; its log is {layout.logs / 'supervisor.log'}")
