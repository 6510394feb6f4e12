"""A real API server with CallFleet's CRDs and nothing else: no nodes, no controllers. Up in a few seconds."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.integration.part import Part

from callfleet.parts.api import program, system_program

START_TIMEOUT_S = 60.0
_GROUP = "/apis/callfleet.dev/v1alpha1"
CRDS = Path(__file__).parents[2] / "crds"


@dataclass(frozen=True)
class ApiServer:
    """Where it answers, with an administrator's token in the kubeconfig."""

    url: str
    token: str
    kubeconfig: Path
    part: Part
    etcd: Part
    data: Path

    def stop(self) -> None:
        """It dies, as a machine does; what it has written stays in etcd."""
        self.part.stop()

    def start(self) -> None:
        """It comes back at the same address."""
        self.part.start()
        _wait_until(self.list_all, self.part.log.parent)

    def back_up(self, to: Path) -> None:
        """Copies etcd's data while nobody writes it."""
        self._with_etcd_down(lambda: shutil.copytree(self.data, to))

    def restore(self, backup: Path) -> None:
        """Everything is again as it was in the backup, resourceVersions included."""

        def replace() -> None:
            shutil.rmtree(self.data)
            shutil.copytree(backup, self.data)

        self._with_etcd_down(replace)

    def _with_etcd_down(self, act: Callable[[], object]) -> None:
        self.stop()
        self.etcd.stop()
        act()
        self.etcd.start()
        self.start()

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One call as the administrator. Raises urllib's HTTPError."""
        request = urllib.request.Request(  # noqa: S310 - https on loopback
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": content_type},
        )
        context = ssl._create_unverified_context()  # noqa: S323 - its certificate is a minute old
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:  # noqa: S310 - as above
            return json.loads(answer.read() or b"{}")

    def text(self, path: str) -> str:
        """What is not JSON, such as its metrics."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})  # noqa: S310 - https on loopback
        context = ssl._create_unverified_context()  # noqa: S323 - its certificate is a minute old
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310 - as above
            return str(answer.read().decode())

    def list_all(self) -> None:
        """Raises HTTPError while one of our kinds is not served yet: each is established for itself."""
        for plural in ("budgets", "callsessions", "campaigns"):
            self.request("GET", f"{_GROUP}/{plural}")

    def patch_status(self, namespace: str, name: str, status: dict[str, Any]) -> Any:
        """What the operator would write into a session's status."""
        path = f"/apis/callfleet.dev/v1alpha1/namespaces/{namespace}/callsessions/{name}/status"
        return self.request("PATCH", path, {"status": status}, "application/merge-patch+json")


@contextmanager
def api_server(home: Path, part: str = "k8s") -> Iterator[ApiServer]:
    """etcd and kube-apiserver on loopback, with the CRDs established; `part`: which build of Kubernetes."""
    etcd_port, peer_port, port = (free_port() for _ in range(3))
    token = secrets.token_hex(16)
    (home / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (home / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    etcd = [
        str(system_program("etcd")), "--data-dir", str(home / "etcd"), "--unsafe-no-fsync", "--log-level", "error",
        "--listen-client-urls", f"http://127.0.0.1:{etcd_port}",
        "--advertise-client-urls", f"http://127.0.0.1:{etcd_port}",
        "--listen-peer-urls", f"http://127.0.0.1:{peer_port}",
        "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer_port}",
        "--initial-cluster", f"default=http://127.0.0.1:{peer_port}",
    ]  # fmt: skip
    apiserver = [
        str(program(part, "kube-apiserver")), "--etcd-servers", f"http://127.0.0.1:{etcd_port}",
        "--secure-port", str(port), "--bind-address", "127.0.0.1", "--cert-dir", str(home / "certs"),
        "--token-auth-file", str(home / "tokens.csv"), "--authorization-mode", "RBAC",
        "--allow-privileged",  # as in real clusters: what refuses such pods is ours
        "--service-account-issuer", "https://kubernetes.default.svc", "--service-cluster-ip-range", "10.255.0.0/24",
        "--service-account-key-file", str(home / "sa.key"), "--service-account-signing-key-file", str(home / "sa.key"),
    ]  # fmt: skip
    with ExitStack() as stack:
        parts = [Part(command, home / f"{Path(command[0]).name}.log") for command in (etcd, apiserver)]
        for each in parts:
            stack.callback(each.stop)
            each.start()
        server = ApiServer(f"https://127.0.0.1:{port}", token, home / "kubeconfig", parts[1], parts[0], home / "etcd")
        server.kubeconfig.write_text(_kubeconfig(server))
        _wait_until(lambda: server.request("GET", "/apis"), home)
        for crd in sorted(CRDS.glob("*.yaml")):
            manifest = yaml.safe_load(crd.read_text())
            server.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", manifest)
        _wait_until(server.list_all, home)
        yield server


def _wait_until(probe: Any, home: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            probe()
            return
        except (OSError, urllib.error.URLError) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"the API server did not answer; see {home}/kube-apiserver.log") from error
            time.sleep(0.2)


def _kubeconfig(server: ApiServer) -> str:
    cluster = {"name": "test", "cluster": {"server": server.url, "insecure-skip-tls-verify": True}}
    user = {"name": "admin", "user": {"token": server.token}}
    context = {"name": "test", "context": {"cluster": "test", "user": "admin"}}
    return json.dumps(
        {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": [user], "contexts": [context],
         "current-context": "test"}
    )  # fmt: skip


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
