"""A Budget: its limit into the ledger, its balances into its status."""

from __future__ import annotations

from typing import Any

from callfleet_core.ledger import Balance, LimitResult, account_key
from callfleet_core.money import format_micros, parse_micros
from callfleet_operator.context import Context
from callfleet_operator.objects import Budget, Key, format_time
from callfleet_operator.plan.session import condition

# Money in a status changes at most this often (docs: at most one write per 5 s).
STATUS_EVERY_S = 5.0


async def reconcile(context: Context, key: Key) -> None:
    """Puts the limit in force, then shows what the ledger has."""
    budget = context.store.budget(key.namespace, key.name)
    if budget is None:
        return
    result = await context.ledger.set_limit(
        namespace=key.namespace,
        kind="Budget",
        name=key.name,
        window="total",
        currency=budget.spec.currency,
        limit_micros=parse_micros(budget.spec.limits.total),
        suspended=budget.spec.suspend or budget.meta.deleted,
        uid=budget.meta.uid,
        generation=budget.meta.generation,
    )
    balance = await context.ledger.balance(account_key(key.namespace, "Budget", key.name))
    status = plan_status(budget, result, balance, context)
    if status is not None:
        await context.kube.write_status("Budget", budget.meta, status)
    context.queue.add(Key("Admission"))


async def close(context: Context, namespace: str, name: str, uid: str) -> None:
    """A deleted Budget: no new holds; granted attempts are revoked by the cycle that follows."""
    await context.ledger.close_account(namespace=namespace, kind="Budget", name=name, uid=uid)
    context.queue.add(Key("Attempts"))


def plan_status(
    budget: Budget, result: LimitResult, balance: Balance | None, context: Context
) -> dict[str, Any] | None:
    """The status to write, or None when nothing but time has passed."""
    now, existing, generation = context.now(), budget.status.get("conditions") or [], budget.meta.generation

    def holds(kind: str, value: bool, reason: str, message: str) -> dict[str, Any]:
        return condition(existing, kind, value, reason, message, now, generation)

    if result is LimitResult.CURRENCY_MISMATCH or balance is None:
        message = (
            "the ledger keeps this budget in another currency: a budget's currency cannot be changed, "
            "not even by deleting it; use another name"
        )
        conditions = [
            holds("Ready", False, "CurrencyMismatch", message),
            holds("Stalled", True, "CurrencyMismatch", message),
        ]
        wanted: dict[str, Any] = {"observedGeneration": generation, "windows": [], "conditions": conditions}
    else:
        left = (balance.limit_micros or 0) - balance.held_micros - balance.spent_micros
        spent_out = balance.spent_micros >= (balance.limit_micros or 0)
        window = {
            "kind": "Total",
            "limit": format_micros(balance.limit_micros or 0),
            "held": format_micros(balance.held_micros),
            "spent": format_micros(balance.spent_micros),
            "left": format_micros(left),
        }
        wanted = {
            "observedGeneration": generation,
            "windows": [window],
            "conditions": [
                holds("Ready", True, "InForce", "the limit is in force"),
                holds("Stalled", False, "InForce", ""),
                holds("Exhausted", spent_out, "SpentOut" if spent_out else "MoneyLeft", f"{format_micros(left)} left"),
                holds("Overrun", balance.overrun, "AboveHold" if balance.overrun else "WithinHolds", ""),
            ],
        }
    if all(budget.status.get(name) == value for name, value in wanted.items()):
        return None
    return {**wanted, "asOf": format_time(now)}
