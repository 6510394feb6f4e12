"""The operator's settings, from the environment that the chart sets."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from callfleet_core.crypto import Keyring
from callfleet_core.money import MONEY_PATTERN
from callfleet_core.settings import CarrierSettings, DatabaseSettings, LogSettings
from callfleet_core.subjects import Subjects
from callfleet_core.windows import time_zone

_PROCESS = f"{socket.gethostname()}-{secrets.token_hex(4)}"


class OperatorSettings(DatabaseSettings, CarrierSettings, LogSettings):
    """Everything that the operator needs to know of its installation."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore")

    callfleet_hash_key: SecretStr = Field(
        min_length=32, description="Key of the numbers' hashes; never change it: who was called is keyed by it."
    )
    callfleet_encryption_keys: SecretStr = Field(
        min_length=1, description="Keys of personal data, VERSION:BASE64 of 32 bytes each, separated by commas."
    )
    callfleet_namespace: str = Field(description="The release's namespace, where the workers' Secret is.")
    callfleet_worker_image: str = Field(description="The worker's image, unless a Campaign says another.")
    callfleet_worker_secret: str = Field(
        default="callfleet-worker", description="Copied into every namespace that has a pool."
    )
    callfleet_carrier_secret: str = Field(
        default="callfleet-installation-carrier",
        description="The installation's own account; copied where workers call for campaigns without a carrierRef.",
    )
    callfleet_keys_secret: str = Field(
        default="callfleet-keys", description="A namespace's own keys, for its workers; derived from the ones above."
    )
    callfleet_carriers_secret: str = Field(
        default="callfleet-carriers", description="Where the gateway learns the auth tokens of campaigns' accounts."
    )
    callfleet_worker_cluster_role: str = "callfleet-worker"
    callfleet_worker_device: str = Field(default="auto", pattern=r"^(auto|cuda|cpu)$")
    callfleet_worker_image_pull_policy: str = Field(default="IfNotPresent", pattern=r"^(Always|IfNotPresent|Never)$")
    callfleet_worker_idle_seconds: int = Field(
        default=120, ge=1, description="A worker without work is removed after so long."
    )
    callfleet_carrier_simulated: bool = Field(
        default=False, description="The carrier is a simulator. Never true for a real one: the database refuses it."
    )
    callfleet_dial_allowlist: str = Field(
        default="", description="Numbers in E.164, separated by commas, that a real carrier may dial."
    )
    daily_budget_limit: str = Field(
        default="50.00", pattern=MONEY_PATTERN, description="For all calls that no Budget covers together, a day."
    )
    monthly_budget_limit: str = Field(
        default="1000.00", pattern=MONEY_PATTERN, description="For all calls that no Budget covers together, a month."
    )
    callfleet_currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="Of these two limits.")
    callfleet_time_zone: str = Field(default="UTC", description="Of these two limits' days and months.")
    callfleet_prices_file: Path | None = Field(
        default=None, description="Price lists of the installation's own, read at the start; none: those shipped."
    )
    ollama_base_url: str = Field(
        default="", description="Where models are looked for; empty: nowhere, they are taken to be there."
    )
    callfleet_ollama_endpoints: str = Field(
        default="", description="The servers behind that address, separated by commas, where they are several."
    )
    ollama_api_key: SecretStr | None = None
    callfleet_identity: str = Field(
        default="", description="Who stands for the lead: the pod's UID, so that its restarts lead on at once."
    )
    callfleet_recovery_pass_s: float = Field(
        default=60.0,
        ge=1,
        description="Between two readings of the carrier's lists after a restore, seconds: entries may appear late.",
    )
    callfleet_recovery_by_hand: bool = Field(
        default=False,
        description="After a restore somebody opens admission, when opt-outs that were lost are back, too.",
    )
    callfleet_metrics_port: int = 8081
    callfleet_test_pause: str | None = Field(
        default=None, description="Tests only: the name of a pause point at which the operator waits to be killed."
    )

    @field_validator("callfleet_test_pause", "callfleet_prices_file", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("callfleet_encryption_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr) -> SecretStr:
        Keyring.parse(value.get_secret_value())
        return value

    @property
    def identity(self) -> str:
        """Of this candidate for the lead; without a pod's UID, of this process alone."""
        return self.callfleet_identity or _PROCESS

    @property
    def subjects(self) -> Subjects:
        """What seals and opens contacts."""
        ring = Keyring.parse(self.callfleet_encryption_keys.get_secret_value())
        return Subjects(ring, self.callfleet_hash_key.get_secret_value().encode())

    @field_validator("callfleet_time_zone")
    @classmethod
    def _is_a_time_zone(cls, value: str) -> str:
        time_zone(value)
        return value

    @property
    def ollama_urls(self) -> list[str]:
        """Every server that must have a model."""
        named = self.callfleet_ollama_endpoints or self.ollama_base_url
        return [url.strip() for url in named.split(",") if url.strip()]

    @property
    def ollama_key(self) -> str | None:
        """What a proxy before them asks for."""
        return self.ollama_api_key.get_secret_value() if self.ollama_api_key else None

    @property
    def allowlist(self) -> list[str]:
        """The numbers that a real carrier may dial."""
        return [number.strip() for number in self.callfleet_dial_allowlist.split(",") if number.strip()]
