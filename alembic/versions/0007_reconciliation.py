"""What people decide about attempts, audited; the daily reconciliation with the carrier's bill."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SQL = Path(__file__).resolve().parent.parent / "sql"


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((_SQL / name).read_text().replace("%", "%%"))


def upgrade() -> None:
    """Adds them; admission is closed meanwhile, since pods wait for the schema."""
    _run("0007_reconciliation.sql")


def downgrade() -> None:
    """Drops them, the audit log included; corrections stay in the balances, as late entries."""
    _run("0007_down.sql")
