"""Calling hours of campaigns, and the time zones of whoever is called."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the hours to the mirror of campaigns, to holds and to begin_dial."""
    run_script("0013_hours.sql")


def downgrade() -> None:
    """Takes them away."""
    run_script("0013_down.sql")
