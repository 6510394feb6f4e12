"""A day or month without a limit is opened, too, whatever time zone the object had before."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Renews the function that opens windows."""
    run_script("0019_windows.sql")


def downgrade() -> None:
    """Makes it what it was."""
    run_script("0019_down.sql")
