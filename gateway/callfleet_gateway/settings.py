"""What the gateway needs from its environment; names as in docs/requirements.md (O2)."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from callfleet_core.settings import DatabaseSettings, LogSettings, RedisSettings


class GatewaySettings(DatabaseSettings, RedisSettings, LogSettings):
    """One gateway: of the installation's carrier account, and of those that campaigns bring."""

    twilio_account_sid: str = Field(pattern=r"^AC[0-9a-fA-F]{32}$")
    twilio_auth_token: SecretStr = Field(description="Signs and checks everything between carrier and gateway.")
    callfleet_public_url: str = Field(
        pattern=r"^https?://[^\s?#]+$",
        description="Where the carrier reaches this gateway. Signatures are computed over it, never over Host.",
    )
    callfleet_namespace: str = Field(default="", description="The release's namespace, for the Secret below.")
    callfleet_carriers_secret: str = Field(
        default="", description="The Secret with the auth tokens of campaigns' own accounts; empty: there are none."
    )
    callfleet_gateway_listen: str = Field(default="0.0.0.0:8080", pattern=r"^\S+:\d{1,5}$")
    callfleet_gateway_max_legs: int = Field(default=200, ge=1, le=10_000, description="Media legs at once.")
    callfleet_gateway_drain_s: float = Field(
        default=20.0, ge=0, le=3600, description="How long live legs may finish after SIGTERM."
    )

    @field_validator("callfleet_public_url")
    @classmethod
    def _without_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.callfleet_gateway_listen.rpartition(":")
        return host.strip("[]"), int(port)
