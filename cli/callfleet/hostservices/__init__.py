"""PostgreSQL, Redis and Ollama on this machine for the demo and the tests, each ended with its owner."""

from callfleet.hostservices.errors import HostServiceError
from callfleet.hostservices.ollama import OllamaServer, ollama
from callfleet.hostservices.postgres import (
    DURABLE,
    PostgresServer,
    clean_up,
    fresh_database,
    postgres,
    postgres_program,
)
from callfleet.hostservices.redis import RedisServer, redis

__all__ = [
    "DURABLE",
    "HostServiceError",
    "OllamaServer",
    "PostgresServer",
    "RedisServer",
    "clean_up",
    "fresh_database",
    "ollama",
    "postgres",
    "postgres_program",
    "redis",
]
