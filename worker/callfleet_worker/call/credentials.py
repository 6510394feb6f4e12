"""What a call is placed with: the carrier's Secret as a folder, read anew for each call, or the environment."""

from __future__ import annotations

from pathlib import Path

from callfleet_core.errors import CallFleetError
from callfleet_worker.settings import WorkerSettings


class CredentialsError(CallFleetError):
    """There is nothing to place this call with; the text says what to change and no value."""


def login(settings: WorkerSettings, account_sid: str) -> tuple[str, str]:
    """User and password at the carrier for an account: an API key where there is one. Raises CredentialsError."""
    if settings.callfleet_carrier_dir is not None:
        return _from_folder(settings.callfleet_carrier_dir, account_sid)
    if settings.twilio_api_key_sid and settings.twilio_api_key_secret:
        return settings.twilio_api_key_sid, settings.twilio_api_key_secret.get_secret_value()
    if settings.twilio_auth_token is None:
        raise CredentialsError("set CALLFLEET_CARRIER_DIR or TWILIO_AUTH_TOKEN: a call is placed with them")
    return account_sid, settings.twilio_auth_token.get_secret_value()


def _from_folder(folder: Path, account_sid: str) -> tuple[str, str]:
    def entry(key: str) -> str:
        path = folder / key
        return path.read_text().strip() if path.is_file() else ""

    if entry("accountSid") != account_sid:
        raise CredentialsError("the carrier's Secret is of another account than this call's: was it changed?")
    if entry("apiKeySid") and entry("apiKeySecret"):
        return entry("apiKeySid"), entry("apiKeySecret")
    if not entry("authToken"):
        raise CredentialsError("the carrier's Secret has neither an API key nor an authToken: add one")
    return account_sid, entry("authToken")
