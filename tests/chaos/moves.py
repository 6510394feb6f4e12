"""What the clients do: the operator's holds, limits and settlements, the workers' dials, and everybody's evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from tests.chaos.player import CUT, Known, Player
from tests.chaos.settling import settle
from tests.chaos.words import answered, ended, placed
from tests.chaos.world import (
    BUDGETS,
    CAMPAIGN_ACCOUNT,
    HOLD_MICROS,
    MICROS,
    PEOPLE,
    RUNS,
    budget,
    budget_account,
    pod_of,
)
from tests.integration.books import CAMPAIGN, NAMESPACE

from callfleet_core.dialing import DialDecision, Verdict
from callfleet_core.ledger import HoldAnswer, HoldRequest
from callfleet_core.windows import TOTAL

Move = Callable[[Player, Known], Awaitable[None]]


async def hold(player: Player, items: int) -> None:
    """Holds a batch; some items ask again what was asked before, some for one number twice."""
    asked = [_wanted(player) for _ in range(items)]
    if player.random.random() < 0.6:  # of one campaign, as a cycle's mostly are: one budget for all
        asked = [item | {"budgets": asked[0]["budgets"][:1]} for item in asked]
    if items > 1 and player.random.random() < 0.2:
        asked.append(asked[0] | {"id": str(player.uuid())})
    args = {"epoch": player.ledger.epoch, "items": asked}

    async def call(key: str) -> list[list[str | None]]:
        return [said(answer) for answer in await player.ledger.hold([request(player, item) for item in asked])]

    answers = await player.ask("hold", args, call, items=len(asked))
    for index, item in enumerate(asked):
        # Without an answer it may be held.
        if answers is None or answers[index][1] == "Held":
            known = Known(UUID(item["id"]), item["person"], item["run"], item["amount"])
            player.remember(player.known.get(known.id, known))


def _wanted(player: Player) -> dict[str, Any]:
    choose = player.random
    known = choose.choice(list(player.known.values())) if player.known else None
    if known and choose.random() < 0.04:
        return _item(player, known.id, known.person, known.run, known.hold_micros)
    amount = choose.randrange(*HOLD_MICROS)
    if known and choose.random() < 0.2:  # to be called again
        known = choose.choice([each for each in player.known.values() if _to_retry(each)] or [known])
        again = {"number": choose.choice((1, 2, 2, 3))}
        return _item(player, player.uuid(), known.person, known.run, amount) | again
    return _item(player, player.uuid(), choose.randrange(PEOPLE), choose.randint(1, RUNS), amount)


def _to_retry(known: Known) -> bool:
    return known.state == "over" and known.end_status in {"busy", "no-answer", "canceled", "notPlaced"}


def _item(player: Player, attempt: UUID, person: int, run: int, amount: int) -> dict[str, Any]:
    choose = player.random
    return {
        "id": str(attempt), "person": person, "run": run, "number": choose.choice((1, 1, 1, 2, 3)), "amount": amount,
        "budgets": sorted(choose.sample(range(BUDGETS), choose.choice((1, 1, 2, 3)))),
        "expires_s": 0 if choose.random() < 0.06 else 120,
    }  # fmt: skip


def request(player: Player, item: dict[str, Any]) -> HoldRequest:
    """What the history's `item` asks for."""
    return player.world.request(
        UUID(item["id"]), person=item["person"], run=item["run"], number=item["number"],
        amount_micros=item["amount"], budgets=item["budgets"], expires_s=item["expires_s"],
    )  # fmt: skip


def said(answer: HoldAnswer) -> list[str | None]:
    """An answer, as the history has it."""
    return [str(answer.attempt_id), answer.result.value, answer.account]


async def set_limit(player: Player) -> None:
    """Sets a budget's limit near what is spent; sometimes with a generation that is over."""
    index, choose = player.random.randrange(BUDGETS), player.random
    try:
        balance = await player.ledger.balance(budget_account(index))
    except CUT:
        return
    if balance is None:
        return
    limit = max(balance.spent_micros, 0) + choose.randrange(900 * MICROS)
    newest = balance.limit_generation
    generation = newest + choose.choice((-1, 1, 1, 1, 2, 3))
    args = {"epoch": player.ledger.epoch, "account": budget_account(index), "limit": limit, "generation": generation}

    async def call(key: str) -> str:
        result = await player.ledger.set_limit(
            namespace=NAMESPACE, kind="Budget", name=budget(index), window=TOTAL, currency="USD",
            limit_micros=limit, suspended=False, uid="1", generation=generation,
        )  # fmt: skip
        return result.value

    await player.ask("set_limit", args, call)


async def look(player: Player) -> None:
    """Looks at the campaign's overrun, if there is one: until somebody has, nothing is held for the campaign."""
    try:
        balance = await player.ledger.balance(CAMPAIGN_ACCOUNT)
    except CUT:
        return
    if balance is None or not balance.overrun:
        return
    generation = balance.limit_generation + 1
    args = {"epoch": player.ledger.epoch, "account": CAMPAIGN_ACCOUNT, "generation": generation}

    async def call(key: str) -> str:
        result = await player.ledger.set_limit(
            namespace=NAMESPACE, kind="Campaign", name=CAMPAIGN, window=TOTAL, currency="USD",
            limit_micros=None, suspended=False, uid=balance.limit_uid, generation=generation,
        )  # fmt: skip
        return result.value

    await player.ask("look", args, call)


async def take_epoch(player: Player) -> None:
    """Leads from now on; all others are stale until they follow."""

    async def call(key: str) -> int:
        return await player.ledger.take_epoch()

    await player.ask("take_epoch", {}, call)


async def begin(player: Player, known: Known) -> None:
    """Asks for the right to dial: anew, or again with the nonce of before; sometimes as another pod."""
    choose = player.random
    nonce = choose.choice(known.nonces) if known.nonces and choose.random() < 0.6 else player.uuid()
    pod = pod_of(known.person) if choose.random() < 0.95 else "another"
    known.nonces.append(nonce)
    args = {"id": str(known.id), "nonce": str(nonce), "pod": pod}

    async def call(key: str) -> list[str | None]:
        return _decided(await player.dialing.begin_dial(known.id, pod, nonce))

    answer = await player.ask("begin", args, call)
    if answer is None or answer[0] == Verdict.GO:
        known.state = "dialing"
    elif answer[0] == Verdict.REFUSED and pod != "another":
        known.state = "over" if known.state == "granted" else known.state


def _decided(decision: DialDecision) -> list[str | None]:
    return [decision.verdict.value, decision.reason]


async def revoke(player: Player, known: Known) -> None:
    """Takes a grant back; the reason is the operation's key."""
    key = player.history.next_key()

    async def call(key: str) -> str:
        return await player.ledger.revoke(known.id, key)

    args = {"epoch": player.ledger.epoch, "id": str(known.id)}
    if await player.ask("revoke", args, call, key=key) == "revoked":
        known.state = "over"


async def cancel(player: Player, known: Known) -> None:
    """Asks that the call be ended, or never begun."""

    async def call(key: str) -> None:
        await player.ledger.request_cancel(known.id)

    await player.ask("cancel", {"epoch": player.ledger.epoch, "id": str(known.id)}, call)


# What is mostly done in a state, and everything else now and then.
_ANY: Final[dict[Move, int]] = {begin: 3, placed: 3, answered: 1, ended: 3, settle: 3, revoke: 2, cancel: 1}
USUAL: Final[dict[str, dict[Move, int]]] = {
    "granted": _ANY | {begin: 60, revoke: 12, cancel: 3},
    "dialing": _ANY | {placed: 35, ended: 30, begin: 8, settle: 6},
    "placed": _ANY | {answered: 10, ended: 45, placed: 5, settle: 9},
    "ended": _ANY | {settle: 35, ended: 14},
    "over": _ANY | {ended: 6, settle: 6},
}


async def move(player: Player, known: Known) -> None:
    """Does one thing with an attempt, sometimes twice at one moment."""
    moves = USUAL[known.state]
    (chosen,) = player.random.choices(list(moves), list(moves.values()))
    times = 2 if player.random.random() < 0.1 else 1
    await asyncio.gather(*(chosen(player, known) for _ in range(times)))
