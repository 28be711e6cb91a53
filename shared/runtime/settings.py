"""Settings, from the environment alone: `BACKROOM_…`. What is wrong is said all at once, at the start.

Without any setting everything runs embedded. `BACKROOM_DATABASE_URL`, `BACKROOM_BROKER_URL` and
`BACKROOM_BLOB_URL` switch to real parts, one by one.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["BadSettings", "Settings", "load"]

S = TypeVar("S", bound=BaseSettings)


class BadSettings(Exception):
    """One or more settings are wrong; the message lists every one of them, and what would be right."""


class Settings(BaseSettings):
    """Settings that all services share."""

    model_config = SettingsConfigDict(env_prefix="BACKROOM_", extra="ignore")

    database_url: str | None = Field(
        default=None,
        description="URL of the services' databases, with {service} in it; empty: an embedded PostgreSQL.",
        examples=["postgresql://backroom@db/backroom_{service}"],
    )
    migration_database_url: str | None = Field(
        default=None, description="The same as the owner of the tables, for migrations; empty: the same URL."
    )
    broker_url: str | None = Field(
        default=None,
        description="URL of RabbitMQ; empty: an in-process broker.",
        examples=["amqp://backroom:secret@rabbitmq/backroom"],
    )
    blob_url: str | None = Field(
        default=None,
        description="Where files are kept, a directory or a bucket (s3://bucket/prefix?endpoint=…&region=…); "
        "empty: below the data directory.",
        examples=["file:///var/lib/backroom/blobs"],
    )
    services: tuple[str, ...] = Field(
        default=(),
        description="Which services `backroom up` runs, as a JSON list; empty: all.",
        examples=['["shipping"]'],
    )
    service: str | None = Field(default=None, description="Set by `backroom worker` for the processes that it starts.")
    version: str | None = Field(default=None, description="Version of the deployment; empty: that of the package.")
    data_dir: Path = Field(default=Path(".backroom"), description="Where embedded parts keep their data.")
    secret_key: SecretStr | None = Field(
        default=None,
        description="32 bytes in base64 that sign cursors; empty: one is made and kept in the data directory.",
    )
    encryption_keys: SecretStr | None = Field(
        default=None,
        description="Keys that encrypt secrets at rest, 32 bytes in base64 each, comma separated, newest first.",
    )
    jwks: str | None = Field(
        default=None,
        description="Public keys of whoever issues tokens: a JSON Web Key Set, or a URL or file with one, which is "
        "read again every minute; empty: a key is made and kept in the data directory.",
        examples=["http://workspaces/.well-known/jwks.json"],
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    env: str = Field(default="development", description="Name of this installation, in logs and traces.")
    retry_scale: float = Field(
        default=1.0, gt=0, le=100, description="Multiplies all retry delays; below 1 for demonstrations."
    )
    worker_threads: int = Field(default=8, ge=1, le=64, description="Jobs that one worker process runs at a time.")
    worker_processes: int = Field(default=1, ge=1, le=64, description="Worker processes per worker command.")
    web_threads: int = Field(default=16, ge=1, le=256, description="Requests that one web process serves at a time.")
    web_processes: int = Field(default=1, ge=1, le=64, description="Web processes per api command.")
    metrics_port: int = Field(
        default=0, ge=0, le=65000, description="First port of /metrics and /livez of workers; 0: none."
    )
    host: str = Field(default="127.0.0.1", description="Address on which APIs, metrics and probes listen.")
    port: int = Field(default=8000, ge=1, le=65000, description="Port of the API; `up` counts on from it.")
    sandbox_port: int = Field(default=4010, ge=0, le=65535, description="Port of the sandbox that `up` starts.")
    shutdown_seconds: float = Field(
        default=75,
        gt=0,
        le=1500,
        description="What a worker grants its running jobs when it is told to stop.",
    )
    suspended_seconds: float = Field(
        default=15, ge=3, description="Silence after which a worker that still holds its lock is given up."
    )

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _names_the_service(cls, value: str | None) -> str | None:
        if value is not None:
            if not value.startswith(("postgresql://", "postgres://")):
                raise ValueError("must begin with postgresql://")
            if "{service}" not in value:
                raise ValueError("must contain {service}, since each service has a database of its own")
        return value

    @field_validator("broker_url")
    @classmethod
    def _is_amqp(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("amqp://", "amqps://")):
            raise ValueError("must begin with amqp:// or amqps://")
        return value

    @field_validator("secret_key", "encryption_keys")
    @classmethod
    def _is_base64(cls, value: SecretStr | None) -> SecretStr | None:
        for part in (value.get_secret_value() if value else "").split(","):
            if part and len(base64.b64decode(part.strip(), validate=True)) != 32:
                raise ValueError("must be 32 bytes in base64")
        return value

    @field_validator("log_level")
    @classmethod
    def _is_level(cls, value: str) -> str:
        if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    def database(self, service: str) -> str:
        """Return the URL of a service's database; raises BadSettings in embedded mode."""
        if self.database_url is None:
            raise BadSettings("BACKROOM_DATABASE_URL: is needed outside of embedded mode")
        return self.database_url.replace("{service}", service)

    def migration_database(self, service: str) -> str:
        """Return the URL under which a service's database is migrated."""
        return (self.migration_database_url or self.database_url or "").replace("{service}", service)


def load(kind: type[S]) -> S:
    """Read settings from the environment; raises BadSettings that lists every mistake and unknown name."""
    problems: list[str] = []
    try:
        settings = kind()
    except ValidationError as error:
        settings = None
        prefix = kind.model_config.get("env_prefix", "")
        for item in error.errors(include_input=False, include_url=False):
            name = prefix + "_".join(str(part) for part in item["loc"]).upper()
            problems.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
    problems.extend(_unknown(kind))
    if problems:
        raise BadSettings("\n".join(problems))
    assert settings is not None
    return settings


def _unknown(kind: type[BaseSettings]) -> list[str]:
    """A misspelt name would be ignored in silence: say so."""
    prefix = kind.model_config.get("env_prefix", "")
    known = {prefix + name.upper() for name in kind.model_fields}
    return [
        f"{name}: there is no such setting"
        for name in sorted(os.environ)
        if prefix and name.startswith(prefix) and name not in known and not name.startswith(f"{prefix}TEST_")
    ]
