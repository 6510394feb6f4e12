"""Puts pretend GPUs on a node's status and keeps them there: a stand-alone script, standard library only.

`pretend_gpu.py SERVER NODE COUNT PKI_FOLDER`. The scheduler counts `nvidia.com/gpu` as if a device plugin had
reported it. The kubelet may rewrite its status, so it is looked at again every few seconds.
"""

import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

RESOURCE = "nvidia.com/gpu"
EVERY_S = 2.0
TIMEOUT_S = 5.0


def patch_for(status: dict[str, Any], count: int) -> list[dict[str, str]]:
    """The JSON patch that puts `count` GPUs on a node's status; empty when they are there."""
    path = RESOURCE.replace("/", "~1")
    return [
        {"op": "add", "path": f"/status/{kind}/{path}", "value": str(count)}
        for kind in ("capacity", "allocatable")
        if status.get(kind, {}).get(RESOURCE) != str(count)
    ]


def _call(url: str, context: ssl.SSLContext, patch: list[dict[str, str]] | None = None) -> dict[str, Any]:
    data = None if patch is None else json.dumps(patch).encode()
    request = urllib.request.Request(url, data, method="GET" if data is None else "PATCH")  # noqa: S310 - https only
    request.add_header("Content-Type", "application/json-patch+json")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310 - as above
        answered: dict[str, Any] = json.load(answer)
    return answered


def main() -> None:
    """Look, patch, sleep, until ended. Errors are printed and tried again: the API may be busy."""
    server, node, count, pki = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    url = f"{server}/api/v1/nodes/{node}"
    while True:
        try:
            patch = patch_for(_call(url, context).get("status", {}), count)
            if patch:
                _call(f"{url}/status", context, patch)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
