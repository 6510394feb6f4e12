"""The SQL of migrations, which lies in files of its own beside them."""

from __future__ import annotations

from alembic import op

from callfleet_core.db.migrate import migrations_folder


def run_script(name: str) -> None:
    """Runs a file of alembic/sql in the migration's transaction."""
    script = (migrations_folder() / "sql" / name).read_text()
    op.get_bind().exec_driver_sql(script.replace("%", "%%"))  # a percent sign is the driver's, unless doubled
