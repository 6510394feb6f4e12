"""Calls partitioned by year (D5)."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SQL = Path(__file__).resolve().parent.parent / "sql"


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((_SQL / name).read_text().replace("%", "%%"))


def upgrade() -> None:
    """Copies the calls into partitions; admission is closed meanwhile, since pods wait for the schema."""
    _run("0004_partitions.sql")


def downgrade() -> None:
    """Puts them back into one table."""
    _run("0004_down.sql")
