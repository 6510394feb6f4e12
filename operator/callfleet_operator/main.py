"""kopf's glue, decorators only: `kopf run --all-namespaces -m callfleet_operator.main`."""

from __future__ import annotations

import os
import signal
from typing import Any

import kopf
from prometheus_client import start_http_server

from callfleet_core.api import GROUP, VERSION
from callfleet_core.logs import configure
from callfleet_operator.engine import Engine
from callfleet_operator.nodiffs import NoDiffs
from callfleet_operator.objects import POOL_LABEL
from callfleet_operator.settings import OperatorSettings

_LIST_CHUNK = 500
_TASKS = 1_000


def set_up(settings: kopf.OperatorSettings) -> None:
    """Sets kopf up as docs/decisions/0002 says."""
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = _LIST_CHUNK
    # A handler's own `labels` are compared here, with every pod of the cluster; this, by the API server.
    settings.watching.label_selectors["", "v1", "pods"] = POOL_LABEL
    # A task for each object that has news, for so long; 50,000 at once, as after a list, would be half a gigabyte.
    settings.queueing.idle_timeout = 0.1
    settings.queueing.worker_limit = _TASKS
    settings.networking.request_timeout = 30
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffs()


@kopf.on.startup(errors=kopf.ErrorsMode.PERMANENT)  # what can be waited for, the engine waits for itself
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Sets kopf up, and starts the engine."""
    own = OperatorSettings()
    configure("operator", own.log_level)
    set_up(settings)
    start_http_server(own.callfleet_metrics_port)
    memo.engine = Engine(own, on_deposed=_end)
    await memo.engine.start()
    await memo.engine.placed()  # kopf's watches begin after this


def _end() -> None:
    """Ends the process as Kubernetes would: it starts again, and stands by."""
    os.kill(os.getpid(), signal.SIGTERM)


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Stops the engine; live calls go on."""
    if "engine" in memo:
        await memo.engine.stop()


@kopf.on.probe(id="engine")
async def healthy(memo: kopf.Memo, **_: Any) -> str:
    """Ends the process when a part of the engine has died, so that the pod restarts at once."""
    if not memo.engine.is_healthy:
        os._exit(1)
    return "ok"


@kopf.on.event(GROUP, VERSION, "campaigns")
async def campaign_seen(memo: kopf.Memo, event: kopf.RawEvent, **_: Any) -> None:
    """A Campaign changed."""
    await memo.engine.on_event("Campaign", event["type"], event["object"])


@kopf.on.event(GROUP, VERSION, "callsessions")
async def session_seen(memo: kopf.Memo, event: kopf.RawEvent, **_: Any) -> None:
    """A CallSession changed."""
    await memo.engine.on_event("CallSession", event["type"], event["object"])


@kopf.on.event(GROUP, VERSION, "budgets")
async def budget_seen(memo: kopf.Memo, event: kopf.RawEvent, **_: Any) -> None:
    """A Budget changed."""
    await memo.engine.on_event("Budget", event["type"], event["object"])


@kopf.on.event("", "v1", "pods", labels={POOL_LABEL: kopf.PRESENT})
async def pod_seen(memo: kopf.Memo, event: kopf.RawEvent, **_: Any) -> None:
    """A worker pod changed."""
    await memo.engine.on_event("Pod", event["type"], event["object"])
