"""Settlements: attempts that are over are priced, and posted in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from callfleet_core.db.outages import is_the_servers
from callfleet_core.errors import CarrierError, StaleEpochError
from callfleet_core.ledger import Attempt, Settlement
from callfleet_core.pricing import CallUsage, CostLine
from callfleet_core.reconciliation import BookedCall
from callfleet_operator.context import Context
from callfleet_operator.objects import Key
from callfleet_operator.together import each

UNRESOLVED_FOR = timedelta(hours=24)

_log = structlog.get_logger(__name__)


async def settle(context: Context, attempts: Sequence[Attempt]) -> int:
    """Settles those of the ended attempts that can be without a question (is_asked_for).

    Each one's trouble is its own. Answers how many had any.
    """
    now = context.now()
    return await _settle(context, [item for item in attempts if not _waits(context, item, now)], now)


async def ask_and_settle(context: Context, attempts: Sequence[Attempt]) -> None:
    """Settles attempts of which the carrier is asked how long they were: each once a minute."""
    now = context.now()
    due = [item for item in attempts if not context.asked_for_duration.has(item.id, now)]
    for attempt in due:
        context.asked_for_duration.note(attempt.id, now)
    await _settle(context, due, now)


async def _settle(context: Context, attempts: Sequence[Attempt], now: datetime) -> int:
    if not attempts:
        return 0  # nobody is asked anything, once a second
    prefixes = await context.contacts.prefixes([item.contact_id for item in attempts if item.end_status == "completed"])
    priced: list[Settlement] = []

    async def price(attempt: Attempt) -> None:
        try:
            lines = await _price(context, attempt, prefixes, now)
        except Exception as error:  # noqa: BLE001  # one attempt's trouble must not keep the others waiting
            _not_settled(attempt, error)
        else:
            priced.append(Settlement(attempt.id, lines, attempt.end_status))

    await each(attempts, price)
    known = {attempt.id: attempt for attempt in attempts}
    return len(attempts) - len(priced) + await _post(context, priced, known)


def is_asked_for(attempt: Attempt) -> bool:
    """Whether only the carrier knows how long the call was."""
    return attempt.end_status == "completed" and attempt.duration_s is None


def _waits(context: Context, attempt: Attempt, now: datetime) -> bool:
    """Whether evidence may still come of an attempt whose end nobody could find: its money stays held."""
    patience = UNRESOLVED_FOR + timedelta(seconds=attempt.ring_timeout_s + attempt.time_limit_s)
    if attempt.end_status != "unresolved" or now >= (attempt.begun_at or now) + patience:
        return False
    session = context.store.session(attempt.namespace, attempt.session_name)
    if session is not None and not session.is_terminal:  # it does not say yet that nobody knows
        context.queue.add(Key("CallSession", attempt.namespace, attempt.session_name))
    return True


async def _price(context: Context, attempt: Attempt, prefixes: Mapping[UUID, str], now: datetime) -> list[CostLine]:
    if attempt.end_status != "completed":
        return []
    duration_s = attempt.duration_s
    if duration_s is None and attempt.call_sid is not None:
        call = await (await context.carriers.client(attempt.account_sid)).fetch(attempt.call_sid)
        duration_s = call.duration_s if call else None
    if duration_s is None:
        raise CarrierError("the carrier gave no duration of a completed call yet: asking again")
    # The stream is billed as if it had run as long as the call: it begins a moment after the answer.
    usage = CallUsage(number=prefixes[attempt.contact_id], duration_s=duration_s, stream_s=duration_s)
    return context.costs.actual(usage, attempt.begun_at or now)


async def _post(context: Context, priced: Sequence[Settlement], known: Mapping[UUID, Attempt]) -> int:
    """One transaction for many; when PostgreSQL refuses it, one for each. Answers how many were refused."""
    try:
        _show(context, priced, await context.ledger.settle_batch(priced), known)
    except DBAPIError as error:
        if is_the_servers(error):
            raise
    else:
        return 0
    failed = 0
    for item in priced:
        try:
            _show(context, [item], await context.ledger.settle_batch([item]), known)
        except StaleEpochError:
            raise
        except DBAPIError as error:
            failed += 1
            _not_settled(known[item.attempt_id], error)
    return failed


def _not_settled(attempt: Attempt, error: Exception) -> None:
    _log.warning("attempt not settled", attempt=str(attempt.id), error=repr(error)[:300])


def _show(context: Context, priced: Sequence[Settlement], states: Sequence[str], known: Mapping[UUID, Attempt]) -> None:
    for item, state in zip(priced, states, strict=True):
        if state == "settled":
            show_money(context, known[item.attempt_id])


def show_money(context: Context, call: Attempt | BookedCall) -> None:
    """Has everything shown anew whose money has changed by a call."""
    context.queue.add(Key("CallSession", call.namespace, call.session_name))
    context.look_soon(Key("Campaign", call.namespace, call.campaign))
    for budget in context.store.budgets():
        if budget.meta.namespace == call.namespace:
            context.look_soon(Key("Budget", budget.meta.namespace, budget.meta.name))
