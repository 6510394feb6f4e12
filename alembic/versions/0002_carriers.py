"""Carrier accounts that campaigns bring in a Secret of their namespace."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SQL = Path(__file__).resolve().parent.parent / "sql"


def upgrade() -> None:
    """Adds the account's own bounds, and where its Secret is."""
    op.get_bind().exec_driver_sql((_SQL / "0002_carriers.sql").read_text())


def downgrade() -> None:
    """Drops them; accounts of campaigns' own stay as rows without a source."""
    op.execute(
        "ALTER TABLE carrier_accounts DROP CONSTRAINT carrier_accounts_whole_source,"
        " DROP COLUMN max_concurrent, DROP COLUMN source_namespace, DROP COLUMN source_name"
    )
