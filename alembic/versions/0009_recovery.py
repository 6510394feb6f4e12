"""A database that was restored, or promoted, admits nobody until the carrier's calls are booked again."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it; a database that never had a witness gets one from the operator, and is trusted as it is."""
    run_script("0009_recovery.sql")
    run_script("0009_booking.sql")


def downgrade() -> None:
    """Drops it; what was booked again stays in the balances, as ordinary holds without a limit to be judged by."""
    run_script("0009_down.sql")
