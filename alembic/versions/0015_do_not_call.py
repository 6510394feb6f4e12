"""Who said that they do not want to be called: nobody calls them again."""

from __future__ import annotations

from callfleet_core.db.scripts import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the list, and the gate that asks it; who said so in an earlier call is on it."""
    run_script("0015_do_not_call.sql")


def downgrade() -> None:
    """Takes the list away: a release before calls them again."""
    run_script("0015_down.sql")
