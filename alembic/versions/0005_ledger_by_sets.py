"""Money held by sets: a batch is judged, granted and posted in a handful of statements."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SQL = Path(__file__).resolve().parent.parent / "sql"


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((_SQL / name).read_text().replace("%", "%%"))


def upgrade() -> None:
    """Keeps scripts and holds once each, and replaces the functions that hold; admission is closed meanwhile."""
    _run("0005_tables.sql")
    _run("0005_functions.sql")


def downgrade() -> None:
    """Puts a script into every attempt, and holds into a table, as they were."""
    _run("0005_down.sql")
