"""Settlements by sets, for the end that was priced; what each meter ran beside what it was capped at."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replaces the function that settles; admission is closed meanwhile, since pods wait for the schema."""
    run_script("0010_settlement.sql")


def downgrade() -> None:
    """Puts it back; caps are forgotten."""
    run_script("0010_down.sql")
