"""A person's word: who decides, and why, as the audit log keeps them for ever."""

from __future__ import annotations

from callfleet_core.errors import CallFleetError

MAX_ACTOR, MAX_REASON = 200, 1_000


class WordMissingError(CallFleetError):
    """Nobody said who decides, or why; nothing was changed."""


def word(actor: str, reason: str) -> tuple[str, str]:
    """Both, without what surrounds them. Raises WordMissingError where one is empty or too long for the audit log."""
    who, why = actor.strip(), reason.strip()
    if not 0 < len(who) <= MAX_ACTOR:
        raise WordMissingError(f"say who decides (--actor), in at most {MAX_ACTOR} characters")
    if not 0 < len(why) <= MAX_REASON:
        raise WordMissingError(f"say why (--reason), in at most {MAX_REASON} characters")
    return who, why
