"""Indexes for reading what was called: by namespace, by campaign, by person, newest first."""

from __future__ import annotations

from callfleet_core.db.indexes import build_index, drop_index

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INDEXES = {
    "dial_attempts_history": "(namespace, begun_at, id)",
    "dial_attempts_campaign_history": "(namespace, campaign, begun_at, id)",
    "dial_attempts_contact_history": "(contact_id, begun_at, id)",
}


def upgrade() -> None:
    """Adds them while calls go on; attempts that were never begun are in none."""
    for name, columns in _INDEXES.items():
        build_index(name, f"ON dial_attempts {columns} WHERE begun_at IS NOT NULL")


def downgrade() -> None:
    """Drops them."""
    for name in _INDEXES:
        drop_index(name)
