"""For how many people a campaign has sessions, and who of them keeps nobody behind them from having one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from callfleet_core.api.callsession import Reason, SessionState
from callfleet_core.runs import RunCounts
from callfleet_operator.objects import Campaign, Session, parse_time
from callfleet_operator.plan.hours import hours_of, is_over

# Each is an object, and is looked at in each cycle: beside lookAhead there are so many at most.
ASIDE_AT_MOST = 1_000
# Whoever is called within so little time is waited for.
SOON = timedelta(minutes=5)
# Nothing that comes and goes by itself lets these people be called, perhaps ever.
_PERHAPS_NEVER = frozenset({Reason.DO_NOT_CALL, Reason.NO_CONSENT, Reason.NO_PRICE, Reason.PER_CALL_LIMIT})


def plan_room(campaign: Campaign, sessions: Sequence[Session], now: datetime) -> int:
    """For how many more people sessions may be made; `sessions`: all of the campaign's. Below 1: for nobody."""
    unfinished = unfinished_of_run(campaign, sessions)
    return campaign.spec.look_ahead - len(unfinished) + min(_aside(campaign, unfinished, now), ASIDE_AT_MOST)


def unfinished_of_run(campaign: Campaign, sessions: Sequence[Session]) -> list[Session]:
    """The sessions of the run that the campaign makes now which are not over."""
    return [item for item in sessions if item.spec.run_id == campaign.spec.run_id and not item.is_terminal]


def kept_back(campaign: Campaign, sessions: Sequence[Session], contacts: RunCounts, now: datetime) -> str:
    """That people further down the list have no session because too many before them cannot be called, or nothing."""
    unfinished = unfinished_of_run(campaign, sessions)
    aside = _aside(campaign, unfinished, now)
    if aside <= ASIDE_AT_MOST or contacts.done + len(unfinished) >= contacts.total:
        return ""
    return (
        f"{aside} people wait for something of their own: beyond {ASIDE_AT_MOST}, each takes the place of one further"
        " down; raise lookAhead, or take whoever may never be called off the contacts; "
    )


def _aside(campaign: Campaign, unfinished: Sequence[Session], now: datetime) -> int:
    """How many wait for something of their own, while others behind them could be called."""
    hours = hours_of(campaign.spec)
    # Where everybody's hours are the same, those behind wait for them, too.
    by_callees_clock = hours is not None and hours.by_callees_clock and not is_over(hours, now)

    def is_aside(session: Session) -> bool:
        if session.state is not SessionState.PENDING:
            return False
        reason, retry_at = session.status.get("reason"), session.status.get("retryAt")
        is_later = retry_at is not None and parse_time(retry_at) > now + SOON
        if reason == Reason.OUTSIDE_CALLING_HOURS:
            return by_callees_clock and (retry_at is None or is_later)
        return reason in _PERHAPS_NEVER or (reason == Reason.RETRY_SCHEDULED and is_later)

    return sum(map(is_aside, unfinished))
