"""Who said that they do not want to be called: nobody calls them again."""

from __future__ import annotations

from alembic import op

from callfleet_core.db.scripts import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the list, and the gate that asks it; then who said so in an earlier call is put on it, beside new calls."""
    run_script("0015_do_not_call.sql")
    with op.get_context().autocommit_block():
        run_script("0015_earlier_calls.sql")


def downgrade() -> None:
    """Leaves the list and the gate in force: a release before knows neither, but must not call who is on it.

    They go with the tables that they stand on (0001).
    """
