"""What a call is placed with: the carrier's Secret as a folder, read anew for each call, or the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from callfleet_core.carriers import key_or_token
from callfleet_core.errors import CallFleetError
from callfleet_worker.settings import WorkerSettings


class CredentialsError(CallFleetError):
    """There is nothing to place this call with; the text says what to change and no value."""


def login(settings: WorkerSettings, account_sid: str) -> tuple[str, str]:
    """User and password at the carrier for an account: an API key where there is one. Raises CredentialsError."""
    if settings.callfleet_carrier_dir is not None:
        return _from_folder(settings.callfleet_carrier_dir, account_sid)
    token, key_sid, secret = settings.twilio_auth_token, settings.twilio_api_key_sid, settings.twilio_api_key_secret
    if token is None and not (key_sid and secret):
        raise CredentialsError("set CALLFLEET_CARRIER_DIR or TWILIO_AUTH_TOKEN: a call is placed with them")
    return key_or_token(account_sid, token or SecretStr(""), key_sid, secret)


def _from_folder(folder: Path, account_sid: str) -> tuple[str, str]:
    def entry(key: str) -> str:
        path = folder / key
        return path.read_text().strip() if path.is_file() else ""

    if entry("accountSid") != account_sid:
        raise CredentialsError("the carrier's Secret is of another account than this call's: was it changed?")
    login = key_or_token(
        account_sid, SecretStr(entry("authToken")), entry("apiKeySid"), SecretStr(entry("apiKeySecret"))
    )
    if not login[1]:
        raise CredentialsError("the carrier's Secret has neither an API key nor an authToken: add one")
    return login
