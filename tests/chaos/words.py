"""What is said of calls: that they were placed, answered, ended; late, twice, in contradiction, by wrong clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.chaos.player import Known, Player
from tests.chaos.world import pod_of

from callfleet_core.dialing import EndEvidence

_FINAL: Final = ("completed", "completed", "completed", "busy", "no-answer", "failed", "canceled")
_NOT_FINAL: Final = ("notPlaced", "unresolved")


async def placed(player: Player, known: Known) -> None:
    """Says which call it is; sometimes another one than before, or another attempt's."""
    choose, key = player.random, player.history.next_key()
    sid = choose.choice(known.sids) if known.sids and choose.random() < 0.4 else f"CA-{key}"
    if choose.random() < 0.01:
        sid = choose.choice([sid, *choose.choice(list(player.known.values())).sids])
    known.sids.append(sid)
    who = _who(player, known)

    async def call(key: str) -> str:
        return (await player.dialing.record_placed(known.id, sid, **who)).value

    if await player.ask("placed", {"id": str(known.id), "sid": sid, **who}, call, key=key) == "placed":
        known.state = "placed" if known.state == "dialing" else known.state


async def answered(player: Player, known: Known) -> None:
    """Says that somebody picked up, by a clock that may be wrong by days."""
    sid = known.sids[0] if known.sids else "CA-none"
    at, who = _clock(player), _who(player, known)

    async def call(key: str) -> bool:
        return await player.dialing.record_answered(known.id, at, call_sid=sid, **who)

    await player.ask("answered", {"id": str(known.id), "sid": sid, "at": at.timestamp(), **who}, call)


async def ended(player: Player, known: Known) -> None:
    """Says how it ended; what is said may be late, said before, or contradict what was said."""
    choose, key = player.random, player.history.next_key()
    status = choose.choice(_FINAL) if choose.random() < 0.7 else choose.choice(_NOT_FINAL)
    sid = None
    if status in _FINAL and choose.random() < 0.5:
        sid = known.sids[0] if known.sids and choose.random() < 0.9 else f"CA-{key}"
        known.sids.append(sid)
    who = _who(player, known)
    evidence = EndEvidence(
        source="worker" if who else "callback", status=status, call_sid=sid, error_code=key, at=_clock(player),
        duration_s=choose.randint(1, 120) if status == "completed" else None,
    )  # fmt: skip

    async def call(key: str) -> bool:
        return await player.dialing.record_ended(known.id, evidence, **who)

    if await player.ask("ended", {"id": str(known.id), "status": status, "sid": sid, **who}, call, key=key):
        known.state, known.end_status = "ended", status


def _who(player: Player, known: Known) -> dict[str, Any]:
    """A worker says which pod it is, the gateway does not."""
    if player.random.random() < 0.5:
        return {}
    return {"pod_uid": pod_of(known.person) if player.random.random() < 0.95 else "another", "generation": 1}


def _clock(player: Player) -> datetime:
    jump = timedelta(days=player.random.choice((-400, -1, 1, 400))) if player.random.random() < 0.1 else timedelta()
    return datetime.now(UTC) + jump
