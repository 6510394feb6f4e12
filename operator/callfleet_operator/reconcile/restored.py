"""A cluster that was restored from a backup: its objects are older than what PostgreSQL has taken from them."""

from __future__ import annotations

import structlog

from callfleet_operator.context import Context
from callfleet_operator.objects import Key, Meta

_log = structlog.get_logger(__name__)


async def forgets_later(context: Context, kind: str, meta: Meta) -> bool:
    """Whether PostgreSQL has forgotten what it took from later generations of an object; then ask it again.

    It does where the API server itself has no later generation (docs/decisions/0033). Where it has one, what was seen
    of the object was old: the newer one comes into the store, and its key into the queue.
    """
    body = await context.kube.read(kind, meta)
    if body is None or body["metadata"]["uid"] != meta.uid:
        return False  # the watch tells what became of it
    if int(body["metadata"]["generation"]) > meta.generation:
        context.store.apply(kind, body)
        context.queue.add(Key(kind, meta.namespace, meta.name))
        return False
    forgot = await context.ledger.forget_later(
        namespace=meta.namespace, kind=kind, name=meta.name, uid=meta.uid, generation=meta.generation
    )
    if forgot:
        _log.warning("the cluster was restored: an older object counts", kind=kind, namespace=meta.namespace,
                     name=meta.name, generation=meta.generation)  # fmt: skip
    return forgot
