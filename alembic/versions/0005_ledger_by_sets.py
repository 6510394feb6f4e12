"""Money held by sets: a batch is judged, granted and posted in a handful of statements."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keeps scripts and holds once each, and replaces the functions that hold; admission is closed meanwhile."""
    run_script("0005_tables.sql")
    run_script("0005_functions.sql")


def downgrade() -> None:
    """Puts a script into every attempt, and holds into a table, as they were."""
    run_script("0005_down.sql")
