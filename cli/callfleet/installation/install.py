"""Installs the chart and waits until everything answers; what is dead is named, with its log."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from callfleet.checkout import chart
from callfleet.cluster.handle import ClusterHandle
from callfleet.installation.databases import Databases
from callfleet.parts.api import program
from callfleet.parts.paths import cache_root
from callfleet_core.crypto import KEY_BYTES, Keyring
from callfleet_core.errors import CallFleetError
from callfleet_core.subjects import Subjects
from callfleet_operator.manifests import WORKER_UID

RELEASE = "callfleet"
READY_TIMEOUT_S = 240
COMMAND_TIMEOUT_S = 60
UNINSTALL_TIMEOUT_S = 30
HOST_SERVICE_TIMEOUT_S = 2.0


class InstallError(CallFleetError):
    """CallFleet did not come up; the text says what did not, and where its log is."""


@dataclass(frozen=True)
class HostService:
    """A server on this machine that the installation leans on; its log is None when it is not ours."""

    name: str
    host: str
    port: int
    log: Path | None

    @classmethod
    def of(cls, name: str, url: str, log: Path | None) -> HostService:
        """The server that a URL names."""
        parts = urlsplit(url)
        return cls(name, parts.hostname or "127.0.0.1", parts.port or 0, log)

    def complaint(self) -> str | None:
        """What to tell when nothing listens there any more."""
        try:
            socket.create_connection((self.host, self.port), timeout=HOST_SERVICE_TIMEOUT_S).close()
        except OSError as error:
            return f"{self.name} on port {self.port}: {error}; its log: {self.log or 'not ours'}"
        return None


@dataclass(frozen=True)
class Settings:
    """What an installation is made of. `people` is the simulator's YAML; `values` are merged over the rest."""

    databases: Databases
    redis_url: str
    ollama_url: str
    ollama_token: str | None
    people: str
    operator_image: str
    worker_image: str
    namespace: str = RELEASE
    host_services: tuple[HostService, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Installation:
    """A running CallFleet and the simulator's account, for whoever asks it for its bill."""

    cluster: ClusterHandle
    namespace: str
    databases: Databases
    account_sid: str
    auth_token: str
    log_dir: Path
    subjects: Subjects
    host_services: tuple[HostService, ...] = ()

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """kubectl's output. Raises InstallError with its complaint."""
        return run(self.cluster.kubectl(*arguments), stdin=stdin, timeout_s=timeout_s)

    def objects(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of a kind in a namespace."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-n", namespace, "-o", "json"))["items"]
        return items

    def simulator_get(self, path: str, login: tuple[str, str] | None = None) -> dict[str, Any]:
        """Asks the simulator's REST API from inside the cluster, as the installation's account or another."""
        sid, token = login or (self.account_sid, self.auth_token)
        script = (
            "import base64,sys,urllib.request as u;"
            "r=u.Request('http://127.0.0.1:8090'+sys.argv[1]);"
            "k=sys.stdin.read();"
            "r.add_header('Authorization','Basic '+base64.b64encode(k.encode()).decode());"
            "print(u.urlopen(r,timeout=20).read().decode())"
        )
        text = self.kubectl(
            "exec", "-i", "-n", self.namespace, "deploy/callfleet-simulator", "--", "python", "-c", script, path,
            stdin=f"{sid}:{token}",
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(text)
        return answer

    def dead_components(self, *namespaces: str) -> list[str]:
        """A line for each pod that keeps failing and each host service that is gone, with the place of its log.

        Looks at the release's namespace and at `namespaces`.
        """
        pods = [pod for namespace in (self.namespace, *namespaces) for pod in self.objects("pods", namespace)]
        complaints = [self._complaint(pod) for pod in pods]
        gone = [service.complaint() for service in self.host_services]
        return [line for line in (*complaints, *gone) if line is not None]

    def _complaint(self, pod: dict[str, Any]) -> str | None:
        name = pod["metadata"]["name"]
        for status in [
            *pod["status"].get("initContainerStatuses", []),
            *pod["status"].get("containerStatuses", []),
        ]:
            waiting = status["state"].get("waiting", {}).get("reason", "")
            if waiting in {"CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"}:
                return f"{name}: {waiting}; its log: {self.save_log(name, pod['metadata']['namespace'])}"
        return None

    def save_log(self, pod: str, namespace: str) -> Path:
        """Writes a pod's last words into the log folder; answers the file."""
        path = self.log_dir / f"{pod}.log"
        words = []
        for arguments in (("--previous",), ()):
            done = subprocess.run(
                self.cluster.kubectl("logs", "-n", namespace, pod, "--all-containers", "--tail=2000", *arguments),
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
            words.append(done.stdout)
        path.write_text("".join(words))
        return path


@contextmanager
def installed(cluster: ClusterHandle, settings: Settings, log_dir: Path) -> Iterator[Installation]:
    """Yields a CallFleet with a simulated carrier, uninstalled at the end (its CRDs stay, as the chart says)."""
    log_dir.mkdir(parents=True, exist_ok=True)
    account_sid, token = f"AC{secrets.token_hex(16)}", secrets.token_hex(16)
    ring = Keyring({1: secrets.token_bytes(KEY_BYTES)})
    subjects = Subjects(ring, secrets.token_hex(32).encode())
    installation = Installation(
        cluster, settings.namespace, settings.databases, account_sid, token, log_dir, subjects, settings.host_services
    )
    try:
        helm_upgrade(cluster, settings, _values(installation, settings, ring))
        wait_until_ready(installation)
        yield installation
    finally:
        _uninstall(cluster, settings.namespace)


def _uninstall(cluster: ClusterHandle, namespace: str) -> None:
    """Helm's complaints are told and no more: what else there is to clean up must be cleaned up."""
    command = [*_helm(cluster), "uninstall", RELEASE, "-n", namespace, "--wait=false", "--ignore-not-found"]
    try:
        run(command, timeout_s=UNINSTALL_TIMEOUT_S, shielded=True)
    except InstallError as error:
        sys.stderr.write(f"callfleet: {error}\n")


def helm_upgrade(cluster: ClusterHandle, settings: Settings, values: Mapping[str, Any]) -> None:
    """Installs or upgrades the release; the values, which hold secrets, go through a private file."""
    with tempfile.TemporaryDirectory(prefix="callfleet-") as folder:
        path = Path(folder) / "values.yaml"
        path.touch(0o600)
        path.write_text(yaml.safe_dump(dict(values)))
        run(
            [
                *_helm(cluster),
                "upgrade",
                "--install",
                RELEASE,
                str(chart()),
                "--namespace",
                settings.namespace,
                "--create-namespace",
                "--values",
                str(path),
            ],
            timeout_s=120,
        )


def wait_until_ready(installation: Installation, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Waits for every Deployment of the release. Raises InstallError naming what is dead."""
    deadline = time.monotonic() + timeout_s
    waiting: list[str] = ["everything"]
    while time.monotonic() < deadline:
        deployments = installation.objects("deployments", installation.namespace)
        waiting = [
            item["metadata"]["name"]
            for item in deployments
            if item.get("status", {}).get("readyReplicas", 0) < item["spec"]["replicas"]
        ]
        if deployments and not waiting:
            return
        time.sleep(1.0)
    complaints = installation.dead_components() or [
        f"{pod['metadata']['name']}: {pod['status'].get('phase')}; its log: "
        f"{installation.save_log(pod['metadata']['name'], installation.namespace)}"
        for pod in installation.objects("pods", installation.namespace)
    ]
    raise InstallError(
        f"not ready after {timeout_s:.0f} s: {', '.join(waiting)}\n" + "\n".join(f"  {line}" for line in complaints)
    )


def _values(installation: Installation, settings: Settings, ring: Keyring) -> dict[str, Any]:
    def image(reference: str) -> dict[str, str]:
        repository, _, tag = reference.rpartition(":")
        return {"repository": repository, "tag": tag}

    values: dict[str, Any] = {
        "image": {"operator": image(settings.operator_image), "worker": image(settings.worker_image)},
        "database": {
            "operatorUrl": settings.databases.owner,
            "gatewayUrl": settings.databases.gateway,
            "workerUrl": settings.databases.worker,
        },
        "redis": {"url": settings.redis_url},
        "ollama": {"baseUrl": settings.ollama_url, "apiKey": settings.ollama_token or ""},
        "carrier": {"accountSid": installation.account_sid, "authToken": installation.auth_token},
        "hashKey": installation.subjects.hash_key.decode(),
        "encryptionKeys": ring.text(),
        # Of a demo or a test, on one node.
        "operator": {"replicas": 1},
        "gateway": {"replicas": 1},
        "simulator": {"enabled": True, "people": settings.people, "lines": _lines_volume(installation.cluster)},
    }
    return merged(values, settings.values)


def _lines_volume(cluster: ClusterHandle) -> dict[str, Any]:
    """Where the simulated people's spoken lines are kept: in this user's cache where the node is this machine."""
    if cluster.provider != "local":
        return {}
    folder = cache_root() / "lines"
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, WORKER_UID, WORKER_UID)
    return {"hostPath": {"path": str(folder), "type": "Directory"}}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` on top, mappings merged."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _helm(cluster: ClusterHandle) -> list[str]:
    return [str(program("helm")), "--kubeconfig", str(cluster.kubeconfig), "--kube-context", cluster.context]


def run(
    command: list[str],
    *,
    stdin: str | None = None,
    timeout_s: float = COMMAND_TIMEOUT_S,
    shielded: bool = False,
) -> str:
    """A command's standard output; `shielded` from the terminal's Ctrl-C.

    Raises InstallError with what it said on standard error.
    """
    # Helm and kubectl keep caches under the home folder; nothing else of the environment may steer them.
    environment = {key: value for key, value in os.environ.items() if key not in {"KUBECONFIG", "HELM_NAMESPACE"}}
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment,
            start_new_session=shielded,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{Path(command[0]).name} did not answer within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise InstallError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
