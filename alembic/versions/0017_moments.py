"""One time zone an object at a time; begin_dial judges once it has waited; accounts are locked in one order."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the zone, which the operator says with the next limit that it puts in force, and renews the functions."""
    run_script("0017_moments.sql")


def downgrade() -> None:
    """Takes it away."""
    run_script("0017_down.sql")
