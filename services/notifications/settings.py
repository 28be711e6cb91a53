"""Settings of notifications, from the environment: `NOTIFICATIONS_…`."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.notifications.mail.address import normalized
from services.notifications.mail.message import parse_sender
from services.notifications.mail.server import server
from shared.runtime.settings import load

__all__ = ["Settings", "settings"]


class Settings(BaseSettings):
    """What can be set about notifications. Times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_", extra="ignore")

    console_url: str = Field(
        default="http://127.0.0.1:8000",
        pattern=r"^https?://",
        description="Where people reach the console; links in mails lead there.",
    )
    public_url: str = Field(
        default="http://127.0.0.1:8001",
        pattern=r"^https?://",
        description="Where mail programs reach this API, to unsubscribe.",
    )
    smtp_url: SecretStr = Field(
        default=SecretStr("smtp://127.0.0.1:1025"),
        description="The mail server: `smtp://user:password@host:587`, with STARTTLS unless it is on this machine or "
        "the URL ends with `?tls=never`; or `smtps://…`, with TLS from the start.",
    )
    mail_sender: str = Field(
        default="Backroom <no-reply@backroom.example>", description="From whom mails are: `Name <address>`."
    )
    smtp_seconds: float = Field(
        default=30, gt=0, le=60, description="How long to wait for a connection, and for any answer of the mail server."
    )
    smtp_mails_per_connection: int = Field(
        default=1000,
        ge=1,
        description="After so many mails a connection is closed; mail servers have limits, too.",
    )
    smtp_idle_seconds: float = Field(
        default=60, gt=0, description="A connection that was not used for so long is not used again."
    )
    webhook_trusted_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts (name:port) that webhooks may be sent to although they are not on the internet: for "
        "development only.",
    )
    webhook_connect_seconds: float = Field(
        default=5, gt=0, le=30, description="How long to wait for the receiver of a webhook to be there."
    )
    webhook_total_seconds: float = Field(
        default=20, gt=0, le=60, description="How long sending a webhook may take, its answer included."
    )
    webhook_failing_days: float = Field(
        default=5, gt=0, description="After this long without taking anything an endpoint of webhooks is disabled."
    )
    webhook_rotation_hours: float = Field(
        default=24, gt=0, description="How long webhooks are signed with the old secret besides the new one."
    )
    webhook_days: float = Field(default=30, ge=1, description="For how long the log of webhooks is kept.")
    model_base_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Where the language model is that writes watches for workspaces without one of their own: any "
        "endpoint that speaks OpenAI's chat completions. What is called is `/v1/chat/completions` there, or "
        "`/chat/completions` below the path that it has. Without it such workspaces cannot make watches.",
        examples=["https://api.openai.com/v1"],
    )
    model_name: str = Field(default="gpt-4.1-mini", description="The name of that model.")
    model_key: SecretStr | None = Field(default=None, description="The key for that model, where it wants one.")
    model_trusted_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts (name:port) of workspaces' own models that may be asked although they are not on the "
        "internet: for development only.",
    )
    model_total_seconds: float = Field(default=60, gt=0, le=100, description="How long one answer of a model may take.")
    model_per_minute: int = Field(default=20, ge=2, description="How often a workspace may ask a model in a minute.")
    draft_days: float = Field(default=7, ge=1, description="For how long watches that nobody confirmed are kept.")

    stuck_days: float = Field(
        default=3, gt=0, description="After so long in New or Processing an order is stuck, and fulfillment is told."
    )
    morning_hour: int = Field(
        default=8, ge=0, le=23, description="From this hour on, in the workspace's time zone, it is morning."
    )
    retried_minutes: float = Field(
        default=30,
        gt=0,
        description="An alert whose jobs were all tried again, and of which none failed for so long, is resolved; "
        "longer than the retries of a job take.",
    )
    quiet_days: float = Field(
        default=7, gt=0, description="An alert whose cause has not struck again for so long is resolved."
    )
    notice_days: float = Field(default=90, gt=0, description="For how long notices are kept.")
    alert_days: float = Field(default=90, gt=0, description="For how long resolved alerts are kept.")

    @field_validator("smtp_url")
    @classmethod
    def _is_a_mail_server(cls, value: SecretStr) -> SecretStr:
        server(value.get_secret_value())
        return value

    @field_validator("mail_sender")
    @classmethod
    def _is_a_sender(cls, value: str) -> str:
        normalized(parse_sender(value)[1])
        return value


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings, read from the environment on first use. Raises BadSettings.

    `settings.cache_clear()` forgets them, for tests.
    """
    return load(Settings)
