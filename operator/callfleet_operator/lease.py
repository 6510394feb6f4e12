"""Leading is a Lease, kept by a thread of its own: however busy the operator is, it is renewed in time.

It decides who works, not what may be written: every write of the ledger carries the leader's epoch, which fences it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import aiohttp
import structlog
from kubernetes_asyncio.client.exceptions import ApiException

from callfleet_operator.apiserver import ConflictError
from callfleet_operator.context import utc_now
from callfleet_operator.kube import Kube
from callfleet_operator.plan.lease import (
    RENEW_DEADLINE_S,
    RETRY_S,
    LeaseView,
    held_spec,
    may_hold,
    released_spec,
)

NAME: Final = "callfleet-operator"
# Two of these and two pauses are less than a Lease's duration.
_ROUND_TIMEOUT_S: Final = 2.0
_STOP_TIMEOUT_S: Final = 5.0

# A Lease that somebody wrote meanwhile is read again: who holds it will be seen then.
_FAILURES: Final = (ConflictError, ApiException, aiohttp.ClientError, OSError, TimeoutError)

_log = structlog.get_logger(__name__)


class Lease:
    """One candidate. `identity` is the same for restarts of one pod, of which only one can run at a time."""

    def __init__(self, connect: Callable[[], Awaitable[Kube]], namespace: str, identity: str) -> None:
        self._connect = connect
        self._namespace = namespace
        self._identity = identity
        self._view = LeaseView(None, _monotonic_s())
        self._renewed_s: float | None = None
        self._followed = False
        self._stopping = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._loop = self._own_loop = asyncio.get_running_loop()

    @property
    def is_alive(self) -> bool:
        """False once its thread has died."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, on_taken: Callable[[], None], on_lost: Callable[[], None], on_standby: Callable[[], None]) -> None:
        """Begins to stand for the lead; each is called in the loop that made it, once at most.

        `on_standby` says that somebody else renews the Lease: there is a leader, and it lives.
        """
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.stand(on_taken, on_lost, on_standby)), name="lease", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """Ends, and lets another lead at once."""
        with suppress(RuntimeError):  # its loop has ended already
            self._own_loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_TIMEOUT_S)

    async def stand(
        self, on_taken: Callable[[], None], on_lost: Callable[[], None], on_standby: Callable[[], None]
    ) -> None:
        """Stands for the lead in the loop that runs, until told to stop or the lead is lost."""
        self._own_loop = asyncio.get_running_loop()
        kube = await self._connect()
        try:
            while not self._stopping.is_set():
                led, followed = self._renewed_s is not None, self._followed
                leads = await self._round(kube)
                if self._followed and not followed:
                    self._loop.call_soon_threadsafe(on_standby)
                if leads and not led:
                    self._loop.call_soon_threadsafe(on_taken)
                elif led and not leads:
                    self._loop.call_soon_threadsafe(on_lost)
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), RETRY_S)
            await self._release(kube)
        finally:
            await kube.close()

    async def _round(self, kube: Kube) -> bool:
        """One look, and a renewal where it is due; whether this one leads."""
        began_s = _monotonic_s()
        try:
            async with asyncio.timeout(_ROUND_TIMEOUT_S):
                held = await self._take_or_renew(kube)
        except _FAILURES as error:
            _log.warning("lease not read or written", error=_short(error))
            # Nobody else can hold it before its duration is over; what was renewed in time still counts.
            return self._renewed_s is not None and _monotonic_s() - self._renewed_s < RENEW_DEADLINE_S
        # Counted from before the request: the server may have stored it at any moment since.
        self._renewed_s = began_s if held else None
        return held

    async def _take_or_renew(self, kube: Kube) -> bool:
        found = await kube.read_lease(self._namespace, NAME)
        if found is None:
            await kube.create_lease(self._namespace, NAME, held_spec(None, self._identity, utc_now()))
            return True
        spec: dict[str, Any] = found.get("spec") or {}
        now_s = _monotonic_s()
        before, self._view = self._view, self._view.read(spec, now_s)
        if not may_hold(self._view, self._identity, now_s):
            self._followed = self._followed or before.spec not in (None, spec)
            return False
        await kube.replace_lease({**found, "spec": held_spec(spec, self._identity, utc_now())})
        return True

    async def _release(self, kube: Kube) -> None:
        if self._renewed_s is None:
            return
        try:
            async with asyncio.timeout(_ROUND_TIMEOUT_S):
                found = await kube.read_lease(self._namespace, NAME)
                if found is not None and found["spec"].get("holderIdentity") == self._identity:
                    await kube.replace_lease({**found, "spec": released_spec(found["spec"], utc_now())})
        except _FAILURES as error:
            _log.warning("lease not released: another one leads when it has expired", error=_short(error))


def _monotonic_s() -> float:
    """The clock that the loop sleeps by."""
    return asyncio.get_running_loop().time()


def _short(error: Exception) -> str:
    status = getattr(error, "status", None)
    return f"{type(error).__name__} {status}" if status else type(error).__name__
