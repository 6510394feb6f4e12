"""The chart's admission policies on a real API server: posted, waited for, and what they answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError

from tests.integration.apiserver import ApiServer
from tests.integration.chart import manifests

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
PLURALS = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
ACTIVE_TIMEOUT_S = 30.0


def post_policies(server: ApiServer, *names: str, of: tuple[dict[str, Any], ...] | None = None) -> None:
    """Posts policies and their bindings, as the chart has them with its usual values or among `of`."""
    for body in manifests() if of is None else of:
        if body["kind"] in PLURALS and body["metadata"]["name"] in names:
            server.request("POST", f"{ADMISSION}/{PLURALS[body['kind']]}", body)


def in_force(refused: Callable[[], str | None]) -> str:
    """Waits until a policy refuses what is done again and again; answers what it said."""
    deadline = time.monotonic() + ACTIVE_TIMEOUT_S
    while (said := refused()) is None:
        assert time.monotonic() < deadline, "the policy never came into force"
        time.sleep(0.2)
    return said


def refusal(server: ApiServer, method: str, path: str, *body: Any) -> str | None:
    """Why a request was refused by a policy; None: it was done."""
    try:
        server.request(method, path, *body)
    except HTTPError as error:
        said = error.read().decode()
        if error.code != 403:
            raise AssertionError(said) from error
        return said
    return None
