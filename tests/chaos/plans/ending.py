"""How a world ended, without what two runs never share: times and identities. And what must hold of every ending."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.chaos.api.face import Api
from tests.chaos.api.server import Body

from callfleet_operator.objects import POOL_LABEL

Ending = dict[str, Any]

_ATTEMPTS = """
SELECT a.namespace || '/' || a.session_name || '#' || a.number AS key, a.state, a.end_status, a.hold_micros,
    -- How long it takes to end a call is the fault's to say; it costs a minute.
    CASE WHEN a.cancel_requested_at IS NULL THEN a.duration_s END AS duration_s, a.actual_micros,
    a.cancel_requested_at IS NOT NULL AS canceled, s.script::json->>'llmModel' AS model
FROM dial_attempts a JOIN call_scripts s ON s.digest = a.script_digest WHERE a.state <> 'revoked'
"""
_ACCOUNTS = "SELECT key, held_micros, spent_micros, limit_micros, suspended, closed, overrun FROM accounts"
_CONTACTS = """
SELECT namespace || '/' || campaign || '/' || run_id || '/' || position AS key, state, disposition
FROM campaign_contacts
"""
_ENTRIES = """
SELECT a.namespace || '/' || a.session_name || '#' || a.number || ' ' || c.key || ' ' || e.kind AS key,
    count(*) AS times
FROM ledger_entries e JOIN dial_attempts a ON a.id = e.attempt_id JOIN accounts c ON c.id = e.account_id
WHERE a.state <> 'revoked' GROUP BY 1
"""
_CAMPAIGNS = "SELECT namespace || '/' || name AS key, generation, suspended, closed FROM campaigns"
_REVOKED = (
    "SELECT COALESCE(reason, '?') AS key, count(*) AS times FROM dial_attempts WHERE state = 'revoked' GROUP BY 1"
)
_MUST_BE_NONE = {
    "accounts that are not the sums of their entries": """
        SELECT count(*) FROM accounts a LEFT JOIN (
            SELECT account_id, sum(held_micros) AS held, sum(spent_micros) AS spent FROM ledger_entries
            GROUP BY account_id) e ON e.account_id = a.id
        WHERE (a.held_micros, a.spent_micros) <> (COALESCE(e.held, 0), COALESCE(e.spent, 0))""",
    "accounts that were overspent": "SELECT count(*) FROM accounts WHERE held_micros + spent_micros > limit_micros",
    "revoked grants that kept money or cost any": """
        SELECT count(*) FROM (SELECT sum(e.held_micros) AS held, sum(e.spent_micros) AS spent FROM ledger_entries e
            JOIN dial_attempts a ON a.id = e.attempt_id WHERE a.state = 'revoked' GROUP BY a.id) x
        WHERE held <> 0 OR spent <> 0""",
}
_PASSING = {"asOf", "lastTransitionTime", "retryAt", "callSID", "podUID", "worker", "start", "end"}
# Events may be lost; what only holds while somebody leads is no object of a workflow.
_NOT_COUNTED = {"Event", "Lease", "Namespace"}


async def ending(api: Api, engine: AsyncEngine) -> Ending:
    """The objects and the books, as they are now."""
    return {"objects": _objects(api), "books": await _books(engine), "counts": counts(api)}


def counts(api: Api) -> dict[str, int]:
    """How many objects of each kind were made and unmade, since the beginning."""
    found = Counter(
        f"{change.resource.kind} {change.type}"
        for change in api.changes
        if change.type in {"ADDED", "DELETED"}
        and change.resource.kind not in _NOT_COUNTED
        and (change.resource.kind, change.type) != ("ConfigMap", "DELETED")
    )
    return dict(sorted(found.items()))


async def violations(engine: AsyncEngine, dials: Counter[Any]) -> list[str]:
    """What is wrong whatever was meant to happen."""
    found = [f"a contact was dialled {times} times" for times in dials.values() if times > 1]
    async with engine.connect() as connection:
        for name, statement in _MUST_BE_NONE.items():
            if count := (await connection.execute(text(statement))).scalar_one():
                found.append(f"{name}: {count}")
    return found


async def revoked(engine: AsyncEngine) -> dict[str, int]:
    """Grants that were taken back, by reason."""
    return await _table(engine, _REVOKED, "times")


async def _books(engine: AsyncEngine) -> dict[str, Any]:
    return {
        "attempts": await _table(engine, _ATTEMPTS),
        "accounts": await _table(engine, _ACCOUNTS),
        "campaigns": await _table(engine, _CAMPAIGNS),
        "contacts": await _table(engine, _CONTACTS),
        "entries": await _table(engine, _ENTRIES, "times"),
    }


async def _table(engine: AsyncEngine, statement: str, column: str = "") -> dict[str, Any]:
    async with engine.connect() as connection:
        rows = (await connection.execute(text(statement))).mappings().all()
    found = {row["key"]: row[column] if column else {k: v for k, v in row.items() if k != "key"} for row in rows}
    return dict(sorted(found.items()))


def _objects(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("Campaign", "Budget", "CallSession"):
        for body in api.all(kind):
            meta = body["metadata"]
            found[f"{kind} {meta['namespace']}/{meta['name']}"] = {
                "generation": meta["generation"],
                "deleted": "deletionTimestamp" in meta,
                "finalizers": sorted(meta.get("finalizers", [])),
                "status": _lasting(body.get("status", {})),
            }
    for kind in ("Pod", "Secret", "PodDisruptionBudget", "ServiceAccount", "RoleBinding", "ConfigMap"):
        for body in api.all(kind):
            if kind == "ConfigMap" and POOL_LABEL in (body["metadata"].get("labels") or {}):
                continue  # an empty one, which a leader that dies with its last pod leaves behind
            found[f"{kind} {body['metadata']['namespace']}/{body['metadata']['name']}"] = _kept(kind, body)
    return found


def _kept(kind: str, body: Body) -> Any:
    if kind == "Secret":
        return sorted(body.get("data", {}))
    if kind == "Pod":
        return {**(body["metadata"].get("labels") or {}), "phase": body["status"]["phase"]}
    return "is there"


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _lasting(item) for key, item in value.items() if key not in _PASSING}
        if {"id", "number", "held"} <= kept.keys():
            del kept["id"]
        if kept.get("state") == "Canceled" and kept.get("result"):
            kept["result"].pop("durationSeconds", None)
        if isinstance(kept.get("conditions"), list):
            kept["conditions"] = {item["type"]: item for item in kept["conditions"]}
        return kept
    return [_lasting(item) for item in value] if isinstance(value, list) else value
