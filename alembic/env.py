"""Alembic's environment: migrations run online only, on the connection that callfleet_core.db.migrate hands over."""

from __future__ import annotations

from alembic import context

from callfleet_core.db.models import Base

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run migrations with `python -m callfleet_core.db.migrate`, which gives them a connection")
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=False,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
