"""Overruns last until somebody has looked; accounts are found by their object, and by their window's end."""

from __future__ import annotations

from callfleet_core.db.indexes import build_index, drop_index
from callfleet_core.db.scripts import run_script

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_INDEXES = {"accounts_object": "(namespace, kind, name)", "accounts_window_end": "(window_end)"}


def upgrade() -> None:
    """Adds the indexes beside those who hold and settle, then what outlives a window."""
    for name, columns in _INDEXES.items():
        build_index(name, f"ON accounts {columns}")
    run_script("0016_overruns.sql")


def downgrade() -> None:
    """Takes it away."""
    for name in _INDEXES:
        drop_index(name)
    run_script("0016_down.sql")
