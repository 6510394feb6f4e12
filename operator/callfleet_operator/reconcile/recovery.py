"""After a restore: the carrier's lists are read, and what the database has forgotten is booked again.

All of it can be done again: a call is booked once, by its SID, so that whoever leads next goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from callfleet_core.contactlist import ContactListError
from callfleet_core.contacts import contact_id
from callfleet_core.errors import CallFleetError, StaleEpochError
from callfleet_core.phone import E164_PATTERN
from callfleet_core.pricing import CallBounds, total_micros
from callfleet_core.recovery import Booked, DatabaseReplacedError, ListedAccount, RunToClose
from callfleet_core.windows import TimeZoneError
from callfleet_operator.carriercall import CarrierCall
from callfleet_operator.carriers import source_of
from callfleet_operator.context import Context
from callfleet_operator.metrics import DIFFERENCES
from callfleet_operator.objects import Campaign
from callfleet_operator.plan.limits import limits_now
from callfleet_operator.plan.recovery import (
    Booking,
    Owner,
    SessionIndex,
    callers_of,
    campaign_of,
    is_due,
    lost_call,
    plan_owner,
    run_of,
)
from callfleet_operator.reconcile import admission, budget, campaign, contacts, installation, witness
from callfleet_operator.reconcile.snapshot import covering_accounts, namespace_budgets

EVERY_S = 5.0
DAY = timedelta(days=1)
# The carrier's clock may be ahead of ours by this much.
CLOCK_SKEW = timedelta(minutes=1)
_E164 = re.compile(E164_PATTERN)

_log = structlog.get_logger(__name__)


@dataclass
class _Pass:
    """One reading of all the lists: what it works with, and what it found."""

    since: datetime
    sessions: SessionIndex
    found: int = 0
    waiting: int = 0
    callers: Sequence[Campaign] = ()
    numbers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()


async def reconcile(context: Context) -> None:
    """Looks whether this is still the database that was trusted; one that is being rebuilt is brought on."""
    state = await witness.compare(context)
    since = state.recovering_from
    if since is None or not is_due(state, context.settings.callfleet_recovery_pass_s, context.now()):
        return
    found, problem = 0, None
    try:
        done = await _read_all(context, since)
        found = done.found
        if done.waiting:
            problem = f"{done.waiting} live calls cannot be booked before another call to their numbers is over"
    except (StaleEpochError, DatabaseReplacedError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever it was, admission stays closed, says why, and it is tried again
        problem = str(error) if isinstance(error, CallFleetError) else f"{type(error).__name__}: trying again"
    passes = await context.recovery.passed(found, problem)
    _log.warning("lists read after a restore", booked=found, complete_passes=passes, problem=problem)
    if not context.settings.callfleet_recovery_by_hand and await context.recovery.open():
        _log.warning("admission opened", booked_calls_since=since.isoformat())
    await witness.compare(context)


async def _read_all(context: Context, since: datetime) -> _Pass:
    await _prepare(context)
    current = _Pass(since, SessionIndex(context.store.sessions()))
    for account in await context.recovery.accounts(since):
        current.callers = [item for item in context.store.campaigns() if source_of(item) == account.source]
        if account.used or current.callers:
            await _read_account(context, current, account)
    return current


async def _prepare(context: Context) -> None:
    """Everything that Kubernetes knows is in the database before a call is judged, and before admission opens."""
    for source in {source_of(item) for item in context.store.campaigns()}:
        await context.carriers.look(source)
    await admission.put_limits_in_force(context)
    await installation.reconcile(context)
    for item in context.store.campaigns():
        try:
            await contacts.load(context, item)
        except ContactListError as error:  # its Campaign says so; its people are found by the calls' numbers
            _log.warning("contacts not loaded", campaign=item.meta.name, error=type(error).__name__)


async def _read_account(context: Context, current: _Pass, account: ListedAccount) -> None:
    current.numbers = {item.meta.uid: frozenset(item.spec.call.from_) for item in current.callers}
    used = await context.recovery.numbers_used(account.account_sid, current.since)
    current.ours = frozenset(used).union(*current.numbers.values())
    carrier = await context.carriers.client(account.account_sid)
    for start, end in _days(current.since, context.now() + CLOCK_SKEW):
        async for calls in carrier.day(start, end):
            known = await context.ledger.known_sids([call.sid for call in calls])
            # In their order, so that of several calls to a number each finds the attempt that it was made for.
            for call in sorted(calls, key=lambda item: item.created or start):
                if call.sid not in known and call.from_ in current.ours and _E164.fullmatch(call.to):
                    await _book(context, current, account, call)


def _days(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    while since < until:
        yield since, min(since + DAY, until)
        since += DAY


async def _book(context: Context, current: _Pass, account: ListedAccount, call: CarrierCall) -> None:
    created = call.created or context.now()

    def person(namespace: str) -> UUID:
        return contact_id(namespace, call.to, context.subjects.hash_key)

    callers = callers_of(current.callers, current.numbers, call)
    named = current.sessions.naming(call, callers, person)
    places = [RunToClose(*run_of(item), person(item.meta.namespace)) for item in callers]
    known = named is not None and campaign_of(named, callers) is not None
    listed = set() if known else await context.recovery.listing(places)
    its_campaign = context.store.campaign(named.meta.namespace, named.spec.campaign) if named else None
    owner = plan_owner(call, callers, named, listed, its_campaign)
    for namespace in {owner.namespace, *(item.meta.namespace for item in owner.closes)}:
        await context.recovery.keep_person(namespace, call.to)
    booking = Booking(
        account_sid=account.account_sid,
        number_hash=context.recovery.hash_of(call.to),
        contact_id=person(owner.namespace),
        currency=context.costs.currency,
        hold_micros=_most_micros(context, call, owner, created),
        accounts=await _accounts(context, owner, created),
        closes=tuple(place for place, item in zip(places, callers, strict=True) if item in owner.closes),
        created=created,
    )
    result = await context.recovery.book(lost_call(call, owner, booking))
    current.waiting += result is Booked.NUMBER_OPEN
    if result in {Booked.ADOPTED, Booked.RECOVERED}:
        current.found += 1
        DIFFERENCES.labels(kind="Lost").inc()
        _log.warning("lost call booked", call_sid=call.sid, result=result.value, campaign=owner.campaign_name)


def _most_micros(context: Context, call: CarrierCall, owner: Owner, created: datetime) -> int:
    """What the call costs at most; of one that is over, its own length bounds it. Raises NoPriceError."""
    limit_s = call.duration_s or 0 if call.is_final else owner.time_limit_s
    return total_micros(context.costs.worst_case(CallBounds(call.to, limit_s), created))


async def _accounts(context: Context, owner: Owner, created: datetime) -> tuple[str, ...]:
    """The accounts in which the call was held, with their limits of that time in force; else the installation's."""
    await installation.put_in_force(context, created)
    keys: list[str] = []
    for payer in owner.payers:
        try:
            await campaign.set_limits(context, payer, created)
            for item in context.store.budgets():
                if item.meta.namespace == payer.meta.namespace:
                    await _set_budget(context, item.meta.name, payer.meta.namespace, created)
            found, _ = covering_accounts(context, payer, created, namespace_budgets(context))
            keys += found
        except TimeZoneError:
            continue  # such a campaign calls nobody
    return tuple(sorted(set(keys))) or installation.keys(context, created)


async def _set_budget(context: Context, name: str, namespace: str, created: datetime) -> None:
    found = context.store.budget(namespace, name)
    if found is not None:
        limits = limits_now(found.spec.limits, found.spec.time_zone, created)
        closed = found.spec.suspend or found.meta.deleted
        await budget.put_in_force(context, "Budget", found.meta, limits, found.spec.currency, suspended=closed)
