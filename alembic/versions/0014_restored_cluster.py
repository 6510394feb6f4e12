"""What a cluster that was restored from a backup no longer knows."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the function that forgets generations."""
    run_script("0014_restored_cluster.sql")


def downgrade() -> None:
    """Takes it away."""
    run_script("0014_down.sql")
