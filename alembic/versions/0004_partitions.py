"""Calls partitioned by year (D5)."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Copies the calls into partitions; admission is closed meanwhile, since pods wait for the schema."""
    run_script("0004_partitions.sql")


def downgrade() -> None:
    """Puts them back into one table."""
    run_script("0004_down.sql")
