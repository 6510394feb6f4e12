"""An installation's database and its three logins, each with its role and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from callfleet.hostservices import clean_up, fresh_database

ROLES = {"worker": "callfleet_worker", "gateway": "callfleet_gateway"}


@dataclass(frozen=True)
class Databases:
    """URLs of one database: the owner's (operator, migrations), the gateway's, the workers'."""

    owner: str
    gateway: str
    worker: str

    def at(self, host: str | None) -> Databases:
        """The same as seen by those who reach the server at `host`; unchanged for None."""
        if host is None:
            return self
        return Databases(*(_at(url, host) for url in (self.owner, self.gateway, self.worker)))


@contextmanager
def installation_databases(admin_url: str, prefix: str = "callfleet_demo") -> Iterator[Databases]:
    """A new database on the server at `admin_url` with its logins; all dropped at the end.

    The user of `admin_url` must be allowed to create databases and roles.
    """
    logins = {room: (f"{prefix}_{room}_{secrets.token_hex(4)}", secrets.token_urlsafe(24)) for room in ROLES}
    drops = [sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)) for name, _ in logins.values()]
    with clean_up(admin_url, drops), fresh_database(admin_url, prefix) as owner:
        with psycopg.connect(admin_url, autocommit=True) as connection:
            for room, (name, password) in logins.items():
                _create_login(connection, name, password, ROLES[room])
        urls = {room: _with_login(owner, name, password) for room, (name, password) in logins.items()}
        yield Databases(owner, urls["gateway"], urls["worker"])


def _create_login(connection: psycopg.Connection, name: str, password: str, role: str) -> None:
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if known is None:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
            sql.Identifier(name), sql.Literal(password), sql.Identifier(role)
        )
    )


def _with_login(url: str, name: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}"))


def _at(url: str, host: str) -> str:
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}:{parts.port or 5432}"))
