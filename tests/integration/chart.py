"""The chart's manifests, rendered by the real Helm."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import Any

import yaml

from callfleet.checkout import chart
from callfleet.parts.api import program

CHART = chart()
# All that the chart refuses to be without.
VALUES: dict[str, Any] = {
    "database": dict.fromkeys(("operatorUrl", "gatewayUrl", "workerUrl"), "postgresql://callfleet@127.0.0.1/callfleet"),
    "redis": {"url": "redis://127.0.0.1:6379/0"},
    "ollama": {"baseUrl": "http://127.0.0.1:11434", "endpoints": ["http://10.0.0.1:11434", "http://10.0.0.2:11434"]},
    "carrier": {"accountSid": "AC" + "0" * 32, "authToken": "a-made-up-token"},
    "hashKey": "k" * 32,
    "encryptionKeys": "1:" + "A" * 43 + "=",
    "simulator": {"enabled": True, "people": "people: {}"},
}


@cache
def manifests() -> tuple[dict[str, Any], ...]:
    """Every object of an installation with VALUES."""
    return rendered()


def rendered(*options: str, **more: Any) -> tuple[dict[str, Any], ...]:
    """Every object of an installation with VALUES and more; `options` of Helm's own, such as --set-file."""
    done = _template(yaml.safe_dump(VALUES | more), *options)
    assert done.returncode == 0, done.stderr
    return tuple(body for body in yaml.safe_load_all(done.stdout) if body)


def refusal(more: str) -> str:
    """What Helm says against VALUES with more, as somebody writes it into a file."""
    kept = {key: value for key, value in VALUES.items() if key not in yaml.safe_load(more)}
    done = _template((yaml.safe_dump(kept) if kept else "") + more)
    assert done.returncode != 0, f"taken: {more}"
    return done.stderr


def notes(**more: Any) -> str:
    """What Helm tells whoever has installed the chart with VALUES and more."""
    done = _helm(yaml.safe_dump(VALUES | more), "install", "--dry-run=client")
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:\n")[2]


def _template(values: str, *options: str) -> subprocess.CompletedProcess[str]:
    return _helm(values, "template", *options)


def _helm(values: str, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(program("helm", "helm")), verb, "callfleet", str(CHART), "--namespace", "callfleet",
               "--values", "-", *options]  # fmt: skip
    return subprocess.run(command, input=values, capture_output=True, text=True, check=False, timeout=60)


def manifest(kind: str, name: str) -> dict[str, Any]:
    """One of them."""
    (found,) = (body for body in manifests() if (body["kind"], body["metadata"]["name"]) == (kind, name))
    return found
