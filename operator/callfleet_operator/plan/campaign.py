"""A Campaign's status: progress, why sessions wait, and the conditions that GitOps tools read. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from callfleet_core.api.callsession import Reason, SessionState
from callfleet_core.ledger import Balance
from callfleet_core.money import format_micros, parse_micros
from callfleet_core.runs import RunCounts
from callfleet_core.windows import TOTAL
from callfleet_operator.objects import Campaign, PodProblem, Session, format_time
from callfleet_operator.plan.lookahead import kept_back
from callfleet_operator.plan.model import ModelPlan
from callfleet_operator.plan.session import admission_told, condition, without_nulls
from callfleet_operator.plan.stops import overrun_told

_SHOWN_OF_A_PROBLEM = 500
_MONEY_REASONS = {Reason.BUDGET_EXHAUSTED.value, Reason.BUDGET_HELD.value}


@dataclass(frozen=True)
class WorkersView:
    """A campaign's workers: pods that take calls, pods that end with their last one, calls that could begin at once.

    `problem` keeps a worker from serving: the pod `troubled`, or, without one, whatever pod would be made. `earlier`
    are those of an earlier image, model or resources, which are replaced.
    """

    ready: int = 0
    draining: int = 0
    slots_free: int = 0
    earlier: int = 0
    troubled: str | None = None
    problem: PodProblem | None = None


@dataclass(frozen=True)
class CampaignView:
    """What a Campaign's status is made of."""

    campaign: Campaign
    contacts: RunCounts
    # Those that are not over.
    sessions: Sequence[Session]
    workers: WorkersView
    # Its own: for each of its windows, and the total.
    accounts: Sequence[Balance]
    stalled: tuple[str, str] | None
    # Why nobody is called at all while the ledger is being rebuilt.
    recovering: str | None
    contacts_problem: str | None
    # Why the API server takes no more sessions: a quota, a policy.
    sessions_refused: str | None
    carrier_problem: str | None
    model: ModelPlan


def plan_campaign_status(view: CampaignView, now: datetime) -> dict[str, Any] | None:
    """The status to write, or None when it is right already but for its times."""
    spec, meta = view.campaign.spec, view.campaign.meta
    sessions = [item for item in view.sessions if item.spec.run_id == spec.run_id]
    states = Counter(item.state for item in sessions)
    total, done = view.contacts.total, view.contacts.done
    waiting = waiting_by_reason(sessions)
    workers = view.workers
    total_account = next((item for item in view.accounts if item.time_window == TOTAL.key), None)
    wanted: dict[str, Any] = {
        "observedGeneration": meta.generation,
        "runID": spec.run_id,
        "summary": _problem(view) or _summary(waiting, view, now),
        "progress": f"{done}/{total}",
        "live": states[SessionState.DIALING] + states[SessionState.IN_PROGRESS],
        "waitingCount": sum(item["count"] for item in waiting),
        "contacts": {"total": total, "done": done},
        "sessions": {
            "pending": states[SessionState.PENDING],
            "admitted": states[SessionState.ADMITTED],
            "dialing": states[SessionState.DIALING],
            "inProgress": states[SessionState.IN_PROGRESS],
        },
        "waiting": waiting,
        "money": {
            "held": format_micros(total_account.held_micros if total_account else 0),
            "spent": format_micros(total_account.spent_micros if total_account else 0),
        },
        "model": {"serving": view.model.serving, "pending": view.model.pending},
        "workers": {"ready": workers.ready, "draining": workers.draining, "slotsFree": workers.slots_free},
        "conditions": _conditions(view, waiting, now),
    }
    if _same(wanted, view.campaign.status):
        return None
    for part in ("contacts", "money"):
        wanted[part] = {**wanted[part], "asOf": format_time(now)}
    return wanted


def _problem(view: CampaignView) -> str | None:
    refused = view.sessions_refused and f"no more sessions can be made: {view.sessions_refused}"[:1024]
    return view.recovering or view.contacts_problem or view.carrier_problem or refused


def waiting_by_reason(sessions: Sequence[Session]) -> list[dict[str, Any]]:
    """How many pending sessions wait for each reason, the least shortfall and the earliest retry; at most 16."""
    groups: dict[str, list[Session]] = {}
    for item in sessions:
        reason = item.status.get("reason")
        if item.state is SessionState.PENDING and reason:
            groups.setdefault(reason, []).append(item)
    entries = []
    for reason, members in sorted(groups.items()):
        entry: dict[str, Any] = {"reason": reason, "count": len(members)}
        shortfalls = [parse_micros(item.status["shortfall"]) for item in members if item.status.get("shortfall")]
        retries = [item.status["retryAt"] for item in members if item.status.get("retryAt")]
        if shortfalls:
            entry["shortfall"] = format_micros(min(shortfalls))
        if retries:
            entry["retryAt"] = min(retries)
        entries.append(entry)
    return entries[:16]


def _summary(waiting: Sequence[dict[str, Any]], view: CampaignView, now: datetime) -> str:
    currency = view.campaign.spec.currency
    for entry in waiting:
        if entry["reason"] in _MONEY_REASONS:
            return f"{entry['reason']}: {entry['count']} wait, {entry.get('shortfall', '?')} {currency} missing"
    if waiting:
        told = kept_back(view.campaign, view.sessions, view.contacts, now)
        return (told + "; ".join(_waits(entry, view) for entry in waiting))[:1024]
    return "Finished" if view.contacts.done == view.contacts.total else "Calling"


def _waits(entry: dict[str, Any], view: CampaignView) -> str:
    """How many wait for what; for hours until when, and with what stopped an account or keeps a worker from serving."""
    workers, text = view.workers, f"{entry['reason']}: {entry['count']} wait"
    if entry["reason"] == Reason.SUSPENDED.value:
        return "; ".join([text, *_told(Reason.SUSPENDED, view)])
    if entry["reason"] == Reason.OUTSIDE_CALLING_HOURS.value and entry.get("retryAt"):
        return f"{text}, the first until {entry['retryAt']}"
    if entry["reason"] != Reason.NO_CAPACITY.value or workers.problem is None:
        return text
    reason, message = workers.problem
    return f"{text} ({reason}: {message[:_SHOWN_OF_A_PROBLEM]})"


def _told(reason: Reason, view: CampaignView) -> list[str]:
    """What the run's sessions that wait for it say."""
    run_id = view.campaign.spec.run_id
    waiting = [item for item in view.sessions if item.spec.run_id == run_id and item.status.get("reason") == reason]
    return sorted({told for item in waiting if (told := admission_told(item.status))})


def _workers_available(view: CampaignView) -> tuple[bool, str, str]:
    """Whether there are workers that take calls, the reason if not, and what keeps one from serving, if anything."""
    problem, troubled = view.workers.problem, view.workers.troubled
    if problem is None and view.carrier_problem and not view.workers.ready:
        return False, "CarrierNotReady", f"no worker is started: {view.carrier_problem}"
    if problem is None:
        return view.workers.ready > 0, "NoneReady", ""
    namespace = view.campaign.meta.namespace
    about = f"{problem.reason}: {problem.message}"[:_SHOWN_OF_A_PROBLEM]
    # The API server's own word for it, if it fits into a condition's reason.
    reason = problem.reason if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", problem.reason) else "PodProblem"
    more = f"; more: kubectl describe pod {troubled} -n {namespace}" if troubled else ""
    return view.workers.ready > 0, reason, about + more


def _under_way(view: CampaignView) -> tuple[str, ...]:
    """What of the spec is not in force yet though nobody has to do anything: a reason and a message, or nothing.

    A model that cannot be pulled is tried again and again, so it is under way, too, and ModelReady says the rest.
    """
    if view.model.pending is not None:
        return "ModelPending", view.model.message
    if view.sessions_refused is not None:
        return "SessionsRefused", view.sessions_refused
    if view.workers.earlier > 0:
        return "ReplacingWorkers", f"{view.workers.earlier} of the earlier workers are still there"
    return ()


def _conditions(view: CampaignView, waiting: Sequence[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    existing = view.campaign.status.get("conditions") or []
    total, done = view.contacts.total, view.contacts.done
    reasons = {entry["reason"] for entry in waiting}
    unloaded = view.contacts_problem
    stalled, mismatch = view.stalled or ("Served", "")
    exhausted = Reason.BUDGET_EXHAUSTED.value in reasons
    available, missing, trouble = _workers_available(view)
    under_way = () if view.stalled else _under_way(view)
    overrun, above, remedy = overrun_told("Campaign", view.accounts)

    def holds(kind: str, value: bool, yes: str, no: str, message: str = "") -> dict[str, Any]:
        return condition(existing, kind, value, yes if value else no, message, now, view.campaign.meta.generation)

    return [
        holds("Ready", view.stalled is None, "Served", stalled, mismatch),
        holds("Reconciling", bool(under_way), under_way[0] if under_way else "", "Reconciled", "".join(under_way[1:])),
        holds("Stalled", view.stalled is not None, stalled, "Served", mismatch),
        holds("ContactsLoaded", unloaded is None, "Loaded", "InvalidContacts", unloaded or f"{total} contacts"),
        holds("CarrierReady", view.carrier_problem is None, "Ready", "NotUsable", view.carrier_problem or ""),
        holds("ModelReady", view.model.reason == "Serving", view.model.reason, view.model.reason, view.model.message),
        holds("WorkersAvailable", available, "Ready", missing, trouble),
        holds("BudgetExhausted", exhausted, "BudgetExhausted", "MoneyLeft"),
        holds("Overrun", overrun, above, above, remedy),
        holds("Suspended", view.campaign.spec.suspend, "Suspended", "Active"),
        holds(
            "Finished",
            unloaded is None and total > 0 and done == total,
            "AllDone",
            "Calling",
            f"{done} of {total} done",
        ),
    ]


def _same(wanted: dict[str, Any], status: dict[str, Any]) -> bool:
    def comparable(value: dict[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {key: without_nulls(value.get(key)) for key in wanted}
        for part in ("contacts", "money"):
            kept[part] = {name: item for name, item in (kept[part] or {}).items() if name != "asOf"}
        kept["conditions"] = [
            (item["type"], item["status"], item["reason"], item["message"]) for item in kept["conditions"] or []
        ]
        return kept

    return comparable(wanted) == comparable(status)
