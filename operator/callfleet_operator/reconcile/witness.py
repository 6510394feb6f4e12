"""The witness outside of PostgreSQL: is the database still the one that this operator trusted?

The leader gives the database a new token every few seconds and keeps a copy in a ConfigMap. A database without the
ConfigMap's token is older than it: admission is closed before anything is planned (docs/decisions/0018).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import structlog

from callfleet_core.recovery import DatabaseReplacedError, DatabaseState
from callfleet_operator.apiserver import ConflictError
from callfleet_operator.context import Context
from callfleet_operator.metrics import RECOVERING
from callfleet_operator.objects import Key
from callfleet_operator.plan.recovery import Witness, doubt, told

NAME = "callfleet-ledger-witness"
# A database that could not be compared with its witness for so long admits nobody.
FRESH_FOR_S = 30.0
_PURPOSE = b"callfleet: whose witness this is"

_log = structlog.get_logger(__name__)


async def begin(context: Context) -> None:
    """The first look of a new leader: one that is not sure of its database closes admission, under a newer epoch.

    The leader before may be in the middle of its last write, which cannot come twice.
    """
    async with context.trust.lock:
        try:
            await _begin(context)
        except ConflictError:
            await _begin(context)


async def _begin(context: Context) -> None:
    kept = await _read(context)
    state = await context.recovery.state()
    why = doubt(state, kept.witness)
    if why is not None:
        since, outside = (kept.witness.since, kept.witness.epoch) if kept.witness else (None, 0)
        from_ = await context.recovery.close(why, since=since, epoch_outside=outside)
        _log.error("admission closed", why=why, booking_calls_since=from_.isoformat())
        await context.ledger.take_epoch()
        state = await context.recovery.state()
    await _keep(context, state, kept)


async def compare(context: Context) -> DatabaseState:
    """Compares the database with its witness, and gives both a new token.

    Raises DatabaseReplacedError when it is not the one that this operator has worked with.
    """
    async with context.trust.lock:
        return await _compare(context)


async def assert_trusted(context: Context) -> None:
    """Before anything is held: one query, and the witness where it was not asked lately.

    Raises DatabaseReplacedError, and whatever keeps the witness from being read.
    """
    trust = context.trust
    async with trust.lock:
        if trust.compared_at is None or (context.now() - trust.compared_at).total_seconds() > FRESH_FOR_S:
            await _compare(context)
        else:
            _assert_same(context, await context.recovery.state())


async def _compare(context: Context) -> DatabaseState:
    kept = await _read(context)
    state = await context.recovery.state()
    why = doubt(state, kept.witness)
    if why is not None:
        raise DatabaseReplacedError(f"{why}: starting again")
    if context.trust.tokens:
        _assert_same(context, state)
    await _keep(context, state, kept)
    return state


def _assert_same(context: Context, state: DatabaseState) -> None:
    if state.witness not in context.trust.tokens or state.identity != state.trusted_identity:
        raise DatabaseReplacedError("the database is not the one that this operator has worked with: starting again")
    _show(context, state)


@dataclass(frozen=True)
class _Kept:
    """The ConfigMap as it was read."""

    witness: Witness | None
    version: str | None


async def _read(context: Context) -> _Kept:
    """The ConfigMap; one that another installation left in this namespace, with another hash key, says nothing."""
    found = await context.kube.read_config_map(context.settings.callfleet_namespace, NAME)
    if found is None:
        return _Kept(None, None)
    data, version = found
    if data.get("installation") != _whose(context):
        return _Kept(None, version)
    return _Kept(Witness(UUID(data["witness"]), int(data["epoch"]), datetime.fromisoformat(data["since"])), version)


async def _keep(context: Context, state: DatabaseState, kept: _Kept) -> None:
    """Gives database and witness a new token; where the witness is one behind, it only catches up."""
    trust, token = context.trust, state.witness
    if token is None or (kept.witness is not None and kept.witness.token == token):
        new = uuid4()
        # The answer may be lost: until the next look either may be the database's.
        trust.tokens = frozenset({new} if token is None else {token, new})
        await context.recovery.beat(token, new)
        token = new
    trust.tokens = frozenset({token})
    since = kept.witness.since if kept.witness else context.now()
    data = {
        "witness": str(token),
        "epoch": str(context.ledger.epoch),
        "since": since.isoformat(),
        "installation": _whose(context),
    }
    await context.kube.put_config_map(context.settings.callfleet_namespace, NAME, data, kept.version)
    trust.compared_at = context.now()
    _show(context, state)


def _show(context: Context, state: DatabaseState) -> None:
    before, context.trust.recovering = context.trust.recovering, told(state)
    RECOVERING.set(context.trust.recovering is not None)
    if before != context.trust.recovering:
        for campaign in context.store.campaigns():
            context.queue.add(Key("Campaign", campaign.meta.namespace, campaign.meta.name))
        for session in context.store.sessions():
            context.queue.add(Key("CallSession", session.meta.namespace, session.meta.name))
        context.queue.add(Key("Admission"))


def _whose(context: Context) -> str:
    return hmac.new(context.subjects.hash_key, _PURPOSE, hashlib.sha256).hexdigest()
