"""Settlements: of one attempt, and of whatever is over in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

from tests.chaos.player import CUT, Known, Player
from tests.chaos.words import ended
from tests.chaos.world import session_name
from tests.integration.books import NAMESPACE

from callfleet_core.ledger import Attempt, Settlement
from callfleet_core.pricing import CostLine


async def settle(player: Player, known: Known) -> None:
    """Reads the attempt as the operator does, and posts what it cost; sometimes without a look, and too soon."""
    seen: str | None = "completed"
    if player.random.random() < (0.95 if known.state in {"ended", "over"} else 0.3):
        try:
            attempts = await player.ledger.latest_attempts(NAMESPACE, [session_name(known.person, known.run)])
        except CUT:
            return
        attempt = attempts.get(session_name(known.person, known.run))
        if attempt is None or not _to_settle(attempt):
            return
        known = player.known.get(attempt.id) or Known(attempt.id, known.person, known.run, attempt.hold_micros)
        seen = attempt.end_status
        if player.random.random() < 0.2:  # a callback comes between look and posting
            await ended(player, known)
    await _post(player, [(known, seen)])


async def settle_all(player: Player) -> None:
    """Settles whatever is over, as the operator's walk does: in one batch, of which others settle some, too."""
    try:
        attempts = await player.ledger.unsettled_attempts()
    except CUT:
        return
    over = [each for each in attempts if _to_settle(each)]
    chosen = player.random.sample(over, min(len(over), player.random.choice((5, 20, 60))))
    people = {person: index for index, person in enumerate(player.world.people)}
    batch = [(player.known.get(each.id) or _met(each, people[each.contact_id]), each.end_status) for each in chosen]
    for known, _ in batch:
        if player.random.random() < 0.15:  # a callback comes between look and posting
            await ended(player, known)
    await _post(player, batch)


def _met(attempt: Attempt, person: int) -> Known:
    return Known(attempt.id, person, int(attempt.run_id), attempt.hold_micros)


def _to_settle(attempt: Attempt) -> bool:
    return attempt.state == "ended" or (attempt.state == "settled" and attempt.reason == "LateEvidence")


async def _post(player: Player, batch: Sequence[tuple[Known, str | None]]) -> None:
    """One call for all; in the history each is an operation of its own, so that each is judged."""
    asked = [(player.history.next_key(), known, seen, _cost(player, known, seen)) for known, seen in batch]
    if not asked:
        return
    settlements = [
        Settlement(known.id, [CostLine(key, Decimal(1), amount)], seen) for key, known, seen, amount in asked
    ]
    posting: asyncio.Future[list[str]] = asyncio.Future()

    def answer_of(place: int) -> Callable[[str], Awaitable[str]]:
        async def call(_: str) -> str:
            return (await posting)[place]

        return call

    async def post() -> None:
        try:
            posting.set_result(await player.ledger.settle_batch(settlements))
        except Exception as error:  # noqa: BLE001  # it is every operation's
            posting.set_exception(error)

    async def ask(place: int) -> str | None:
        key, known, seen, amount = asked[place]
        # The epoch is read as the operations are written down: the hands of a client share their ledger.
        args = {"epoch": player.ledger.epoch, "id": str(known.id), "amount": amount, "seen": seen}
        state: str | None = await player.ask("settle", args, answer_of(place), key=key)
        return state

    # The operations are all written down before the first word is sent.
    *states, _ = await asyncio.gather(*map(ask, range(len(asked))), post())
    for known, state in zip((known for _, known, _, _ in asked), states, strict=True):
        if state == "settled":
            known.state = "over"


def _cost(player: Player, known: Known, seen: str | None) -> int:
    if seen != "completed":
        return 0
    return player.random.randint(1, known.hold_micros * (3 if player.random.random() < 0.03 else 1))
