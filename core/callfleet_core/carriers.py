"""Carrier accounts: the Secret that holds one, and its row that begin_dial asks.

A campaign names a Secret of its own namespace; one that names none uses the installation's account. Credentials stay
in Secrets and in memory; PostgreSQL has the account's addresses and pace, and where its Secret is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.errors import CallFleetError, PhoneError
from callfleet_core.ledger.fencing import fenced
from callfleet_core.phone import normalise
from callfleet_core.settings import CarrierSettings

ACCOUNT_SID = re.compile(r"AC[0-9a-fA-F]{32}")
# Twilio's API, by its plain host and by edge and region. Any other address must be the installation's own, since the
# operator and the workers send requests and credentials there on behalf of whoever may write the Secret.
TWILIO_API = re.compile(r"https://api(\.[a-z0-9-]{1,30}){0,2}\.twilio\.com")
PUBLIC_URL = re.compile(r"https?://[^\s?#]+")
KNOWN_KEYS = (
    "accountSid", "authToken", "apiKeySid", "apiKeySecret", "apiBaseURL", "publicURL", "numbers",
    "callsPerSecond", "maxConcurrent",
)  # fmt: skip
MAX_NUMBERS = 1000
MAX_CALLS_PER_SECOND, MAX_CONCURRENT = 100.0, 100_000


class CarrierSecretError(CallFleetError, ValueError):
    """A carrier's Secret that cannot be used as it is; the text names the key and what to change, and no value."""


@dataclass(frozen=True)
class Source:
    """The Secret that an account comes from; None of both for the installation's own."""

    namespace: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class CarrierAccount:
    """One account at a carrier, with its credentials. `calls_per_second` and `max_concurrent` are the account's,
    whoever calls; `numbers` in E.164, empty where the account's owner does not restrict them."""

    account_sid: str
    auth_token: SecretStr
    api_base_url: str
    public_url: str
    api_key_sid: str | None = None
    api_key_secret: SecretStr | None = None
    simulated: bool = False
    calls_per_second: float = 1.0
    max_concurrent: int = 10
    numbers: frozenset[str] = field(default=frozenset(), repr=False)
    source: Source = Source()

    @property
    def login(self) -> tuple[str, str]:
        """What calls are placed with: the API key where there is one, else the account's own token."""
        return key_or_token(self.account_sid, self.auth_token, self.api_key_sid, self.api_key_secret)


def key_or_token(
    account_sid: str, token: SecretStr, key_sid: str | None, key_secret: SecretStr | None
) -> tuple[str, str]:
    """User and password at the carrier: an API key where there is one, else the account and its token."""
    if key_sid and key_secret:
        return key_sid, key_secret.get_secret_value()
    return account_sid, token.get_secret_value()


def installation_account(settings: CarrierSettings, *, simulated: bool) -> CarrierAccount:
    """The account of campaigns that name no carrier."""
    return CarrierAccount(
        account_sid=settings.twilio_account_sid,
        auth_token=settings.twilio_auth_token,
        api_key_sid=settings.twilio_api_key_sid,
        api_key_secret=settings.twilio_api_key_secret,
        api_base_url=settings.callfleet_carrier_api_base_url,
        public_url=settings.callfleet_public_url,
        simulated=simulated,
        calls_per_second=settings.callfleet_carrier_calls_per_second,
        max_concurrent=settings.callfleet_carrier_max_concurrent,
    )


def parse_account(data: Mapping[str, str], source: Source, installation: CarrierAccount) -> CarrierAccount:
    """The account that a Secret's decoded `data` describes.

    `installation` gives the public URL where the Secret names none, and is the only account whose address may be a
    simulator's. Raises CarrierSecretError.
    """
    values = {key: data[key].strip() for key in KNOWN_KEYS if data.get(key, "").strip()}
    unknown = sorted(set(data) - set(KNOWN_KEYS))
    if unknown:
        raise CarrierSecretError(f"{len(unknown)} of its keys are unknown: it may hold {', '.join(KNOWN_KEYS)}")
    for key in ("accountSid", "authToken", "apiBaseURL"):
        if key not in values:
            raise CarrierSecretError(f"its key {key} is missing or empty: add it")
    if not ACCOUNT_SID.fullmatch(values["accountSid"]):
        raise CarrierSecretError("accountSid is not an account's SID: AC and 32 hexadecimal digits")
    if ("apiKeySid" in values) != ("apiKeySecret" in values):
        raise CarrierSecretError("apiKeySid and apiKeySecret belong together: give both or none")
    address = values["apiBaseURL"].rstrip("/")
    if address != installation.api_base_url and not TWILIO_API.fullmatch(address):
        raise CarrierSecretError(
            "apiBaseURL is neither Twilio's (https://api.twilio.com, or with an edge and a region) nor the"
            " installation's own: calls and credentials are sent nowhere else"
        )
    public = values.get("publicURL", installation.public_url).rstrip("/")
    if not PUBLIC_URL.fullmatch(public):
        raise CarrierSecretError("publicURL is not an http(s) address without query: where the carrier reaches us")
    secret = values.get("apiKeySecret")
    return CarrierAccount(
        account_sid=values["accountSid"],
        auth_token=SecretStr(values["authToken"]),
        api_key_sid=values.get("apiKeySid"),
        api_key_secret=SecretStr(secret) if secret else None,
        api_base_url=address,
        public_url=public,
        simulated=installation.simulated and address == installation.api_base_url,
        calls_per_second=_number(values, "callsPerSecond", 1.0, MAX_CALLS_PER_SECOND),
        max_concurrent=int(_number(values, "maxConcurrent", 10, MAX_CONCURRENT)),
        numbers=_numbers(values.get("numbers", "")),
        source=source,
    )


def _number(values: Mapping[str, str], key: str, default: float, highest: float) -> float:
    text_ = values.get(key)
    if text_ is None:
        return default
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text_) or not 0 < float(text_) <= highest:
        raise CarrierSecretError(f"{key} is not a number above 0 and at most {highest:g}")
    if key == "maxConcurrent" and "." in text_:
        raise CarrierSecretError("maxConcurrent is not a whole number")
    return float(text_)


def _numbers(listed: str) -> frozenset[str]:
    entries = [entry for entry in re.split(r"[\s,;]+", listed) if entry]
    if len(entries) > MAX_NUMBERS:
        raise CarrierSecretError(f"numbers lists more than {MAX_NUMBERS}")
    try:
        return frozenset(normalise(entry) for entry in entries)
    except PhoneError as error:
        raise CarrierSecretError(f"numbers: {error}") from error


class CarrierRegister:
    """The rows of the carrier accounts."""

    def __init__(self, engine: AsyncEngine, epoch: Callable[[], int] | None = None) -> None:
        """`epoch`: the leader's, which every write must carry; whoever leads nothing gives none."""
        self._engine = engine
        self._epoch = epoch

    async def put_in_force(self, account: CarrierAccount, replaces: Source | None = None) -> bool:
        """Puts an account in force; its clock is kept. `replaces`: a Secret that is gone and had the account before.

        False, and nothing changed, where another Secret has it. Raises StaleEpochError when another operator leads.
        """
        old = replaces or account.source
        async with fenced(self._engine, self._epoch) as connection:
            done = await connection.execute(
                text(_PUT_IN_FORCE),
                {
                    "sid": account.account_sid, "api": account.api_base_url, "public": account.public_url,
                    "simulated": account.simulated, "cps": account.calls_per_second,
                    "concurrent": account.max_concurrent, "space": account.source.namespace,
                    "name": account.source.name, "old_space": old.namespace, "old_name": old.name,
                },
            )  # fmt: skip
            return done.scalar_one_or_none() is not None

    async def source(self, account_sid: str) -> Source | None:
        """Where an account's credentials are, or None when there is no such account."""
        async with self._engine.connect() as connection:
            found = (
                await connection.execute(
                    text("SELECT source_namespace, source_name FROM carrier_accounts WHERE account_sid = :sid"),
                    {"sid": account_sid},
                )
            ).one_or_none()
        return Source(found.source_namespace, found.source_name) if found else None


_PUT_IN_FORCE = """
INSERT INTO carrier_accounts AS k (account_sid, api_base_url, public_url, simulated, calls_per_second, max_concurrent,
                                   source_namespace, source_name)
VALUES (:sid, :api, :public, :simulated, :cps, :concurrent, :space, :name)
ON CONFLICT (account_sid) DO UPDATE SET
    api_base_url = EXCLUDED.api_base_url, public_url = EXCLUDED.public_url, simulated = EXCLUDED.simulated,
    calls_per_second = EXCLUDED.calls_per_second, max_concurrent = EXCLUDED.max_concurrent,
    source_namespace = EXCLUDED.source_namespace, source_name = EXCLUDED.source_name
WHERE (k.source_namespace, k.source_name) IS NOT DISTINCT FROM (EXCLUDED.source_namespace, EXCLUDED.source_name)
   OR (k.source_namespace, k.source_name) IS NOT DISTINCT FROM (CAST(:old_space AS text), CAST(:old_name AS text))
RETURNING account_sid
"""
