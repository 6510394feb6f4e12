"""Which voice the next words get (C3): the local one, or the hosted one that costs money. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

# A lead that is more likely than not to become a customer is worth the better voice.
DEFAULT_THRESHOLD = Decimal("0.70")


class Tier(StrEnum):
    """A voice by what it costs."""

    STANDARD = "standard"
    PREMIUM = "premium"


class PremiumPolicy(StrEnum):
    """When a campaign wants the premium voice."""

    NEVER = "Never"
    HOT_LEADS = "HotLeads"
    ALWAYS = "Always"


@dataclass(frozen=True)
class TierDecision:
    """The voice, and why: one of "policy", "score", "budget", "wanted"."""

    tier: Tier
    reason: str


def choose_tier(
    policy: PremiumPolicy,
    *,
    lead_score: Decimal | None,
    characters: int,
    characters_left: int,
    threshold: Decimal = DEFAULT_THRESHOLD,
) -> TierDecision:
    """The tier for the next `characters`.

    `lead_score` is 0.00 to 1.00, None while nothing is known. `characters_left` is what the hold has left of its
    premium cap: words that do not fit are spoken by the local voice, so that no cap is ever overrun.
    """
    if policy is PremiumPolicy.NEVER:
        return TierDecision(Tier.STANDARD, "policy")
    if policy is PremiumPolicy.HOT_LEADS and (lead_score is None or lead_score < threshold):
        return TierDecision(Tier.STANDARD, "score")
    if characters > characters_left:
        return TierDecision(Tier.STANDARD, "budget")
    return TierDecision(Tier.PREMIUM, "wanted")
