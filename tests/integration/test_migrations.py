"""Migrations: up, down and up again; and the models say what the migrations made."""

from __future__ import annotations

from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from callfleet_core.contacts import session_name
from callfleet_core.db.engine import database_url as sqlalchemy_url
from callfleet_core.db.migrate import current_revision, head_revision, migrate, wait_for_schema
from callfleet_core.db.models import Base
from callfleet_core.errors import SchemaError


def test_up_down_and_up_again(empty_database_url: str) -> None:
    migrate(empty_database_url)
    assert current_revision(empty_database_url) == head_revision()
    migrate(empty_database_url, "base", down=True)
    assert current_revision(empty_database_url) is None
    migrate(empty_database_url)
    assert current_revision(empty_database_url) == head_revision()


def test_the_models_are_what_the_migrations_make(database_url: str) -> None:
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_pods_wait_for_the_schema_and_say_what_is_missing(empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match="run the migrations job"):
        wait_for_schema(empty_database_url, timeout_s=0.1)
    migrate(empty_database_url)
    wait_for_schema(empty_database_url, timeout_s=5)


def test_a_downgrade_leaves_nothing_behind(empty_database_url: str) -> None:
    migrate(empty_database_url)
    migrate(empty_database_url, "base", down=True)
    engine = create_engine(sqlalchemy_url(empty_database_url))
    with engine.connect() as connection:
        functions = connection.execute(
            text("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        ).scalar_one()
        tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
    engine.dispose()
    assert (functions, tables) == (0, 1)  # Alembic's own table stays


def test_a_downgrade_gives_runs_their_sessions_names_back(empty_database_url: str) -> None:
    migrate(empty_database_url)
    contact = uuid4()
    engine = create_engine(sqlalchemy_url(empty_database_url))
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO contacts (id, namespace, number_hash, phone) VALUES (:id, 'sales', 'h', '+15550100100')"),
            {"id": contact},
        )
        connection.execute(
            text(
                "INSERT INTO campaign_contacts (namespace, campaign, run_id, contact_id, position)"
                " VALUES ('sales', 'spring', '1', :id, 0)"
            ),
            {"id": contact},
        )
    migrate(empty_database_url, "0001", down=True)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT session_name FROM campaign_contacts")).scalars().all()
    assert names == [session_name("spring", "1", contact)]
    migrate(empty_database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM campaign_contacts")).scalar_one() == 1
    engine.dispose()
