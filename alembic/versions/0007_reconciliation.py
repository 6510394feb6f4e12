"""What people decide about attempts, audited; the daily reconciliation with the carrier's bill."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds them; admission is closed meanwhile, since pods wait for the schema."""
    run_script("0007_reconciliation.sql")


def downgrade() -> None:
    """Drops them, the audit log included; corrections stay in the balances, as late entries."""
    run_script("0007_down.sql")
