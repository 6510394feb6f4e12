"""A worker with a call is marked, before the call is bound: evictions are refused, autoscalers leave its node alone.

The mark is written with the leader's epoch: it makes outdated what an earlier leader, who does not know yet that it is
none, has seen of the pod; and a pod is only deleted as it was seen, without a mark. So nobody deletes a pod that
somebody else is giving a call to. Callers hold `context.placement`.
"""

from __future__ import annotations

from callfleet_operator import manifests
from callfleet_operator.context import Context
from callfleet_operator.objects import Meta, Pod


async def protect(context: Context, pod: Pod) -> None:
    """Marks a pod that is about to have a call, unless this leader has. Raises ConflictError when it is told to end."""
    if pod.in_call and pod.meta.uid in context.marked:
        return
    namespace = pod.meta.namespace
    if namespace not in context.guarded:
        await context.kube.ensure_disruption_budget(namespace, manifests.disruption_budget())
        context.guarded.add(namespace)
    marks = manifests.call_marks(context.ledger.epoch)
    context.store.apply("Pod", await context.kube.mark_pod(pod.meta, marks, as_seen=False))
    context.marked.add(pod.meta.uid)


async def release(context: Context, pod: Pod) -> Meta:
    """Takes a quiet pod's mark away, if it is still as it was seen; how it is then. Raises ConflictError otherwise."""
    context.marked.discard(pod.meta.uid)
    body = await context.kube.mark_pod(pod.meta, manifests.call_marks(None), as_seen=True)
    context.store.apply("Pod", body)
    return Meta.of(body)


async def remove(context: Context, pod: Pod) -> None:
    """Deletes a pod without calls, if it is still as it was seen. Raises ConflictError where that shows first."""
    meta = await release(context, pod) if pod.in_call and not pod.finished else pod.meta
    context.marked.discard(meta.uid)
    await context.kube.delete_pod(meta)
