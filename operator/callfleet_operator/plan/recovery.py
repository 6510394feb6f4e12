"""Is the database the one that was trusted, and whose were the calls that it does not know? Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from callfleet_core.api.campaign import CallSpec
from callfleet_core.recovery import DatabaseState, LostCall, RunToClose
from callfleet_core.runs import Run
from callfleet_operator.carriercall import FINAL_STATUSES, CarrierCall
from callfleet_operator.objects import Campaign, Session
from callfleet_operator.plan.session import DISPOSITIONS

# Attempts of calls that no object names are called after the carrier's SID, so that each is booked once.
_LOST_CALLS = UUID("5d0d7b8e-1c53-5d7c-9d0b-6a3c3b4f9a52")
# Where no campaign says when a call ends: the carrier's own limit.
LONGEST_CALL_S = 14_400
# Complete readings of the carrier's lists, the last without anything new: SQL's recovery_open.
ENOUGH_PASSES = 2
_PARTS = ("it is on another server", "its server was restored or promoted (another timeline)", "it was made anew")


@dataclass(frozen=True)
class Witness:
    """What is kept outside of PostgreSQL: the database's token, the leader's epoch, and since when there is one."""

    token: UUID
    epoch: int
    since: datetime


def doubt(state: DatabaseState, witness: Witness | None) -> str | None:
    """Why this is perhaps not the database that was trusted last, or None.

    One that was never looked at is trusted while there is no witness either: it is new, or from an earlier release.
    """
    if state.trusted_identity is None or state.witness is None:
        return None if witness is None else "the database does not know the witness of its last trusted state"
    if state.identity != state.trusted_identity:
        parts = zip(_PARTS, state.identity.split("/"), state.trusted_identity.split("/"), strict=True)
        return f"the database is not the one that was trusted: {next(why for why, is_, was in parts if is_ != was)}"
    if witness is None:
        return "the witness of the database's state is gone from Kubernetes: nobody can tell whether it was restored"
    if witness.token not in {state.witness, state.previous_witness}:
        return "the database is older, or another, than its witness in Kubernetes: it was restored from a backup"
    return None


def is_due(state: DatabaseState, pass_every_s: float, now: datetime) -> bool:
    """Whether the carrier's lists are to be read (again)."""
    if state.recovering_since is None:
        return False
    return state.recovery_pass_at is None or (now - state.recovery_pass_at).total_seconds() >= pass_every_s


def told(state: DatabaseState) -> str | None:
    """What a Campaign says while nobody is called, or None."""
    if state.recovering_since is None:
        return None
    problem = f"; {state.recovery_problem}" if state.recovery_problem else ""
    if state.recovery_passes >= ENOUGH_PASSES:
        problem = "; all is booked, and `callfleet ledger recovery open` opens it"
    return (
        "Stopped: the database was restored or replaced, and the ledger is being rebuilt from the carrier's calls since"
        f" {state.recovering_from:%Y-%m-%d %H:%M:%S} UTC{problem}"
    )


class SessionIndex:
    """Sessions by the calls that they name."""

    def __init__(self, sessions: Collection[Session]) -> None:
        self._by_sid: dict[str, list[Session]] = {}
        for item in sessions:
            if item.status.get("callSID"):
                self._by_sid.setdefault(item.status["callSID"], []).append(item)
        # A worker that has just dialled has not written the SID yet: such a session names its attempt only.
        self._dialling: dict[tuple[str, str, str], Session] = {
            (item.meta.namespace, item.spec.campaign, item.spec.contact_id): item
            for item in sessions
            if item.status.get("attempt") and not item.status.get("callSID")
        }

    def naming(self, call: CarrierCall, callers: Sequence[Campaign], person: Callable[[str], UUID]) -> Session | None:
        """The session whose call this is, as far as one says so of its own person: a worker wrote the SID."""
        for named in self._by_sid.get(call.sid, ()):
            if named.spec.contact_id == str(person(named.meta.namespace)):
                return named
        for caller in callers:
            space = caller.meta.namespace
            found = self._dialling.get((space, caller.meta.name, str(person(space))))
            if found is not None:
                return found
        return None


@dataclass(frozen=True)
class Owner:
    """Whose a call is booked as: `campaign` gives its terms, `payers` their accounts; `closes` call nobody again."""

    attempt_id: UUID
    session: Session | None
    campaign: Campaign | None
    payers: tuple[Campaign, ...] = ()
    closes: tuple[Campaign, ...] = ()

    @property
    def namespace(self) -> str:
        """Where the call belongs; empty where nobody knows."""
        source = self.session or self.campaign
        return "" if source is None else source.meta.namespace

    @property
    def campaign_name(self) -> str:
        """As above."""
        if self.session is not None:
            return self.session.spec.campaign
        return "" if self.campaign is None else self.campaign.meta.name

    @property
    def run_id(self) -> str:
        """As above."""
        if self.session is not None:
            return self.session.spec.run_id
        return "" if self.campaign is None else self.campaign.spec.run_id

    @property
    def time_limit_s(self) -> int:
        """When the carrier ends the call at the latest: what its Campaign said when it was granted may have changed."""
        campaigns_s = 0 if self.campaign is None else self.campaign.spec.call.max_duration_seconds
        if self.session is None:
            return campaigns_s or LONGEST_CALL_S
        own_s = self.session.spec.max_duration_seconds
        return own_s if self.session.spec.campaign_uid is None else max(own_s, campaigns_s)


def plan_owner(
    call: CarrierCall,
    callers: Sequence[Campaign],
    named: Session | None,
    listed: Collection[Run],
    its_campaign: Campaign | None = None,
) -> Owner:
    """Finds out whose call it was.

    A session that names it is its owner. Else every campaign that calls with this account and number may have been:
    those on whose list the person is, where there are any. All of them pay, and none of them calls the person again. So
    it is, beside a session, where its campaign calls with these no more (`its_campaign`, if there is one): that pays.
    """
    on_lists = tuple(item for item in callers if run_of(item) in listed)
    likely = on_lists or tuple(callers)
    if named is not None:
        campaign = campaign_of(named, callers)
        attempt = (named.status.get("attempt") or {}).get("id")
        identity = lost_id(call) if attempt is None else UUID(attempt)
        if campaign is not None:
            return Owner(identity, named, campaign, (campaign,))
        own = () if its_campaign is None else (its_campaign,)
        return Owner(identity, named, its_campaign, (*own, *on_lists), likely)
    return Owner(lost_id(call), None, likely[0] if likely else None, likely, likely)


@dataclass(frozen=True)
class Booking:
    """What is looked up for a call: whom it reached, what it costs at most, in which accounts, and what it closes."""

    account_sid: str
    number_hash: str
    contact_id: UUID
    currency: str
    hold_micros: int
    accounts: tuple[str, ...]
    closes: tuple[RunToClose, ...]
    created: datetime


def lost_call(call: CarrierCall, owner: Owner, booking: Booking) -> LostCall:
    """The call as it is booked."""
    session, campaign = owner.session, owner.campaign
    terms = campaign.spec.call if campaign else CallSpec.model_validate({"from": [call.from_]})
    script = campaign.spec.script().model_dump(mode="json", by_alias=True, exclude_none=True) if campaign else {}
    return LostCall(
        call_sid=call.sid,
        account_sid=booking.account_sid,
        created_at=booking.created,
        status=FINAL_STATUSES.get(call.status, call.status),
        final=call.is_final,
        duration_s=call.duration_s,
        ended_at=(call.ended or booking.created) if call.is_final else None,
        attempt_id=owner.attempt_id,
        number_hash=booking.number_hash,
        contact_id=booking.contact_id,
        namespace=owner.namespace,
        campaign=owner.campaign_name,
        run_id=owner.run_id,
        session_name=session.meta.name if session else "",
        session_uid=session.meta.uid if session else "",
        pod_uid=(session.status.get("podUID") or "") if session else "",
        from_number=call.from_,
        currency=booking.currency,
        hold_micros=booking.hold_micros,
        accounts=booking.accounts,
        time_limit_s=owner.time_limit_s,
        ring_timeout_s=terms.ring_timeout_seconds,
        max_queue_s=terms.max_queue_seconds,
        time_zone=campaign.spec.time_zone if campaign else "UTC",
        script=json.dumps(script, sort_keys=True),
        disposition=disposition(call),
        closes=booking.closes,
    )


def lost_id(call: CarrierCall) -> UUID:
    """The id of the attempt that a call is booked as when nobody knows its own."""
    return uuid5(_LOST_CALLS, call.sid)


def run_of(campaign: Campaign) -> Run:
    """The campaign's current run."""
    return Run(campaign.meta.namespace, campaign.meta.name, campaign.spec.run_id)


def disposition(call: CarrierCall) -> str:
    """How the carrier's word about the call reads; unknown while it may be live."""
    status = FINAL_STATUSES.get(call.status)
    return DISPOSITIONS[status] if status else "unknown"


def callers_of(
    campaigns: Collection[Campaign], numbers: Mapping[str, Collection[str]], call: CarrierCall
) -> list[Campaign]:
    """The campaigns that place calls from this call's number, in one order; `numbers` are theirs by UID."""
    found = [item for item in campaigns if call.from_ in numbers.get(item.meta.uid, ())]
    return sorted(found, key=lambda item: (item.meta.namespace, item.meta.name))


def campaign_of(session: Session, callers: Sequence[Campaign]) -> Campaign | None:
    """The one of these campaigns that the session is of."""
    place = (session.meta.namespace, session.spec.campaign)
    return next((item for item in callers if (item.meta.namespace, item.meta.name) == place), None)
