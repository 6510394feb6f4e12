"""`callfleet database` as an administrator runs it."""

from __future__ import annotations

import os
import subprocess
import sys


def callfleet(*arguments: str, url: str | None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root")}
    if url:
        environment["DATABASE_URL"] = url
    command = [sys.executable, "-m", "callfleet", "database", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_schema_is_brought_up_and_partitions_are_made(empty_database_url: str) -> None:
    before = callfleet("status", url=empty_database_url)
    assert (before.returncode, "at revision none" in before.stdout) == (1, True)
    assert callfleet("migrate", url=empty_database_url).returncode == 0
    assert callfleet("status", url=empty_database_url).returncode == 0
    made = callfleet("partitions", "--years", "3", url=empty_database_url)
    assert made.stdout == "2 partitions made; 0 calls lie outside of any year's\n"


def test_a_database_must_be_named() -> None:
    done = callfleet("status", url=None)
    assert done.returncode == 2
    assert "--database-url" in done.stderr


def test_a_server_that_is_away_is_told_in_a_sentence() -> None:
    for command in (("status",), ("migrate",), ("partitions",)):
        done = callfleet(*command, url="postgresql://nobody:nothing@127.0.0.1:9/none")
        assert (done.returncode, "PostgreSQL does not answer" in done.stderr) == (1, True), done.stderr
        assert "Traceback" not in done.stderr


def test_what_is_no_postgresql_is_told_without_repeating_it() -> None:
    for url in ("nonsense", "mysql://me:hidden@host/db", "postgresql://me:hid:den@host:port/db"):
        done = callfleet("status", url=url)
        assert (done.returncode, "a database's URL" in done.stderr) == (1, True), done.stderr
        assert "Traceback" not in done.stderr
        assert "hid" not in done.stderr
