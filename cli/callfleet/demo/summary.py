"""What a demo has shown, from the books: PostgreSQL's rows beside the carrier's own bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from callfleet_core.ledger import OVERSPENT_HOLDS
from callfleet_core.money import format_micros, micros_up
from callfleet_core.subjects import Subjects

# Reasons that last until somebody raises a limit, gives consent or applies something else.
WAITS_FOR_PEOPLE = frozenset(
    {"BudgetExhausted", "CurrencyMismatch", "DoNotCall", "NoConsent", "PerCallLimit", "Suspended"}
)
_BUDGETS = """
SELECT name, limit_micros, held_micros, spent_micros FROM accounts
WHERE namespace = %(namespace)s AND kind = 'Budget' AND limit_micros IS NOT NULL ORDER BY name
"""
_CARRIER_LINES = """
SELECT COALESCE(sum(l.amount_micros), 0) AS micros FROM cost_lines l JOIN dial_attempts a ON a.id = l.attempt_id
WHERE a.namespace = %(namespace)s AND l.meter LIKE 'carrier_%%'
"""
_OVERSPENT: Final[LiteralString] = "SELECT count(*) AS overspent FROM (" + OVERSPENT_HOLDS + ") o"  # noqa: S608  # core's own text
_CALLS = """
SELECT k.id, k.namespace, k.name, k.key_version, k.wrapped_key, a.session_name, a.state AS attempt_state, a.begun_at,
       c.status, c.disposition, c.duration, a.actual_micros, c.turns, c.decided_by, c.latency_ms_p50,
       s.qualification_score, s.interest_level, s.budget_qualified, s.timeline, s.decision_maker, s.fields
FROM dial_attempts a JOIN contacts k ON k.id = a.contact_id JOIN calls c ON c.id = a.id
LEFT JOIN lead_scores s ON s.call_id = c.id
WHERE a.namespace = %(namespace)s AND a.state <> 'revoked' ORDER BY a.begun_at
"""


@dataclass(frozen=True)
class Facts:
    """What was read for the summary."""

    budgets: Sequence[Mapping[str, Any]]
    carrier_micros: int
    overspent_holds: int
    calls: Sequence[Mapping[str, Any]]


def read_facts(database_url: str, namespace: str, subjects: Subjects) -> Facts:
    """Reads the books of a namespace as the schema's owner."""
    with psycopg.connect(database_url, row_factory=dict_row, connect_timeout=5) as connection:
        names = {"namespace": namespace}
        budgets = connection.execute(_BUDGETS, names).fetchall()
        carrier = connection.execute(_CARRIER_LINES, names).fetchone() or {}
        overspent = connection.execute(_OVERSPENT).fetchone() or {}
        calls = connection.execute(_CALLS, names).fetchall()
    named = [{**call, "contact": subjects.open(call).name or str(call["id"])[:8]} for call in calls]
    return Facts(budgets, int(carrier["micros"]), int(overspent["overspent"]), named)


def summarise(
    facts: Facts, sessions: Sequence[Mapping[str, Any]], carrier_billed: Decimal, started_at: datetime
) -> dict[str, Any]:
    """The demo's JSON object (issue of the first calls); money is text in currency units."""
    statuses = {item["metadata"]["name"]: item.get("status", {}) for item in sessions}
    begun = [call["begun_at"] for call in facts.calls if call["begun_at"]]
    return {
        "sessions": count_sessions(sessions),
        "budget": {
            "limit": format_micros(sum(item["limit_micros"] or 0 for item in facts.budgets)),
            "held": format_micros(sum(item["held_micros"] for item in facts.budgets)),
            "spent": format_micros(sum(item["spent_micros"] for item in facts.budgets)),
            "spent_carrier": format_micros(facts.carrier_micros),
        },
        "carrier_billed": format_micros(micros_up(carrier_billed)),
        "overspent": facts.overspent_holds > 0,
        "first_dial_s": round((min(begun) - started_at).total_seconds(), 1) if begun else None,
        "calls": [_call(call, statuses.get(call["session_name"], {})) for call in facts.calls],
    }


def count_sessions(sessions: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Sessions by final state, and the waiting ones by what they wait for."""
    counts: Counter[str] = Counter({"total": 0, "completed": 0, "failed": 0, "canceled": 0, "waiting_budget": 0})
    for item in sessions:
        status = item.get("status", {})
        state, reason = status.get("state", "Pending"), status.get("reason")
        counts["total"] += 1
        if state in {"Completed", "Failed", "Canceled"}:
            counts[state.lower()] += 1
        elif reason == "BudgetExhausted":
            counts["waiting_budget"] += 1
        elif state == "Pending":
            counts["waiting_other"] += 1
        else:
            counts["live"] += 1
    return dict(counts)


def _call(call: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    lead = None
    if call["qualification_score"] is not None:
        lead = {
            "score": str(call["qualification_score"]),
            "interest": call["interest_level"],
            "budget_qualified": call["budget_qualified"],
            "timeline": call["timeline"],
            "decision_maker": call["decision_maker"],
            "fields": call["fields"],
        }
    decided = {kind: call["decided_by"].get(kind, 0) for kind in ("grammar", "llm", "template")}
    return {
        "contact": call["contact"],
        "state": status.get("state"),
        "disposition": (status.get("result") or {}).get("disposition") or call["disposition"],
        "duration_s": call["duration"],
        "cost": None if call["actual_micros"] is None else format_micros(call["actual_micros"]),
        "lead": lead,
        "turns": call["turns"],
        "decided_by": decided,
        "latency_ms_p50": call["latency_ms_p50"],
    }


def is_over(sessions: Sequence[Mapping[str, Any]]) -> bool:
    """True when every session is terminal and settled, or waits for what only a person can change."""
    for item in sessions:
        status = item.get("status", {})
        state = status.get("state", "Pending")
        if state in {"Completed", "Failed", "Canceled"}:
            if not (status.get("result") or {}).get("settled") and status.get("reason") != "DialOutcomeUnknown":
                return False
        elif status.get("reason") not in WAITS_FOR_PEOPLE:
            return False
    return bool(sessions)
