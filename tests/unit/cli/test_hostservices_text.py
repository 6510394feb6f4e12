"""The host services' pure pieces; the servers themselves run in the integration tests."""

from pathlib import Path

import psycopg
import pytest

from callfleet.hostservices.errors import HostServiceError
from callfleet.hostservices.postgres import PostgresServer, clean_up, major_version
from callfleet.hostservices.process import free_port
from callfleet.hostservices.proxy import is_allowed
from callfleet.hostservices.redis import RedisServer, config_text


def test_a_server_can_be_named_by_another_of_its_addresses() -> None:
    database = PostgresServer("postgresql://u:p@127.0.0.1:5432/db", None)
    assert database.url_at("10.200.0.1") == "postgresql://u:p@10.200.0.1:5432/db"
    cache = RedisServer("redis://:p@127.0.0.1:6379/0", None)
    assert cache.url_at("10.200.0.1") == "redis://:p@10.200.0.1:6379/0"


def test_redis_asks_for_a_password_and_listens_only_where_told() -> None:
    text = config_text(["127.0.0.1", "10.200.0.1"], 6379, "secret", Path("/home"))
    assert "bind 127.0.0.1 10.200.0.1\n" in text
    assert "requirepass secret\n" in text
    assert "protected-mode yes\n" in text


@pytest.mark.parametrize(
    ("text", "major"),
    [("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15), ("postgres (PostgreSQL) 18beta1", 18), ("?", 0)],
)
def test_postgres_versions_are_read(text: str, major: int) -> None:
    assert major_version(text) == major


@pytest.mark.parametrize(
    ("header", "allowed"),
    [("Bearer t0ken", True), ("bearer t0ken", True), ("Basic t0ken", False), ("Bearer other", False), (None, False)],
)
def test_the_proxy_wants_the_exact_token(header: str | None, allowed: bool) -> None:
    assert is_allowed(header, "t0ken") is allowed


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(HostServiceError, match=r"203\.0\.113\.9"):
        free_port(["127.0.0.1", "203.0.113.9"])


def test_a_server_that_has_died_does_not_hide_why_the_work_failed() -> None:
    nobody = "postgresql://callfleet@127.0.0.1:9/callfleet"
    with pytest.raises(RuntimeError, match="the real reason"), clean_up(nobody, []):
        raise RuntimeError("the real reason")
    with pytest.raises(psycopg.OperationalError), clean_up(nobody, []):
        pass
