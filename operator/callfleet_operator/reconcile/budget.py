"""A Budget: its limits into the ledger, window by window, and its balances into its status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callfleet_core.ledger import Balance, LimitResult
from callfleet_core.money import format_micros
from callfleet_core.windows import TimeZoneError, Window, beside
from callfleet_operator.apiserver import ConflictError
from callfleet_operator.context import Context
from callfleet_operator.objects import Budget, Key, Meta, format_time
from callfleet_operator.plan.limits import MISMATCHES, counting, limits_now, wanted_in_force
from callfleet_operator.plan.news import rest_s
from callfleet_operator.plan.session import condition
from callfleet_operator.plan.stops import overrun_told
from callfleet_operator.reconcile import restored, unreadable

# Money in a status changes at most this often (docs: at most one write per 5 s).
STATUS_EVERY_S = 5.0


async def reconcile(context: Context, key: Key) -> None:
    """Puts the limits in force, then shows what the ledger has."""
    budget = context.store.budget(key.namespace, key.name)
    if budget is None:
        await context.ledger.close_account(namespace=key.namespace, kind="Budget", name=key.name)
        context.forget_limits(key)
        if (found := context.store.unreadable(key)) is not None:
            await unreadable.tell(context, "Budget", found)
        return
    now = context.now()
    in_force = wanted_in_force(budget, now)
    try:
        limits = limits_now(budget.spec.limits, budget.spec.time_zone, now)
    except TimeZoneError as error:
        context.in_force[key] = in_force
        await _write(context, budget, _stalled(budget, "InvalidTimeZone", str(error), context))
        return
    result = await put_in_force(
        context,
        "Budget",
        budget.meta,
        limits,
        budget.spec.currency,
        suspended=budget.spec.suspend or budget.meta.deleted,
    )
    context.in_force[key] = in_force
    context.note_refusal(key, result)
    if result in MISMATCHES:
        await _write(context, budget, _stalled(budget, *MISMATCHES[result], context))
        return
    if result is LimitResult.STALE:
        return  # what was seen is older than what is in force: the newer one comes
    windows = counting(limits, context.taken.get(key, frozenset()))
    rows = await context.ledger.balances_of(namespace=key.namespace, kind="Budget", name=key.name, at=now)
    balances = {balance.time_window: balance for balance in rows}
    known = [(window, balances[window.key]) for window in windows if window.key in balances]
    await _write(context, budget, plan_status(budget, known, context))
    context.queue.add(Key("Admission"))


async def put_in_force(
    context: Context, kind: str, meta: Meta, limits: Mapping[Window, int | None], currency: str, *, suspended: bool
) -> LimitResult:
    """Sets an object's limit in each of its windows, None in those that only count; the worst answer counts."""
    key, meant = Key(kind, meta.namespace, meta.name), (meta.version, tuple(limits.items()), currency, suspended)
    if context.applied.get(key) == meant:
        return LimitResult.APPLIED
    context.applied.pop(key, None)
    result = await _set_limits(context, kind, meta, limits, currency, suspended=suspended)
    if result is LimitResult.STALE and await restored.forgets_later(context, kind, meta):
        result = await _set_limits(context, kind, meta, limits, currency, suspended=suspended)
    if result is LimitResult.APPLIED:
        context.applied[key] = meant
    return result


async def _set_limits(
    context: Context, kind: str, meta: Meta, limits: Mapping[Window, int | None], currency: str, *, suspended: bool
) -> LimitResult:
    async def put(window: Window, limit_micros: int | None) -> LimitResult:
        return await context.ledger.set_limit(
            namespace=meta.namespace,
            kind=kind,
            name=meta.name,
            window=window,
            currency=currency,
            limit_micros=limit_micros,
            suspended=suspended,
            uid=meta.uid,
            generation=meta.generation,
        )

    worst, taken = LimitResult.APPLIED, set[str]()
    # What is stated first: where it cannot be in force, nothing of the object counts.
    for window, limit_micros in sorted(limits.items(), key=lambda item: item[1] is None):
        result = await put(window, limit_micros)
        if result is LimitResult.TIME_ZONE_MISMATCH:
            taken.add(window.key)
            result = await put(beside(window), limit_micros)
        if result in MISMATCHES:
            return result
        worst = result if result is not LimitResult.APPLIED else worst
    key = Key(kind, meta.namespace, meta.name)
    context.taken[key] = context.taken.get(key, frozenset()) - {window.key for window in limits} | taken
    return worst


async def _write(context: Context, budget: Budget, wanted: dict[str, Any]) -> None:
    """Writes the status unless nothing but time has passed, or it told of money a moment ago."""
    now = context.now()
    if all(budget.status.get(name) == value for name, value in wanted.items()):
        return
    as_of = budget.status.get("asOf")
    left_s = rest_s(budget.status, wanted, as_of, now, STATUS_EVERY_S) if context.numbers_wait else 0
    if left_s > 0:
        context.queue.add_after(Key("Budget", budget.meta.namespace, budget.meta.name), left_s)
        return
    try:
        body = await context.kube.write_status("Budget", budget.meta, {**wanted, "asOf": format_time(now)})
    except ConflictError:
        return  # the watch brings the newer object, and its key, at once
    context.store.apply("Budget", body)


def _stalled(budget: Budget, reason: str, message: str, context: Context) -> dict[str, Any]:
    existing, generation = budget.status.get("conditions") or [], budget.meta.generation
    return {
        "observedGeneration": generation,
        "windows": [],
        "conditions": [
            condition(existing, kind, kind == "Stalled", reason, message, context.now(), generation)
            for kind in ("Ready", "Reconciling", "Stalled")
        ],
    }


def plan_status(budget: Budget, balances: Sequence[tuple[Window, Balance]], context: Context) -> dict[str, Any]:
    """The status of a budget whose limits are in force: its windows are those that it states."""
    now, existing, generation = context.now(), budget.status.get("conditions") or [], budget.meta.generation

    def holds(kind: str, value: bool, reason: str, message: str) -> dict[str, Any]:
        return condition(existing, kind, value, reason, message, now, generation)

    stated = [
        (window, balance, balance.limit_micros) for window, balance in balances if balance.limit_micros is not None
    ]
    spent_out = [window for window, balance, limit in stated if balance.spent_micros >= limit]
    exhausted = ", ".join(window.kind.value for window in spent_out)
    return {
        "observedGeneration": generation,
        "windows": [_window(window, balance, limit) for window, balance, limit in stated],
        "conditions": [
            holds("Ready", True, "InForce", "the limits are in force"),
            holds("Reconciling", False, "InForce", ""),
            holds("Stalled", False, "InForce", ""),
            holds("Exhausted", bool(spent_out), "SpentOut" if spent_out else "MoneyLeft", exhausted),
            holds("Overrun", *overrun_told("Budget", [balance for _, balance in balances])),
        ],
    }


def _window(window: Window, balance: Balance, limit: int) -> dict[str, Any]:
    entry = {
        "kind": window.kind.value,
        "limit": format_micros(limit),
        "held": format_micros(balance.held_micros),
        "spent": format_micros(balance.spent_micros),
        "left": format_micros(limit - balance.held_micros - balance.spent_micros),
    }
    if window.start is not None and window.end is not None:
        entry |= {"start": format_time(window.start), "end": format_time(window.end)}
    return entry
