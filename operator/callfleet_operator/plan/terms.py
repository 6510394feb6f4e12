"""What a session's call is subject to: its Campaign's word as it is now, its own spec where it was made by hand. Pure.

A CallSession's spec cannot be changed, and may wait for days: what it was born with would outlast every correction.
"""

from __future__ import annotations

from callfleet_core.money import parse_micros
from callfleet_operator.objects import Campaign, Session


def priority(session: Session, campaign: Campaign) -> int:
    """Whose turn comes first."""
    return campaign.spec.priority if _is_of_campaign(session) else session.spec.priority


def time_limit_s(session: Session, campaign: Campaign) -> int:
    """The most that a call may last which is granted now; one that was granted keeps its attempt's."""
    return campaign.spec.call.max_duration_seconds if _is_of_campaign(session) else session.spec.max_duration_seconds


def ceiling_micros(session: Session, campaign: Campaign) -> int | None:
    """The most that this call may cost; None: no more than its budgets have."""
    text = campaign.spec.limits.per_call if _is_of_campaign(session) else session.spec.max_cost
    return parse_micros(text) if text else None


def _is_of_campaign(session: Session) -> bool:
    return session.spec.campaign_uid is not None
