"""The tables as SQLAlchemy sees them. The migrations are the truth; a test fails when the two differ."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_NOW = text("now()")
_NEW_UUID = text("gen_random_uuid()")


class Base(DeclarativeBase):
    """Times are timestamptz, text is unbounded text (bounds are the API's), dicts are jsonb."""

    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy reads it as a class attribute
        datetime: DateTime(timezone=True),
        str: Text(),
        dict[str, Any]: JSONB(),
    }


class Installation(Base):
    """The one row of this installation: the leader's epoch, the stop for everything, which database this is."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default="1")
    epoch: Mapped[int] = mapped_column(BigInteger, server_default="0")
    stopped: Mapped[bool] = mapped_column(server_default="false")
    hash_key_check: Mapped[str | None]
    trusted_identity: Mapped[str | None]
    trusted_at: Mapped[datetime | None]
    witness: Mapped[UUID | None]
    previous_witness: Mapped[UUID | None]
    recovering_since: Mapped[datetime | None]
    recovering_from: Mapped[datetime | None]
    recovery_reason: Mapped[str | None]
    recovery_passes: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    recovery_pass_at: Mapped[datetime | None]
    recovery_problem: Mapped[str | None]


class CarrierAccount(Base):
    """A carrier account, its pace, and whether it is a simulator."""

    __tablename__ = "carrier_accounts"
    account_sid: Mapped[str] = mapped_column(primary_key=True)
    api_base_url: Mapped[str]
    public_url: Mapped[str]
    simulated: Mapped[bool] = mapped_column(server_default="false")
    calls_per_second: Mapped[Decimal] = mapped_column(Numeric(8, 3), server_default="1")
    next_dial_at: Mapped[datetime] = mapped_column(server_default=text("'-infinity'"))
    max_concurrent: Mapped[int] = mapped_column(server_default="10")
    source_namespace: Mapped[str | None]
    source_name: Mapped[str | None]


class AllowedNumber(Base):
    """A number that a real carrier may dial."""

    __tablename__ = "dial_allowlist"
    number_hash: Mapped[str] = mapped_column(primary_key=True)


class Contact(Base):
    """A person in a namespace."""

    __tablename__ = "contacts"
    __table_args__ = (
        Index("contacts_namespace_number", "namespace", "number_hash", unique=True),
        Index("contacts_key_version", "key_version", "id", postgresql_where=text("key_version IS NOT NULL")),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    namespace: Mapped[str]
    number_hash: Mapped[str]
    phone: Mapped[bytes | None]
    name: Mapped[bytes | None]
    dial_prefix: Mapped[str] = mapped_column(server_default="")
    key_version: Mapped[int | None]
    wrapped_key: Mapped[bytes | None]
    erased_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    # In which the number may be; empty: it tells none, NULL: nobody has looked yet.
    time_zones: Mapped[list[str] | None] = mapped_column(ARRAY(Text))


class Consent(Base):
    """A person's consent to be called; valid while given and not revoked."""

    __tablename__ = "consents"
    __table_args__ = (
        Index("consents_once", "contact_id", "kind", "source", "given_at", "origin", unique=True),
        Index("consents_origin", "origin", postgresql_where=text("revoked_at IS NULL")),
        Index("consents_valid", "contact_id", postgresql_where=text("revoked_at IS NULL")),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_UUID)
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contacts.id"))
    kind: Mapped[str]
    source: Mapped[str]
    origin: Mapped[str]
    given_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class DoNotCallRow(Base):
    """A number that nobody may call, in a namespace or (with none) in the whole installation."""

    __tablename__ = "do_not_call"
    number_hash: Mapped[str] = mapped_column(primary_key=True)
    namespace: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    attempt_id: Mapped[UUID | None]
    since: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))


class CampaignRow(Base):
    """The mirror of a Campaign that begin_dial asks."""

    __tablename__ = "campaigns"
    namespace: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    uid: Mapped[str]
    generation: Mapped[int] = mapped_column(BigInteger)
    suspended: Mapped[bool] = mapped_column(server_default="false")
    closed: Mapped[bool] = mapped_column(server_default="false")
    # The campaign's own pace, if it has one, and when it lets the next call be dialled.
    calls_per_second: Mapped[Decimal | None] = mapped_column(Numeric(8, 3))
    next_dial_at: Mapped[datetime | None]
    # When calls may begin, if it has a schedule.
    hours: Mapped[dict[str, Any] | None]


class CampaignContact(Base):
    """Who belongs to a campaign's run, and what became of them."""

    __tablename__ = "campaign_contacts"
    __table_args__ = (
        Index(
            "campaign_contacts_due", "namespace", "campaign", "run_id", "position",
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index("campaign_contacts_unfinished", "contact_id", postgresql_where=text("finished_at IS NULL")),
    )  # fmt: skip
    namespace: Mapped[str] = mapped_column(primary_key=True)
    campaign: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contacts.id"), primary_key=True)
    position: Mapped[int]
    state: Mapped[str | None]
    disposition: Mapped[str | None]
    finished_at: Mapped[datetime | None]
    time_zone: Mapped[str | None]


class ContactList(Base):
    """A list that campaigns name; imported again, it is a new row."""

    __tablename__ = "contact_lists"
    __table_args__ = (Index("contact_lists_name", "namespace", "name", unique=True),)
    version: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    namespace: Mapped[str]
    name: Mapped[str]
    contacts: Mapped[int]
    imported_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))


class ContactListEntry(Base):
    """A contact on a list."""

    __tablename__ = "contact_list_entries"
    __table_args__ = (Index("contact_list_entries_contact", "version", "contact_id", unique=True),)
    version: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("contact_lists.version", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contacts.id"))
    time_zone: Mapped[str | None]


class CampaignRunList(Base):
    """The version of its list that a run has wholly taken over."""

    __tablename__ = "campaign_run_lists"
    namespace: Mapped[str] = mapped_column(primary_key=True)
    campaign: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)


class Account(Base):
    """A ledger account: a limit, what is held and what is spent, in micros."""

    __tablename__ = "accounts"
    __table_args__ = (
        Index("accounts_object", "namespace", "kind", "name"),
        Index("accounts_window_end", "window_end"),
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    namespace: Mapped[str]
    kind: Mapped[str]
    name: Mapped[str]
    time_window: Mapped[str]
    window_start: Mapped[datetime | None]
    window_end: Mapped[datetime | None]
    currency: Mapped[str]
    limit_micros: Mapped[int | None] = mapped_column(BigInteger)
    held_micros: Mapped[int] = mapped_column(BigInteger, server_default="0")
    spent_micros: Mapped[int] = mapped_column(BigInteger, server_default="0")
    suspended: Mapped[bool] = mapped_column(server_default="false")
    closed: Mapped[bool] = mapped_column(server_default="false")
    overrun: Mapped[bool] = mapped_column(server_default="false")
    overrun_meters: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    limit_uid: Mapped[str]
    limit_generation: Mapped[int] = mapped_column(BigInteger)
    limit_epoch: Mapped[int] = mapped_column(BigInteger)
    time_zone: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


_OPEN = text("state IN ('granted', 'dialing', 'placed')")
_BEGUN = text("begun_at IS NOT NULL")
_UNRESOLVED = text("end_status = 'unresolved'")


class CallScriptRow(Base):
    """The words of a campaign's calls, as its attempts were granted them: once, named by the hash of its text."""

    __tablename__ = "call_scripts"
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    script: Mapped[str]


class DialAttempt(Base):
    """The right to dial, and what became of it."""

    __tablename__ = "dial_attempts"
    __table_args__ = (
        Index("dial_attempts_one_open_per_number", "number_hash", unique=True, postgresql_where=_OPEN),
        Index("dial_attempts_ended", "ended_at", postgresql_where=text("state = 'ended'")),
        Index("dial_attempts_late", "ended_at", postgresql_where=text("state = 'settled' AND reason = 'LateEvidence'")),
        Index("dial_attempts_call_sid", "call_sid", unique=True, postgresql_where=text("call_sid IS NOT NULL")),
        Index("dial_attempts_session", "namespace", "session_name", "number"),
        Index("dial_attempts_history", "namespace", "begun_at", "id", postgresql_where=_BEGUN),
        Index("dial_attempts_campaign_history", "namespace", "campaign", "begun_at", "id", postgresql_where=_BEGUN),
        Index("dial_attempts_contact_history", "contact_id", "begun_at", "id", postgresql_where=_BEGUN),
        Index(
            "dial_attempts_person",
            "contact_id",
            "campaign",
            "run_id",
            "number",
            unique=True,
            postgresql_where=text("state <> 'revoked'"),
        ),
        Index("dial_attempts_begun", "account_sid", "begun_at", postgresql_where=_BEGUN),
        Index("dial_attempts_unresolved", "begun_at", postgresql_where=_UNRESOLVED),
        CheckConstraint("number >= 1"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str]
    number: Mapped[int]
    namespace: Mapped[str]
    campaign: Mapped[str]
    run_id: Mapped[str]
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contacts.id"))
    session_name: Mapped[str]
    session_uid: Mapped[str]
    number_hash: Mapped[str]
    account_sid: Mapped[str]
    from_number: Mapped[str]
    currency: Mapped[str]
    hold_micros: Mapped[int] = mapped_column(BigInteger)
    time_limit_s: Mapped[int]
    ring_timeout_s: Mapped[int]
    max_queue_s: Mapped[int]
    time_zone: Mapped[str]
    script_digest: Mapped[bytes]
    caps: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    granted_pod_uid: Mapped[str]
    owner_pod_uid: Mapped[str | None]
    owner_generation: Mapped[int] = mapped_column(server_default="0")
    nonce: Mapped[UUID | None]
    epoch: Mapped[int] = mapped_column(BigInteger)
    granted_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    begun_at: Mapped[datetime | None]
    placed_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    call_sid: Mapped[str | None]
    reason: Mapped[str | None]
    end_status: Mapped[str | None]
    duration_s: Mapped[int | None]
    evidence: Mapped[dict[str, Any] | None]
    counts: Mapped[bool] = mapped_column(server_default="true")
    actual_micros: Mapped[int | None] = mapped_column(BigInteger)
    lookups_empty: Mapped[int] = mapped_column(server_default="0")
    last_lookup_at: Mapped[datetime | None]


class LedgerEntry(Base):
    """One change of an account's balances; append-only."""

    __tablename__ = "ledger_entries"
    __table_args__ = (Index("ledger_entries_once", "attempt_id", "account_id", "kind", "number", unique=True),)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    attempt_id: Mapped[UUID] = mapped_column(ForeignKey("dial_attempts.id"))
    account_id: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str]
    held_micros: Mapped[int] = mapped_column(BigInteger)
    spent_micros: Mapped[int] = mapped_column(BigInteger)
    limit_micros: Mapped[int | None] = mapped_column(BigInteger)
    at: Mapped[datetime]
    number: Mapped[int] = mapped_column(SmallInteger, server_default="0")


class CostLineRow(Base):
    """One meter of a settled attempt's cost."""

    __tablename__ = "cost_lines"
    attempt_id: Mapped[UUID] = mapped_column(ForeignKey("dial_attempts.id"), primary_key=True)
    meter: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[Decimal] = mapped_column(Numeric(14, 3))
    amount_micros: Mapped[int] = mapped_column(BigInteger)
    cap_quantity: Mapped[Decimal | None] = mapped_column(Numeric(14, 3))
    cap_micros: Mapped[int | None] = mapped_column(BigInteger)


class Call(Base):
    """A call (D2 of docs/requirements.md), in the partition of the year of its begin_dial; its id is its attempt's."""

    __tablename__ = "calls"
    __table_args__ = (
        Index("calls_start_time", "start_time"),
        Index("calls_contact", "contact_id", "created_at"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )
    id: Mapped[UUID] = mapped_column(ForeignKey("dial_attempts.id"), primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contacts.id"))
    status: Mapped[str]
    disposition: Mapped[str | None]
    start_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    duration: Mapped[int | None]
    cost: Mapped[Decimal | None] = mapped_column(Numeric(10, 4))
    recording_url: Mapped[bytes | None]
    turns: Mapped[int] = mapped_column(server_default="0")
    decided_by: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    latency_ms_p50: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=_NOW)


class Conversation(Base):
    """One thing said (D3)."""

    __tablename__ = "conversations"
    __table_args__ = (Index("conversations_call_seq", "call_id", "seq", unique=True),)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_UUID)
    call_id: Mapped[UUID] = mapped_column(ForeignKey("dial_attempts.id"))
    seq: Mapped[int]
    agent_type: Mapped[str]
    message_type: Mapped[str]
    content: Mapped[bytes]
    timestamp: Mapped[datetime]
    details: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))


class LeadScore(Base):
    """What was learned of a lead (D4), with the answers by question."""

    __tablename__ = "lead_scores"
    __table_args__ = (Index("lead_scores_contact", "contact_id"),)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=_NEW_UUID)
    contact_id: Mapped[UUID] = mapped_column(ForeignKey("contacts.id"))
    call_id: Mapped[UUID] = mapped_column(ForeignKey("dial_attempts.id"), unique=True)
    qualification_score: Mapped[Decimal] = mapped_column(Numeric(3, 2))
    interest_level: Mapped[str | None]
    budget_qualified: Mapped[bool | None]
    timeline: Mapped[str | None]
    decision_maker: Mapped[bool | None]
    fields: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class CallUsage(Base):
    """How much of a meter a call used."""

    __tablename__ = "call_usage"
    call_id: Mapped[UUID] = mapped_column(ForeignKey("dial_attempts.id"), primary_key=True)
    meter: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[Decimal] = mapped_column(Numeric(14, 3))


class WorkerTables(Base):
    """Until when workers of a release before may write their calls' records into the tables; mostly no row."""

    __tablename__ = "worker_tables"
    until: Mapped[datetime] = mapped_column(primary_key=True)


class AuditEntry(Base):
    """Who decided what, when and why; append-only."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_subject", "subject"),)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    actor: Mapped[str]
    login: Mapped[str] = mapped_column(server_default=text("session_user"))
    action: Mapped[str]
    subject: Mapped[str]
    reason: Mapped[str]
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]


class CarrierReconciliation(Base):
    """A day of a carrier account, compared or to be compared with the carrier's list."""

    __tablename__ = "carrier_reconciliations"
    __table_args__ = (Index("carrier_reconciliations_next", "next_at", postgresql_where=text("next_at IS NOT NULL")),)
    account_sid: Mapped[str] = mapped_column(ForeignKey("carrier_accounts.account_sid"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    requested_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    next_at: Mapped[datetime | None]
    calls: Mapped[int] = mapped_column(server_default="0")
    open_calls: Mapped[int] = mapped_column(server_default="0")
    problem: Mapped[str | None]


class CarrierDifference(Base):
    """Something in which the carrier's list and the ledger differed."""

    __tablename__ = "carrier_differences"
    __table_args__ = (
        Index("carrier_differences_once", "call_sid", "kind", "expected", "found", "correction", unique=True),
        Index("carrier_differences_day", "day", "account_sid"),
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account_sid: Mapped[str] = mapped_column(ForeignKey("carrier_accounts.account_sid"))
    day: Mapped[date]
    kind: Mapped[str]
    call_sid: Mapped[str]
    attempt_id: Mapped[UUID | None] = mapped_column(ForeignKey("dial_attempts.id"))
    expected: Mapped[str] = mapped_column(server_default="")
    found: Mapped[str] = mapped_column(server_default="")
    delta_micros: Mapped[int | None] = mapped_column(BigInteger)
    correction: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    found_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
