"""Contact lists in the database; a session's name is no longer stored with a run's contacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from callfleet_core.contacts import session_name
from callfleet_core.db.scripts import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PAGE = 5_000


def upgrade() -> None:
    """Creates the lists' tables, and what makes a large run cheap to read."""
    run_script("0003_contact_lists.sql")


def downgrade() -> None:
    """Drops the lists; runs that were loaded from them stay, with their sessions' names."""
    op.drop_column("installation", "hash_key_check")
    op.drop_index("consents_origin")
    op.drop_index("dial_attempts_run")
    op.drop_index("campaign_contacts_due")
    op.add_column("campaign_contacts", sa.Column("session_name", sa.Text))
    _name_sessions(op.get_bind())
    op.alter_column("campaign_contacts", "session_name", nullable=False)
    for table in ("campaign_run_lists", "contact_list_entries", "contact_lists"):
        op.drop_table(table)


def _name_sessions(connection: sa.Connection) -> None:
    while rows := connection.execute(sa.text(_UNNAMED), {"page": _PAGE}).all():
        names = [{"id": row.ctid, "name": session_name(row.campaign, row.run_id, row.contact_id)} for row in rows]
        connection.execute(sa.text(_NAME), names)


_UNNAMED = """
SELECT CAST(ctid AS text) AS ctid, campaign, run_id, contact_id FROM campaign_contacts
WHERE session_name IS NULL LIMIT :page
"""
_NAME = "UPDATE campaign_contacts SET session_name = :name WHERE ctid = CAST(:id AS tid)"
