"""Contacts and consent, the ledger and its protocol, calls and what was said in them."""

from __future__ import annotations

from alembic import op

from callfleet_core.db.scripts import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_FUNCTIONS = [
    "attempt_view",
    "worker_record_ended",
    "worker_record_answered",
    "worker_record_placed",
    "worker_owns",
    "record_ended",
    "number_is_bad",
    "record_answered",
    "record_placed",
    "begin_dial",
    "begin_dial_refusal",
    "dial_order",
    "ledger_settle",
    "ledger_revoke",
    "ledger_release",
    "ledger_hold",
    "ledger_hold_one",
    "ledger_refusal",
    "window_is_open",
    "gate_refusal",
    "ledger_close_account",
    "ledger_set_limit",
    "ledger_assert_epoch",
    "ledger_take_epoch",
]
_TABLES = [
    "call_usage",
    "lead_scores",
    "conversations",
    "calls",
    "cost_lines",
    "ledger_entries",
    "holds",
    "dial_attempts",
    "accounts",
    "campaign_contacts",
    "campaigns",
    "consents",
    "contacts",
    "dial_allowlist",
    "carrier_accounts",
    "installation",
]


def upgrade() -> None:
    """Creates everything; the roles come last, since they are granted what exists."""
    for part in ("tables", "functions", "roles"):
        run_script(f"0001_{part}.sql")


def downgrade() -> None:
    """Drops everything but the roles, which other databases of the server may use."""
    # What later revisions leave in force when they are taken away.
    op.execute("DROP TRIGGER IF EXISTS calls_keep_opt_out ON calls")
    op.execute("DROP FUNCTION IF EXISTS keep_opt_out, do_not_call_set")
    op.execute("DROP TABLE IF EXISTS do_not_call")
    for function in _FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION ledger_refuse_change")
