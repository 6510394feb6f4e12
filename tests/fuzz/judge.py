"""Applies a spec as a user does, lets the real reconcilers work, and says what is wrong with what came of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError

from structlog.testing import capture_logs
from tests.fuzz.cases import BASES, PERSON, PERSONA, PHONE, Case
from tests.integration.fleet_parts import Fleet
from tests.integration.operator_parts import GROUP

from callfleet_core.money import parse_micros
from callfleet_operator.apiserver import ConflictError
from callfleet_operator.objects import Key
from callfleet_operator.reconcile import admission, budget, campaign, carrier, pool, session
from callfleet_operator.reconcile.pods import pool_keys

Body = dict[str, Any]

REFUSED = {400, 422}
ROUNDS = 4
ROUNDS_TO_GO = 8
MONEY = "money"
SECRETS = (PHONE[3:], PERSON, PERSONA)
_UNKNOWN_ZONE = re.compile("there is no (such )?time zone")
_WINDOWS = {"daily": "Daily", "monthly": "Monthly", "total": "Total"}


@dataclass
class Verdict:
    """Whether the API server refused the spec, and everything that is wrong."""

    rejected: bool = False
    wrong: list[str] = field(default_factory=list)


class Judge:
    """One namespace, one operator, one case after another."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._parts, self._server = fleet, fleet.parts, fleet.server
        self._base = f"{GROUP}/{fleet.namespace}"
        self._count = 0

    async def prepare(self) -> None:
        """A Budget that covers every call."""
        spec = {**BASES["Budget"], "limits": {"total": "900000"}}
        await self._send("POST", self._path("Budget"), self._body("Budget", MONEY, spec))

    async def judge(self, case: Case, how: str) -> Verdict:
        """`how`: `created` anew; `changed` to, from the base, and back; or `deleted`, and the base in its place."""
        verdict = Verdict()
        with capture_logs() as logs:
            try:
                await self._live(case, how, verdict)
            finally:
                await self._clear(verdict)
        verdict.wrong += _said(logs)
        return verdict

    async def _live(self, case: Case, how: str, verdict: Verdict) -> None:
        self._count += 1  # who was called by a campaign of a name is not called again by the next one of that name
        name = case.metadata.get("name", f"fuzzed-{self._count}")
        body = {**self._body(case.kind, name, case.spec), "metadata": {"name": name, **case.metadata}}
        if not await self._would_be_taken(body, verdict, case):
            return
        if case.kind == "CallSession":
            await self._apply(self._body("Campaign", self._hand_made, BASES["Campaign"]), verdict)
            await self._settle(verdict)
            body["spec"] = self._for_somebody(body["spec"])
        base = self._body(case.kind, name, BASES[case.kind])
        if case.kind == "CallSession":
            base["spec"] = self._for_somebody(base["spec"])
        if how == "changed":
            await self._apply(base, verdict)
            await self._settle(verdict)
            before = await self._state(case.kind, name)
        if not await self._apply(body, verdict, case):
            return
        await self._settle(verdict)
        await self._look_at(case.kind, name, verdict)
        if how == "created":
            return
        if how == "deleted":
            await self._delete(case.kind, name)
            await self._settle(verdict, 2)
        again = Verdict()
        if await self._apply(base, again, Case(case.kind, "", (), {}, {})):
            await self._settle(verdict)
            await self._look_at(case.kind, name, verdict)
            after = await self._state(case.kind, name)
            if how == "changed" and after != before:
                verdict.wrong.append(f"changed back, it is not as before: {_difference(before, after)}")

    @property
    def _hand_made(self) -> str:
        """The campaign of the case's own session."""
        return f"{BASES['CallSession']['campaign']}-{self._count}"

    def _for_somebody(self, spec: Body) -> Body:
        """A session made by hand is for a person of a campaign that is there, unless the case says otherwise."""
        base, made = BASES["CallSession"], dict(spec)
        known = self._parts.context.store.sessions_of(self._fleet.namespace, self._hand_made)
        if spec.get("contactID") == base["contactID"] and known:
            made["contactID"] = known[0].spec.contact_id
        if spec.get("campaign") == base["campaign"]:
            made["campaign"] = self._hand_made
        return made

    async def _would_be_taken(self, body: Body, verdict: Verdict, case: Case) -> bool:
        """What the API server refuses it refuses at once, before anything is there to be changed."""
        path = self._path(case.kind) + "?fieldValidation=Strict&dryRun=All"
        return self._is_taken(*await self._send("POST", path, body), verdict, case)

    async def _apply(self, body: Body, verdict: Verdict, case: Case | None = None) -> bool:
        """Creates or replaces; whether the API server took it. Without a case it must."""
        kind, name = body["kind"], body["metadata"]["name"]
        code, said = await self._send("GET", self._path(kind, name))
        if code == 200:
            body = {**body, "metadata": {**said["metadata"], **body["metadata"]}}
            code, said = await self._send("PUT", self._path(kind, name) + "?fieldValidation=Strict", body)
        else:
            code, said = await self._send("POST", self._path(kind) + "?fieldValidation=Strict", body)
        return self._is_taken(code, said, verdict, case)

    def _is_taken(self, code: int, said: Body, verdict: Verdict, case: Case | None) -> bool:
        if code < 300:
            return True
        verdict.rejected = True
        message = str(said.get("message"))
        if code not in REFUSED:
            verdict.wrong.append(f"refused with {code}: {message}")
        elif "no such key" in message or "no such overload" in message:
            verdict.wrong.append(f"refused by a rule that is broken itself: {message}")
        elif case is None:
            verdict.wrong.append(f"the base is refused: {message}")
        elif case.fields and not any(_names(message, one) for one in case.fields):
            verdict.wrong.append(f"refused without a word of {case.fields}: {message}")
        return False

    async def _settle(self, verdict: Verdict, rounds: int = ROUNDS) -> None:
        """Everything is looked at, as the engine does after each change; pods are run."""
        context, namespace = self._parts.context, self._fleet.namespace
        for _ in range(rounds):
            await self._parts.see()
            for item in context.store.budgets():
                await self._try(budget.reconcile(context, Key("Budget", namespace, item.meta.name)), verdict)
            for one in context.store.campaigns():
                await self._try(campaign.reconcile(context, Key("Campaign", namespace, one.meta.name)), verdict)
                if one.spec.carrier_ref is not None:
                    key = Key("Carrier", namespace, one.spec.carrier_ref.name)
                    await self._try(carrier.reconcile(context, key), verdict)
            await self._parts.see()
            for call in context.store.sessions():
                await self._try(session.reconcile(context, Key("CallSession", namespace, call.meta.name)), verdict)
            await self._try(admission.reconcile(context), verdict)
            for key in pool_keys(context, namespace):
                await self._try(pool.reconcile(context, key), verdict)
            await asyncio.to_thread(self._fleet.run_pods)

    async def _try(self, look: Awaitable[None], verdict: Verdict) -> None:
        try:
            await look
        except ConflictError:
            pass  # the engine looks again
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we are after
            told = f"reconciling raised {error!r}"[:600]
            if told not in verdict.wrong:
                verdict.wrong.append(told)

    async def _look_at(self, kind: str, name: str, verdict: Verdict) -> None:
        """What the object says of itself, and what the ledger and the pods are."""
        code, body = await self._send("GET", self._path(kind, name))
        if kind == "CallSession" and code == 404:
            return  # whom nobody means to call, or whose call is over
        if code != 200:
            verdict.wrong.append(f"it is gone: {code}")
            return
        status = body.get("status") or {}
        if kind == "CallSession":
            if "state" not in status:
                verdict.wrong.append("a session has no state")
            return
        conditions = {item["type"]: item for item in status.get("conditions") or []}
        ready, stalled = conditions.get("Ready"), conditions.get("Stalled")
        if status.get("observedGeneration") != body["metadata"]["generation"]:
            verdict.wrong.append(f"generation {body['metadata']['generation']} is not observed: {status}"[:400])
        elif not ready or not stalled:
            verdict.wrong.append(f"no conditions Ready and Stalled: {sorted(conditions)}")
        elif ready["status"] != "True" and not (ready["message"] and ready["reason"]):
            verdict.wrong.append(f"not ready, without a word why: {ready}")
        if any(_UNKNOWN_ZONE.search(item["message"]) for item in conditions.values()):
            verdict.wrong.append("a time zone that the operator does not know got past the API server")
        if stalled and stalled["status"] != "True":
            await self._look_at_limits(kind, name, body["spec"], verdict)
        if kind == "Campaign" and stalled and stalled["status"] != "True":
            self._look_at_pods(body, conditions, verdict)

    async def _look_at_limits(self, kind: str, name: str, spec: Body, verdict: Verdict) -> None:
        asked = spec.get("limits") or {}
        wanted = {window: parse_micros(asked[key]) for key, window in _WINDOWS.items() if asked.get(key) is not None}
        found = {}
        for item in await self._parts.context.ledger.balances():
            if (item.namespace, item.kind, item.name) == (self._fleet.namespace, kind, name):
                window = item.time_window.partition("/")[0].capitalize()
                if item.limit_micros is not None:
                    found[window] = item.limit_micros
                if item.suspended != bool(spec.get("suspend")) and kind == "Budget":
                    verdict.wrong.append(f"suspend is not in force: {item}")
        if {window: found.get(window) for window in wanted} != wanted:
            verdict.wrong.append(f"the ledger has {found}, the spec {wanted}")

    def _look_at_pods(self, body: Body, conditions: Mapping[str, Body], verdict: Verdict) -> None:
        spec, context = body["spec"], self._parts.context
        worker = spec.get("worker") or {}
        campaign = context.store.campaign(self._fleet.namespace, body["metadata"]["name"])
        if campaign is None:
            verdict.wrong.append("the operator does not know it")
            return
        pods = context.store.pods(self._fleet.namespace, context.pool_of(campaign))
        serving = [pod for pod in pods if pod.serves_on]
        most, least = worker.get("maxWorkers", 1), worker.get("minWorkers", 0)
        if len(serving) > most:
            verdict.wrong.append(f"{len(serving)} workers, at most {most} are asked for")
        # A campaign that is over, or not open for long, keeps nobody warm.
        waits = any(
            item.spec.campaign == body["metadata"]["name"] and item.status.get("reason") != "OutsideCallingHours"
            for item in context.store.sessions()
        )
        if waits and not spec.get("suspend") and len(serving) < least:
            said = conditions.get("WorkersAvailable") or {}
            if not said.get("message"):  # earlier workers may serve meanwhile
                verdict.wrong.append(f"{len(serving)} workers of {least}, and nothing said of it: {said}")

    async def _state(self, kind: str, name: str) -> Body:
        """What must be the same again once a spec is what it was."""
        code, body = await self._send("GET", self._path(kind, name))
        if code != 200:
            return {"gone": code}
        conditions = (body.get("status") or {}).get("conditions") or []
        context, namespace = self._parts.context, self._fleet.namespace
        found = context.store.campaign(namespace, name) if kind == "Campaign" else None
        return {
            "conditions": sorted((item["type"], item["status"], item["reason"]) for item in conditions),
            "limits": sorted(
                (item.time_window, item.limit_micros, item.suspended, item.closed)
                for item in await context.ledger.balances()
                if (item.namespace, item.kind, item.name) == (namespace, kind, name) and item.limit_micros is not None
            ),
            "sessions": sorted((item.meta.name, item.state.value) for item in context.store.sessions(namespace)),
            "pool": found and context.pool_of(found),
            "pods": found and len(context.store.pods(namespace, context.pool_of(found))),
        }

    async def _delete(self, kind: str, name: str) -> None:
        await self._send("DELETE", self._path(kind, name))

    async def _clear(self, verdict: Verdict) -> None:
        """Deletes everything but the Budget that covers all, and sees it go."""
        for round_ in range(ROUNDS_TO_GO):
            left = await self._left()
            if not left:
                await self._parts.see()
                return
            for kind, name in left:
                if round_ == 0 and kind != "Pod":
                    await self._strip(kind, name)
                path = self._fleet.path(name) if kind == "Pod" else self._path(kind, name)
                await self._send("DELETE", path)
            await self._settle(verdict, 1)
        verdict.wrong.append(f"deleted, and still there: {await self._left()}")

    async def _left(self) -> list[tuple[str, str]]:
        found = []
        for kind in ("Campaign", "CallSession", "Budget", "Pod"):
            path = f"/api/v1/namespaces/{self._fleet.namespace}/pods" if kind == "Pod" else self._path(kind)
            _, listed = await self._send("GET", path)
            found += [(kind, item["metadata"]["name"]) for item in listed["items"]]
        return [item for item in found if item != ("Budget", MONEY)]

    async def _strip(self, kind: str, name: str) -> None:
        """Takes finalizers of the user's own away."""
        _, body = await self._send("GET", self._path(kind, name))
        kept = [item for item in body["metadata"].get("finalizers") or [] if not item.startswith("example.com/")]
        if kept != (body["metadata"].get("finalizers") or []):
            body["metadata"]["finalizers"] = kept
            await self._send("PUT", self._path(kind, name), body)

    async def _send(self, method: str, path: str, body: Body | None = None) -> tuple[int, Body]:
        try:
            return 200, await asyncio.to_thread(self._server.request, method, path, body)
        except HTTPError as error:
            text = error.read().decode()
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, {"message": text}

    def _path(self, kind: str, name: str = "") -> str:
        path = f"{self._base}/{kind.lower()}s"
        return f"{path}/{name}" if name else path

    def _body(self, kind: str, name: str, spec: Any) -> Body:
        return {"apiVersion": "callfleet.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _names(message: str, dotted: str) -> bool:
    """Whether a refusal names the field, or the one that it is in."""
    steps = [step for step in re.split(r"\.|\[\d+\]", dotted) if step]
    return any(re.search(rf"\b{re.escape(step)}\b", message) for step in steps)


def _said(logs: list[MutableMapping[str, Any]]) -> list[str]:
    """What must not be in a log: errors, and anything personal."""
    wrong = []
    for entry in logs:
        text = json.dumps(entry, default=str, ensure_ascii=False)
        if entry.get("log_level") in {"error", "critical"}:
            wrong.append(f"logged as an error: {text}"[:500])
        if any(secret in text for secret in SECRETS):
            wrong.append(f"something personal is logged: {entry.get('event')}")
    return wrong


def _difference(before: Body, after: Body) -> str:
    return "; ".join(f"{key}: {before[key]} → {after[key]}" for key in before if before[key] != after.get(key))[:600]
