"""Settings from the environment, by the names that docs/requirements.md lists (O2), one class for each room."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from callfleet_core.db.engine import database_url


class DatabaseSettings(BaseSettings):
    """Where PostgreSQL is. `DATABASE_URL` is required; both postgresql:// and postgresql+psycopg:// are understood."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore")

    database_url: SecretStr = Field(description="PostgreSQL, e.g. postgresql://user:password@host:5432/callfleet")

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        database_url(value.get_secret_value())
        return value


class RedisSettings(BaseSettings):
    """Where Redis is, with its password in the URL."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore")

    redis_url: SecretStr = Field(description="Redis, e.g. redis://:password@host:6379/0")


class CarrierSettings(BaseSettings):
    """The installation's carrier account. The token signs and checks webhooks; an API key may place the calls."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore")

    twilio_account_sid: str = Field(pattern=r"^AC[0-9a-fA-F]{32}$")
    twilio_auth_token: SecretStr
    twilio_api_key_sid: str | None = None
    twilio_api_key_secret: SecretStr | None = None
    callfleet_public_url: str = Field(
        pattern=r"^https?://\S+$",
        description="Where the carrier reaches the gateway; no trailing slash is kept.",
    )
    callfleet_carrier_api_base_url: str = Field(
        pattern=r"^https?://\S+$",
        description="The carrier's REST API. Always explicit, so that no test or demo can leave the simulator.",
    )
    callfleet_carrier_calls_per_second: float = Field(default=1.0, gt=0, le=100)
    callfleet_carrier_max_concurrent: int = Field(
        default=10, ge=1, le=100_000, description="Calls at once; an individual's account has 10."
    )

    @field_validator("callfleet_public_url", "callfleet_carrier_api_base_url")
    @classmethod
    def _without_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")


class LogSettings(BaseSettings):
    """How much is logged; see callfleet_core.logs."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore")

    log_level: str = Field(default="INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")
