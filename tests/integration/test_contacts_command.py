"""`callfleet contacts`, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.books import CONSENT, KEY, RING, number

from callfleet_core.crypto import Keyring
from callfleet_core.db.migrate import migrate

HEADER = "phone,name,consent_kind,consent_source,consent_time\n"


def row(index: int) -> str:
    return f'{number(index)},"Roe, Jane",express-written,web form,{CONSENT.given_at.isoformat()}\n'


def callfleet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command with an environment of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    argv = [sys.executable, "-m", "callfleet", "contacts", *arguments]
    return subprocess.run(argv, env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def given(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "CALLFLEET_HASH_KEY": KEY.decode(), "CALLFLEET_ENCRYPTION_KEYS": RING.text()}


IMPORT = ("import", "--namespace", "sales", "--list", "spring-2026")


def test_a_list_is_checked_imported_shown_and_deleted(given: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("\ufeff" + HEADER + row(1) + row(2) + f"{number(3)},,,,\n")
    dry = callfleet(*IMPORT, str(file), "--dry-run", **given)
    assert dry.returncode == 0, dry.stderr
    assert "would have 3 contacts (3 new, 0 gone, 1 without consent" in dry.stdout
    assert "no list" in callfleet("lists", **given).stdout
    imported = callfleet(*IMPORT, str(file), **given)
    assert imported.returncode == 0, imported.stderr
    assert "list spring-2026 in sales: 3 contacts" in imported.stdout
    (line,) = callfleet("lists", "--namespace", "sales", **given).stdout.splitlines()[1:]
    assert line.split()[:3] == ["sales", "spring-2026", "3"]
    deleted = callfleet("delete", "--namespace", "sales", "--list", "spring-2026", "--yes", **given)
    assert "it had 3 contacts" in deleted.stdout
    assert "no list" in callfleet("lists", **given).stdout


def test_every_wrong_row_is_told_and_nobody_is_named(given: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(HEADER + row(11) + "5550100,Jane,,,\n" + row(11) + f"{number(14)},Jane,written,,\n")
    done = callfleet(*IMPORT, str(file), **given)
    assert done.returncode == 1
    told = [line.split(":")[0] for line in done.stderr.splitlines()]
    assert told == ["row 3", "row 4", "row 5", "callfleet"]
    assert "3 rows cannot be used, so nothing was imported" in done.stderr
    assert not any(secret in done.stderr + done.stdout for secret in ("Jane", number(11), number(14)))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("CALLFLEET_HASH_KEY", "export CALLFLEET_HASH_KEY=$(kubectl get secret callfleet-operator"),
        ("CALLFLEET_ENCRYPTION_KEYS", "export CALLFLEET_ENCRYPTION_KEYS=$(kubectl get secret callfleet-operator"),
        ("DATABASE_URL", "DATABASE_URL is missing: give --database-url, or take it from the installation: kubectl"),
    ],
)
def test_what_is_missing_is_named_with_how_to_get_it(
    given: dict[str, str], tmp_path: Path, missing: str, message: str
) -> None:
    file = tmp_path / "people.csv"
    file.write_text(HEADER + row(1))
    done = callfleet(*IMPORT, str(file), **{name: value for name, value in given.items() if name != missing})
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_or_a_database_that_does_not_fit_is_one_sentence(
    given: dict[str, str], empty_database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes((HEADER + row(1)).encode() + b"+15550100108,J\xf6rg,,,\n")
    assert "not UTF-8" in callfleet(*IMPORT, str(file), **given).stderr
    file.write_text(HEADER + row(1))
    assert "--list must be" in callfleet("import", "-n", "sales", "-l", "Spring 26", str(file), **given).stderr
    migrate(given["DATABASE_URL"], "0001", down=True)
    assert "at revision 0001" in callfleet(*IMPORT, str(file), **given).stderr
    nobody = {**given, "DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:9/none"}
    done = callfleet(*IMPORT, str(file), **nobody)
    assert "PostgreSQL does not answer" in done.stderr
    assert "secret" not in done.stderr


def test_a_person_is_erased_and_keys_are_rotated(given: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(HEADER + row(1) + row(2))
    assert callfleet(*IMPORT, str(file), **given).returncode == 0
    erase = ("erase", "--namespace", "sales", "--yes", "--phone")
    erased = callfleet(*erase, number(1), **given)
    assert erased.stdout.startswith("erased: contact "), erased.stderr
    assert number(1) not in erased.stdout
    unknown = callfleet(*erase, number(9), **given)
    assert (unknown.returncode, "nobody with this number" in unknown.stderr) == (1, True)
    newer = {**given, "CALLFLEET_ENCRYPTION_KEYS": Keyring({**RING.keys, 2: b"2" * 32}).text()}
    rotated = subprocess.run(
        [sys.executable, "-m", "callfleet", "database", "rotate-keys"],
        env={"PATH": os.environ["PATH"], **newer}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert rotated.stdout == "1 keys are wrapped by version 2; 0 by an older one\n", rotated.stderr
