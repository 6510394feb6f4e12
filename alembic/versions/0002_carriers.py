"""Carrier accounts that campaigns bring in a Secret of their namespace."""

from __future__ import annotations

from alembic import op

from callfleet_core.db.scripts import run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the account's own bounds, and where its Secret is."""
    run_script("0002_carriers.sql")


def downgrade() -> None:
    """Drops them; accounts of campaigns' own stay as rows without a source."""
    op.execute(
        "ALTER TABLE carrier_accounts DROP CONSTRAINT carrier_accounts_whole_source,"
        " DROP COLUMN max_concurrent, DROP COLUMN source_namespace, DROP COLUMN source_name"
    )
