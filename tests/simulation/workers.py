"""Worker pods in the simulation: they start, claim what is bound to them, dial, and end, or are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final
from uuid import UUID

from tests.chaos.model.facts import Evidence
from tests.simulation.books import Books
from tests.simulation.exchange import Exchange, OutageError
from tests.simulation.kubernetes import Body, Cluster

from callfleet_operator.objects import POOL_LABEL, SLOTS_ANNOTATION

# As long as a call process waits for begin_dial (worker/call/ledger.py).
WAITS_AT_MOST_S: Final = 110.0
LEAST_WAIT_S: Final = 0.05
# What the gateway gives a media leg that is dead.
LEG_DEAD_AFTER_S: Final = 15.0

Begin = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Worker:
    """One pod's supervisor."""

    def __init__(self, fleet: Fleet, body: Body) -> None:
        self.fleet, self.name, self.uid = fleet, str(body["metadata"]["name"]), str(body["metadata"]["uid"])
        self.slots = int(body["metadata"]["annotations"][SLOTS_ANNOTATION])
        self.is_ready = self.is_ending = self.is_lost = False
        self.seen: set[str] = set()
        self.calls: list[asyncio.Task[None]] = []

    async def start(self, delay_s: float) -> None:
        """An image is pulled, models are loaded."""
        await asyncio.sleep(delay_s)
        if self.is_lost or self.is_ending:
            return
        self.is_ready = True
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        self.fleet.cluster.patch("Pod", self.name, {"status": status})

    def claim(self, body: Body) -> None:
        """Takes a session that is bound to this pod, once."""
        status = body["status"]
        attempt = str((status.get("attempt") or {}).get("id"))
        if not self.is_ready or self.is_ending or attempt in self.seen or status.get("state") != "Admitted":
            return
        self.seen.add(attempt)
        self.calls.append(self.fleet.begin(self._call(UUID(attempt), str(body["metadata"]["name"]))))

    async def end(self, drain_s: float) -> None:
        """Takes no more calls, lets the live ones end, and goes."""
        self.is_ending = True
        live = [task for task in self.calls if not task.done()]
        if live:
            await asyncio.wait(live, timeout=drain_s)
        self.kill()
        await asyncio.sleep(1)
        self.fleet.cluster.remove("Pod", self.name)

    def kill(self) -> None:
        """Its processes are gone; the calls' media legs are dead."""
        self.is_lost = True
        for task in self.calls:
            task.cancel()

    async def _call(self, attempt: UUID, session: str) -> None:
        fleet = self.fleet
        await asyncio.sleep(fleet.dice.uniform(0.05, 0.5))
        nonce = UUID(int=fleet.dice.getrandbits(128), version=4)
        if not await self._begin(attempt, nonce):
            return
        self._report(session, attempt, "Dialing", None)
        await asyncio.sleep(fleet.dice.uniform(0.1, 0.5))
        try:
            sid = fleet.exchange.place(attempt)
        except OutageError:
            return  # nobody knows whether there is a call: the operator looks it up
        if sid is None:
            fleet.books.record_ended(attempt, Evidence("notPlaced", error_code="20003"), self.uid)
            return
        await asyncio.sleep(fleet.dice.uniform(0.0, 0.3))
        fleet.books.record_placed(attempt, sid, self.uid)
        await self._follow(attempt, session, sid)

    async def _begin(self, attempt: UUID, nonce: UUID) -> bool:
        """Whether it may dial; waits as long as it is told to and the grant can live."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAITS_AT_MOST_S
        while not self.is_ending:
            verdict, _ = self.fleet.books.begin_dial(attempt, self.uid, nonce)
            if verdict != "wait":
                return verdict == "go"
            pause_s = max(LEAST_WAIT_S, self.fleet.books.waits_s(attempt))
            if loop.time() + pause_s > deadline:
                return False
            await asyncio.sleep(pause_s)
        return False

    async def _follow(self, attempt: UUID, session: str, sid: str) -> None:
        """Until the call is over."""
        call = self.fleet.exchange.calls[sid]
        await call.told.wait()
        if call.answered is not None:
            self._report(session, attempt, "InProgress", sid)
        await call.over.wait()

    def _report(self, session: str, attempt: UUID, state: str, sid: str | None) -> None:
        """Writes a session's state, if it is still bound by this attempt; what is refused is repaired by others."""
        body = self.fleet.cluster.find("CallSession", session)
        if body is None or ((body.get("status") or {}).get("attempt") or {}).get("id") != str(attempt):
            return
        status = {"state": state, **({} if sid is None else {"callSID": sid})}
        self.fleet.cluster.patch("CallSession", session, {"status": status})


class Fleet:
    """All pods that there are."""

    def __init__(self, cluster: Cluster, books: Books, exchange: Exchange, dice: Random, begin: Begin) -> None:
        self.cluster, self.books, self.exchange, self.dice, self.begin = cluster, books, exchange, dice, begin
        self.workers: dict[str, Worker] = {}
        cluster.watchers.append(self.saw)

    def saw(self, kind: str, event: str, body: Body) -> None:
        """The API server's events: pods that are made or told to end, sessions that are bound."""
        if kind == "Pod" and event == "ADDED" and POOL_LABEL in body["metadata"]["labels"]:
            worker = Worker(self, body)
            self.workers[worker.uid] = worker
            self.begin(worker.start(self.dice.choice((5, 20, 60)) + self.dice.random()))
        elif kind == "Pod" and event == "MODIFIED" and "deletionTimestamp" in body["metadata"]:
            known = self.workers.get(body["metadata"]["uid"])
            if known is not None and not known.is_ending:
                known.is_ending = True
                self.begin(known.end(600))
        elif kind == "CallSession" and event != "DELETED":
            found = self.workers.get((body.get("status") or {}).get("podUID", ""))
            if found is not None:
                found.claim(body)

    def lose(self, uid: str) -> None:
        """A pod is gone at once, with its node; the gateway ends calls whose legs are dead."""
        worker = self.workers.get(uid)
        if worker is None or worker.is_lost:
            return
        worker.is_ending = True
        worker.kill()
        self.cluster.remove("Pod", worker.name)
        for call in self.exchange.calls.values():
            if call.ended is None and self.books.attempts[call.attempt].item.pod == uid:
                self.begin(self._leg_dies(call.sid))

    async def _leg_dies(self, sid: str) -> None:
        await asyncio.sleep(LEG_DEAD_AFTER_S)
        call = self.exchange.calls[sid]
        if call.ended is None and call.answered is not None:
            self.exchange.hang_up(call)
