"""The CRDs as they were before a rule: what was stored then is still there when the rule has come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError

from tests.integration.apiserver import ApiServer
from tests.integration.operator_parts import GROUP

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
IN_FORCE_WITHIN_S = 20.0


def refusal(server: ApiServer, body: dict[str, Any]) -> str:
    """What the API server says against an object that is not stored; empty: nothing."""
    namespace = body["metadata"].get("namespace", "default")
    try:
        server.request("POST", f"{GROUP}/{namespace}/{body['kind'].lower()}s?dryRun=All", body)
    except HTTPError as error:
        if error.code != 422:
            raise
        return str(json.loads(error.read())["message"])
    return ""


@contextmanager
def before_the_rules(server: ApiServer, of: set[str], *refused: dict[str, Any]) -> Iterator[None]:
    """Fields that are named in `of` have no CEL rules meanwhile; `refused` are objects that these refuse."""
    paths = [f"{CRDS}/{plural}.callfleet.dev" for plural in ("campaigns", "budgets")]
    ours = {path: server.request("GET", path)["spec"] for path in paths}

    def all_are(taken: bool) -> Callable[[], bool]:
        return lambda: all((refusal(server, body) == "") == taken for body in refused)

    try:
        _put_in_force(server, {path: _without_rules(spec, of) for path, spec in ours.items()}, all_are(True))
        yield
    finally:
        _put_in_force(server, ours, all_are(False))


def _without_rules(node: Any, of: set[str]) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_rules(
                {name: item for name, item in value.items() if name != "x-kubernetes-validations"}
                if key in of and isinstance(value, dict)
                else value,
                of,
            )
            for key, value in node.items()
        }
    return [_without_rules(item, of) for item in node] if isinstance(node, list) else node


def _put_in_force(server: ApiServer, specs: dict[str, Any], in_force: Callable[[], bool]) -> None:
    for path, spec in specs.items():
        server.request("PUT", path, {**server.request("GET", path), "spec": spec})
    deadline = time.monotonic() + IN_FORCE_WITHIN_S
    while not in_force():
        assert time.monotonic() < deadline, "the changed CRDs never came into force"
        time.sleep(0.2)
