"""The Secrets of the installation that workers use: copies are kept current, and a new login makes new workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import structlog

from callfleet_operator.context import Context
from callfleet_operator.reconcile.pods import pool_keys
from callfleet_operator.together import each

EVERY_S = 30.0

_log = structlog.get_logger(__name__)


async def reconcile(context: Context) -> None:
    """Looks whether a Secret was changed: pools are named anew, and namespaces with workers get the new content."""
    found = await look(context)
    version, there = _digest(found), {pod.meta.namespace for pod in context.store.pods()}
    context.copied = {name: known for name, known in context.copied.items() if name in there}

    async def bring(namespace: str) -> None:
        if context.copied.get(namespace) == version:
            return
        for name, data in found.items():
            # A namespace whose campaigns all have accounts of their own has no copy of the installation's.
            if data is not None and await context.kube.read_secret(namespace, name) not in (None, data):
                await context.kube.copy_secret(context.settings.callfleet_namespace, namespace, name)
                _log.info("secret copied", namespace=namespace, secret=name)
        context.copied[namespace] = version

    await each(sorted(there - {context.settings.callfleet_namespace}), bring)


async def look(context: Context) -> Mapping[str, dict[str, str] | None]:
    """Reads the Secrets; before any pool is named, too. A worker reads the carrier's from a volume, for each call, but
    has the other as its environment: it cannot change, so another version is another pool, and workers are replaced.
    """
    settings = context.settings
    found = {
        name: await context.kube.read_secret(settings.callfleet_namespace, name)
        for name in (settings.callfleet_worker_secret, settings.callfleet_carrier_secret)
    }
    version = _digest(found[settings.callfleet_worker_secret])
    if version != context.login_version:
        context.login_version = version
        context.pools.clear()
        for namespace in sorted({item.meta.namespace for item in context.store.campaigns()}):
            for key in pool_keys(context, namespace):
                context.queue.add(key)
    return found


def _digest(content: Mapping[str, object] | None) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
