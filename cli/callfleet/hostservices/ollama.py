"""Ollama on this machine with a small real model, reachable from pods behind a bearer token."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from callfleet.hostservices.errors import HostServiceError
from callfleet.hostservices.process import LOOPBACK, Service, free_port, new_password, private_folder, running
from callfleet.hostservices.proxy import TOKEN_VARIABLE
from callfleet.parts.api import models_folder, program
from callfleet.parts.errors import PartError
from callfleet.parts.paths import cache_root
from callfleet.parts.recipe import file_sha256

MODEL = "smollm2"
START_TIMEOUT_S = 60.0
CREATE_TIMEOUT_S = 300.0
LOAD_TIMEOUT_S = 120.0
CONTEXT_TOKENS = 4096
PARALLEL = 2


@dataclass(frozen=True)
class OllamaServer:
    """Where Ollama answers. `url` is the server itself (loopback, or the one given).

    `proxy_url` is the same behind `Authorization: Bearer <token>`, for pods; None unless it was asked for.
    """

    url: str
    model: str
    proxy_url: str | None = None
    token: str | None = None
    log: Path | None = None


@contextmanager
def ollama(proxy_on: str | None = None, url: str | None = None, model: str = MODEL) -> Iterator[OllamaServer]:
    """Yield an Ollama that serves `model`: the one at `url`, or our own with SmolLM2 loaded.

    `proxy_on`: the address for the token-asking proxy (the cluster's bridge). Raises HostServiceError.
    """
    if url is not None:
        yield OllamaServer(url, model)
        return
    port = free_port((LOOPBACK,))
    server = f"http://{LOOPBACK}:{port}"
    home = private_folder("ollama", None)
    service = Service("ollama", [_program(), "serve"], env=_environment(port, home), remove=home)
    with running(service, lambda: _answers(f"{server}/api/version"), START_TIMEOUT_S) as log:
        load_model(server, model)
        if proxy_on is None:
            yield OllamaServer(server, model, log=log)
            return
        with _proxy(proxy_on, server) as (proxy_url, token):
            yield OllamaServer(server, model, proxy_url, token, log)


def load_model(server: str, model: str) -> None:
    """Create `model` from SmolLM2's GGUF unless it is there, and load it into memory."""
    try:
        weights = next((models_folder() / "smollm2").glob("*.gguf"))
        with httpx.Client(base_url=server, timeout=CREATE_TIMEOUT_S) as client:
            digest = f"sha256:{file_sha256(weights)}"
            if client.head(f"/api/blobs/{digest}").status_code != httpx.codes.OK:
                with weights.open("rb") as content:
                    client.post(f"/api/blobs/{digest}", content=content).raise_for_status()
            wanted = {"model": model, "files": {weights.name: digest}, "stream": False}
            wanted["parameters"] = {"num_ctx": CONTEXT_TOKENS}
            client.post("/api/create", json=wanted).raise_for_status()
            load = {"model": model, "keep_alive": -1}
            client.post("/api/generate", json=load, timeout=LOAD_TIMEOUT_S).raise_for_status()
    except (httpx.HTTPError, PartError) as error:
        raise HostServiceError(f"Ollama could not load {model}: {error}") from error


def _program() -> str:
    try:
        return str(program("ollama"))
    except PartError as error:
        raise HostServiceError(f"{error}, or set OLLAMA_BASE_URL") from error


def _environment(port: int, home: Path) -> dict[str, str]:
    return {
        "OLLAMA_HOST": f"{LOOPBACK}:{port}",
        "OLLAMA_MODELS": str(cache_root() / "ollama"),
        "OLLAMA_CONTEXT_LENGTH": str(CONTEXT_TOKENS),
        "OLLAMA_NUM_PARALLEL": str(PARALLEL),
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NOPRUNE": "1",  # two servers may share the models' folder
        "HOME": str(home),  # it writes a key pair into its home
    }


@contextmanager
def _proxy(host: str, upstream: str) -> Iterator[tuple[str, str]]:
    token, port = new_password(), free_port((host,))
    argv = [sys.executable, "-m", "callfleet.hostservices.proxy", host, str(port), upstream]
    service = Service("ollama-proxy", argv, env={TOKEN_VARIABLE: token})
    url = f"http://{host}:{port}"
    headers = {"Authorization": f"Bearer {token}"}
    with running(service, lambda: _answers(f"{url}/api/version", headers), START_TIMEOUT_S):
        yield url, token


def _answers(url: str, headers: dict[str, str] | None = None) -> bool:
    try:
        return httpx.get(url, headers=headers, timeout=2.0).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
