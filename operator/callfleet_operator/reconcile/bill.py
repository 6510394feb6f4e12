"""The daily reconciliation: the carrier's list of a day against the ledger (docs/operations.md).

Whatever differs is kept, counted, logged and told to its Campaign; another price is posted as a correction. All of it
can be done again: a day that was cut short is begun anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from callfleet_core.errors import CallFleetError, CarrierError, StaleEpochError
from callfleet_core.reconciliation import BookedCall, CarrierDay, Difference, DifferenceKind, Reconciliations
from callfleet_operator.carriercall import CarrierCall
from callfleet_operator.context import Context
from callfleet_operator.metrics import DIFFERENCES, UNCOMPARED
from callfleet_operator.plan.bill import compare, is_final_look, missing, next_look, next_try, summary
from callfleet_operator.reconcile.attempts import find_call, record_end
from callfleet_operator.reconcile.settlement import show_money

EVERY_S = 30.0
# Calls of ours that the carrier's list of the day lacks, asked for one by one; more say that the list is not ours.
MAX_FETCHED = 1_000

# Of an account that others call with, too, so many foreign calls of a day are kept; the others are only counted.
MAX_UNKNOWN = 1_000

_Pair = tuple[CarrierCall, BookedCall | None]

_log = structlog.get_logger(__name__)


@dataclass
class _Tally:
    """What one look at a day found: its calls, and the differences that are news, by namespace, campaign, currency."""

    day: CarrierDay
    final_look: bool
    calls: int = 0
    open_calls: int = 0
    unknown: int = 0
    seen: set[str] = field(default_factory=set)
    news: dict[tuple[str, str, str], list[Difference]] = field(default_factory=lambda: defaultdict(list))

    def remember(self, booked: BookedCall | None, item: Difference) -> None:
        """Takes in a difference that was not known before."""
        DIFFERENCES.labels(kind=item.kind.value).inc()
        owner = (booked.namespace, booked.campaign, booked.currency) if booked is not None else ("", "", "")
        self.news[owner].append(item)


async def reconcile(context: Context) -> None:
    """Looks at every day that is due; each one's trouble is its own."""
    books = Reconciliations(context.engine, lambda: context.ledger.epoch)
    for day in await books.due(context.now()):
        try:
            await _compare_day(context, books, day)
        except StaleEpochError:
            raise
        except Exception as error:  # noqa: BLE001  # one account's trouble must not keep the others waiting
            problem = str(error) if isinstance(error, CallFleetError) else f"{type(error).__name__}: trying again"
            _log.warning("carrier's day not compared", day=str(day.day), error=type(error).__name__)
            await books.fail(day, problem, next_try(day, context.now()))
    UNCOMPARED.set(await books.failing())


async def _compare_day(context: Context, books: Reconciliations, day: CarrierDay) -> None:
    now = context.now()
    tally = _Tally(day, is_final_look(day, now))
    await _search_unresolved(context, books, day)
    carrier = await context.carriers.client(day.account_sid)
    async for calls in carrier.day(day.start, day.end):
        tally.seen.update(call.sid for call in calls)
        booked = await books.booked([call.sid for call in calls])
        await _judge(context, books, tally, [(call, booked.get(call.sid)) for call in calls])
    await _fetch_unlisted(context, books, tally)
    await _tell(context, tally)
    await books.finish(
        day, calls=tally.calls, open_calls=tally.open_calls, next_at=next_look(day, now, tally.open_calls)
    )
    _log.info(
        "carrier's day compared", day=str(day.day), calls=tally.calls, open=tally.open_calls, unknown=tally.unknown
    )


async def _search_unresolved(context: Context, books: Reconciliations, day: CarrierDay) -> None:
    """Looks once more for dials that nobody knew of: a day later the carrier's list is complete."""
    for attempt_id, begun in await books.unresolved(day):
        try:
            call = await find_call(context, attempt_id, day.account_sid, begun)
        except CarrierError:
            raise
        except CallFleetError as error:  # the person's number cannot be read any more: nothing to search by
            _log.warning("dial not searched for", attempt=str(attempt_id), error=type(error).__name__)
            continue
        await context.ledger.note_lookup(attempt_id, empty=call is None)
        if call is not None:
            await context.dialing.record_placed(attempt_id, call.sid)


async def _judge(context: Context, books: Reconciliations, tally: _Tally, pairs: Sequence[_Pair]) -> None:
    found: list[tuple[BookedCall | None, Difference]] = []
    for call, booked in pairs:
        finding = compare(call, booked, final_look=tally.final_look)
        tally.calls += 1
        tally.open_calls += finding.is_open
        found += [(booked, item) for item in finding.differences]
        if booked is None:
            continue
        if finding.give_evidence:
            await record_end(context, booked.id, call, call.ended or context.now())
        if finding.price_micros is not None:
            delta = await books.correct(booked.id, tally.day, finding.price_micros)
            if delta is not None:
                show_money(context, booked)
                tally.remember(booked, Difference(DifferenceKind.PRICE, call.sid, booked.id, delta_micros=delta))
    await _keep(books, tally, found)


async def _fetch_unlisted(context: Context, books: Reconciliations, tally: _Tally) -> None:
    """Calls that the day's list lacks: created on a neighbouring day, canceled before they were dialled, or gone."""
    unlisted = sorted(await books.placed_sids(tally.day) - tally.seen)
    if len(unlisted) > MAX_FETCHED:
        raise CarrierError(
            f"the carrier's list lacks {len(unlisted)} calls that were placed on {tally.day.day}: do the credentials"
            " still belong to this account?"
        )
    carrier = await context.carriers.client(tally.day.account_sid)
    booked = await books.booked(unlisted)
    for sid in unlisted:
        call = await carrier.fetch(sid)
        if call is None:
            tally.calls += 1
            await _keep(books, tally, [(booked[sid], missing(booked[sid]))])
        else:
            await _judge(context, books, tally, [(call, booked[sid])])


async def _keep(books: Reconciliations, tally: _Tally, found: Sequence[tuple[BookedCall | None, Difference]]) -> None:
    kept = []
    for booked, item in found:
        tally.unknown += booked is None
        if booked is not None or tally.unknown <= MAX_UNKNOWN:
            kept.append((booked, item))
    news = set(await books.note(tally.day, [item for _, item in kept])) if kept else set()
    for booked, item in kept:
        if item in news:
            tally.remember(booked, item)


async def _tell(context: Context, tally: _Tally) -> None:
    """The news, in the log and on each Campaign that still exists."""
    for (namespace, name, currency), news in tally.news.items():
        message = summary(tally.day, news, currency)
        _log.warning("carrier's bill differs", day=str(tally.day.day), namespace=namespace, campaign=name, told=message)
        campaign = context.store.campaign(namespace, name)
        if campaign is not None:
            await context.tell("Campaign", campaign.meta, "CarrierBillDiffers", message, warning=True)
