"""Workers write their calls' records through functions, as what they say of the call; their role has no table."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the functions; takes the tables away at once, or from workers of the release before after a day."""
    run_script("0018_workers_records.sql")


def downgrade() -> None:
    """Gives the role its tables back, and takes the functions away."""
    run_script("0018_down.sql")
