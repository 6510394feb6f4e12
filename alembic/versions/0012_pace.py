"""A campaign's own pace of dialling."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the pace to the mirror of campaigns, and to begin_dial."""
    run_script("0012_pace.sql")


def downgrade() -> None:
    """Takes it away."""
    run_script("0012_down.sql")
