"""The worker's environment; docs/worker.md lists every name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from callfleet_core.api.worker import LONGEST_DRAIN_S
from callfleet_core.settings import DatabaseSettings, LogSettings, RedisSettings


class WorkerSettings(DatabaseSettings, RedisSettings, LogSettings):
    """Shared by the supervisor and its call processes, which inherit its environment."""

    callfleet_carrier_dir: Path | None = Field(
        default=None,
        description="A carrier Secret as a folder, read anew for each call: a changed key needs no new worker.",
    )
    twilio_auth_token: SecretStr | None = Field(default=None, description="Without that folder: what calls with.")
    twilio_api_key_sid: str | None = None
    twilio_api_key_secret: SecretStr | None = None
    callfleet_namespace_keys: SecretStr = Field(description="Keys of the namespace's personal data; of no other's.")
    ollama_base_url: str = Field(default="", description="Empty: no model; grammars and templates carry the calls.")
    ollama_api_key: SecretStr | None = None
    callfleet_models_dir: Path = Field(default=Path("/models"), description="Holds whisper-base/ and piper/.")
    callfleet_whisper_model: str = "whisper-base"
    callfleet_piper_voice: str = "piper/en_US-joe-medium.onnx"
    callfleet_device: Literal["auto", "cpu", "cuda"] = "auto"
    callfleet_stt_replicas: int = Field(
        default=1, ge=1, le=8, description="Decodes at a time, one thread each on a CPU."
    )
    callfleet_slots: int = Field(default=1, ge=1, le=50, description="Calls at a time.")
    callfleet_cpu_millis: int | None = Field(
        default=None, ge=1, description="Thousandths of a core that this pod may use: no further call above 80 %."
    )
    callfleet_memory_bytes: int | None = Field(
        default=None, ge=1, description="Memory that this pod may use: no further call above 90 %."
    )
    callfleet_pool: str = ""
    callfleet_worker_port: int = Field(default=8081, ge=0, le=65_535, description="Health and metrics.")
    callfleet_drain_s: float = Field(
        default=LONGEST_DRAIN_S, ge=0, le=7_200, description="How long SIGTERM waits for live calls."
    )
    callfleet_run_dir: Path | None = Field(
        default=None, description="For the speech sockets; default: a new temporary folder."
    )
    pod_name: str = ""
    pod_namespace: str = ""
    pod_uid: str = ""
    pod_ip: str = Field(default="127.0.0.1", description="Where the gateway reaches the calls' media ports.")

    @property
    def whisper_dir(self) -> Path:
        """The folder of the speech-to-text model."""
        return self.callfleet_models_dir / self.callfleet_whisper_model

    @property
    def piper_voice(self) -> Path:
        """The voice's .onnx file; its .json lies beside it."""
        return self.callfleet_models_dir / self.callfleet_piper_voice
