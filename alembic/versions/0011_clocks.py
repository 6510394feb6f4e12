"""Grants and paces that a clock which has jumped left behind bind nobody."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replaces functions."""
    run_script("0011_clocks.sql")


def downgrade() -> None:
    """Puts them back."""
    run_script("0011_down.sql")
