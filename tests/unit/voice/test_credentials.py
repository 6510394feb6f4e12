"""What a call is placed with, and what is said where there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callfleet_worker.call.credentials import CredentialsError, login
from callfleet_worker.settings import WorkerSettings

SID = "AC" + "0" * 32


def settings(**given: Any) -> WorkerSettings:
    return WorkerSettings.model_validate(
        {"database_url": "postgresql://x/y", "redis_url": "redis://x", "callfleet_namespace_keys": "1:x", **given}
    )


def folder(path: Path, **entries: str) -> WorkerSettings:
    for key, value in entries.items():
        (path / key).write_text(value + "\n")
    return settings(callfleet_carrier_dir=path, twilio_auth_token="of the environment")


def test_the_secret_comes_before_the_environment_and_a_key_before_the_token(tmp_path: Path) -> None:
    given = folder(tmp_path, accountSid=SID, authToken="token")
    assert login(given, SID) == (SID, "token")
    folder(tmp_path, apiKeySid="SK1", apiKeySecret="secret")
    assert login(given, SID) == ("SK1", "secret")


def test_a_changed_secret_is_in_force_at_the_next_call(tmp_path: Path) -> None:
    given = folder(tmp_path, accountSid=SID, authToken="old")
    login(given, SID)
    folder(tmp_path, authToken="new")
    assert login(given, SID) == (SID, "new")


def test_no_call_is_placed_with_another_accounts_secret(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="another account"):
        login(folder(tmp_path, accountSid="AC" + "1" * 32, authToken="token"), SID)
    with pytest.raises(CredentialsError, match="neither"):
        login(folder(tmp_path, accountSid=SID, authToken=""), SID)
    with pytest.raises(CredentialsError, match="CALLFLEET_CARRIER_DIR"):
        login(settings(), SID)
