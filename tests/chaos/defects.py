"""Deliberate defects, for tests of the checker only: small patches of the ledger's SQL, or of a client's class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import psycopg
from psycopg.rows import TupleRow
from tests.chaos.player import FollowingLedger

from callfleet_core.dialing import DialStore
from callfleet_core.ledger import HoldAnswer, HoldRequest, Settlement


@dataclass(frozen=True)
class Patch:
    """`old` becomes `new` in an SQL function; without a function, `new` is a statement. It must be found."""

    function: str
    old: str
    new: str


class _SwappedAnswers(FollowingLedger):
    """Tells the callers of a batch each other's answers."""

    async def hold(self, requests: Sequence[HoldRequest]) -> list[HoldAnswer]:
        answers = await super().hold(requests)
        swapped = zip(answers, reversed(answers), strict=True)
        return [replace(answer, result=other.result, account=other.account) for answer, other in swapped]


class _UnseenEnd(DialStore):
    """Says that a call's end was taken without asking."""

    async def record_ended(self, *_: object, **__: object) -> bool:
        return True


class _StaleClient(FollowingLedger):
    """Writes under whatever epoch is in force, not under its own."""

    async def hold(self, requests: Sequence[HoldRequest]) -> list[HoldAnswer]:
        own = self._epoch
        await self.follow()
        try:
            return await super().hold(requests)
        finally:
            self._epoch = own


class _BlindSettlement(FollowingLedger):
    """Posts what was priced, whatever the end is meanwhile."""

    async def settle_batch(self, settlements: Sequence[Settlement]) -> list[str]:
        return await super().settle_batch([replace(each, seen=None) for each in settlements])


_LEDGERS: Final[dict[str, type[FollowingLedger]]] = {
    "swapped-answers": _SwappedAnswers,
    "stale-client": _StaleClient,
    "blind-settlement": _BlindSettlement,
}
_STORES: Final[dict[str, type[DialStore]]] = {"unseen-end": _UnseenEnd}

PATCHES: Final[dict[str, Patch]] = {
    "epoch-unchecked": Patch("ledger_assert_epoch", "AND epoch = p_epoch", "AND epoch >= 0"),
    "epoch-not-raised": Patch("ledger_take_epoch", "epoch = epoch + 1", "epoch = epoch"),
    "held-not-counted": Patch(
        "ledger_covers", "a.spent_micros + a.held_micros + asked.amount", "a.spent_micros + asked.amount"
    ),
    "batch-not-summed": Patch("ledger_covers", "sum(t.amount_micros) AS amount", "max(t.amount_micros) AS amount"),
    "one-by-one-unchecked": Patch("ledger_post_one_by_one", "IF v.refusal IS NULL THEN", "IF true THEN"),
    "refusal-without-held": Patch(
        "ledger_refusal",
        "v.spent_micros + v.held_micros + p_amount <= v.limit_micros",
        "v.spent_micros + p_amount <= v.limit_micros",
    ),
    "accounts-not-locked": Patch("ledger_lock_accounts", "ORDER BY id FOR NO KEY UPDATE", "ORDER BY id"),
    "balance-of-one-entry": Patch(
        "ledger_post_holds", "sum(held_micros) AS held_micros", "max(held_micros) AS held_micros"
    ),
    "refused-grant-kept": Patch("ledger_hold", "t.granted AND t.refusal IS NOT NULL);", "false);"),
    "asked-again-always-held": Patch(
        "hold_without_called", "CASE WHEN same.state = 'granted' THEN", "CASE WHEN true THEN"
    ),
    "tries-not-counted": Patch("hold_without_called", "past.tries >= t.max_attempts", "false"),
    "called-again": Patch("hold_without_called", "past.closed OR", "false OR"),
    "numbers-not-unique": Patch("", "", "DROP INDEX dial_attempts_one_open_per_number"),
    "release-keeps-held": Patch("ledger_release", "a.held_micros - h.amount_micros", "a.held_micros"),
    "release-unposted": Patch("ledger_release", "WHERE h.attempt_id = p_attempt;", "WHERE false;"),
    "revoke-takes-dialing": Patch("ledger_revoke", "v_state = 'granted'", "v_state IN ('granted', 'dialing')"),
    "revoke-twice": Patch("ledger_revoke", "v_state = 'granted'", "v_state IN ('granted', 'revoked')"),
    "settle-while-placed": Patch("settle_lock", "(a.state = 'ended' OR", "(a.state IN ('placed', 'ended') OR"),
    "end-not-compared": Patch("settle_lock", "COALESCE(a.seen = a.end_status, true)", "true"),
    "settle-returns-the-spent": Patch(
        "ledger_post_settlements", "ELSE -h.amount_micros END", "ELSE -LEAST(t.actual_micros, h.amount_micros) END"
    ),
    "settlements-not-summed": Patch("ledger_post_settlements", "sum(p.spent_micros)", "max(p.spent_micros)"),
    "overrun-unmarked": Patch("ledger_post_settlements", "a.overrun OR p.above_hold OR", "a.overrun OR"),
    "late-returns-hold-again": Patch(
        "ledger_post_settlements", "CASE WHEN t.late THEN 0 ELSE -h.amount_micros END", "-h.amount_micros"
    ),
    "late-posted-again": Patch("ledger_post_settlements", "CASE WHEN t.late THEN NULL ELSE a.reason END", "a.reason"),
    "late-capped": Patch("ledger_post_settlements", "a.spent_micros + p.spent_micros", "a.spent_micros"),
    "limit-goes-back": Patch("ledger_set_limit", "v.limit_generation > p_generation", "false"),
    "nonce-not-compared": Patch("begin_dial", "v.nonce = p_nonce AND", ""),
    "begun-by-two": Patch("begin_dial", "WHERE id = p_attempt FOR UPDATE;", "WHERE id = p_attempt;"),
    "same-nonce-refused": Patch("begin_dial", "IF v.state = 'dialing' AND", "IF false AND"),
    "refused-keeps-money": Patch("begin_dial", "PERFORM ledger_release(p_attempt, v_reason);", "NULL;"),
    "cancel-ignored": Patch("begin_dial_refusal", "v.cancel_requested_at IS NOT NULL", "false"),
    "expiry-ignored": Patch("begin_dial_refusal", "grant_is_over(v)", "false"),
    "any-pod": Patch("begin_dial_refusal", "v.granted_pod_uid <> p_pod_uid", "false"),
    "any-worker": Patch("worker_owns", "AND owner_pod_uid = p_pod_uid", ""),
    "sid-overwritten": Patch("record_placed", "v.call_sid IS NOT NULL THEN", "false THEN"),
    "ended-again": Patch(
        "record_ended", "v.state IN ('dialing', 'placed')", "v.state IN ('dialing', 'placed', 'ended')"
    ),
    "another-calls-end": Patch("record_ended", "v.call_sid <> v_sid", "false"),
    "late-word-unmarked": Patch("record_ended", "THEN 'LateEvidence'", "THEN v.reason"),
    "answer-overwritten": Patch("record_answered", "AND answered_at IS NULL", ""),
}
DEFECTS: Final = (*PATCHES, *_LEDGERS, *_STORES)


def client_parts(defect: str | None) -> tuple[type[FollowingLedger], type[DialStore]]:
    """The classes that a client uses: core's, unless the defect is in one of them."""
    return _LEDGERS.get(defect or "", FollowingLedger), _STORES.get(defect or "", DialStore)


def break_database(url: str, defect: str) -> None:
    """Puts the defect into a scratch database. Raises LookupError where there is nothing to patch any more."""
    if defect in PATCHES:
        put(url, defect, PATCHES[defect])


def put(url: str, defect: str, patch: Patch) -> None:
    """The same for a patch that may be another's. Raises LookupError where it is not found."""
    with psycopg.connect(url, autocommit=True) as connection:
        apply(connection, defect, patch)


def apply(connection: psycopg.Connection[TupleRow], defect: str, patch: Patch) -> None:
    """The same in a transaction of the caller's."""
    statement = patch.new
    if patch.function:
        row = connection.execute("SELECT pg_get_functiondef(%s::regproc)", (patch.function,)).fetchone()
        assert row is not None
        if patch.old not in row[0]:
            raise LookupError(f"defect {defect}: {patch.function} has no {patch.old!r} any more; write it anew")
        statement = row[0].replace(patch.old, patch.new)
    connection.execute(statement.encode())
