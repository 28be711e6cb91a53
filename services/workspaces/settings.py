"""Settings of workspaces, from the environment: `WORKSPACES_…`."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.runtime.settings import load

__all__ = ["Settings", "settings"]


class Settings(BaseSettings):
    """What can be set about workspaces. Times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="WORKSPACES_", extra="ignore")

    console_url: str = Field(
        default="http://127.0.0.1:8000",
        pattern=r"^https?://",
        description="Where people reach the console; links in mails lead there.",
    )
    link_minutes: float = Field(default=15, gt=0, le=60, description="For how long a link to sign in is good.")
    invitation_days: float = Field(default=7, gt=0, le=30, description="For how long an invitation is good.")
    session_days: float = Field(default=30, gt=0, le=90, description="After so long without use a session is over.")
    access_seconds: int = Field(default=600, ge=60, le=1800, description="For how long an access token is good.")
    signing_key_days: float = Field(
        default=30, ge=1, le=365, description="After so long another key signs access tokens."
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        le=10,
        description="How many proxies of ours stand before the API: so many entries of X-Forwarded-For are believed, "
        "from the right.",
    )
    paddle_base_url: str = Field(
        default="https://api.paddle.com", pattern=r"^https?://", description="Where Paddle's API is."
    )
    paddle_api_key: SecretStr | None = Field(
        default=None, description="Lets us ask Paddle who pays. Without it nothing is taken away from anybody."
    )
    paddle_webhook_secret: SecretStr | None = Field(
        default=None, description="What Paddle signs its webhooks with. Without it all of them are refused."
    )
    paddle_tolerance_seconds: float = Field(
        default=300, gt=0, le=3600, description="How far the time of a signed webhook may be from ours; Paddle says 5."
    )
    paddle_total_seconds: float = Field(
        default=20, gt=0, le=60, description="How long one question to Paddle may take as a whole."
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings, read from the environment on first use. Raises BadSettings.

    `settings.cache_clear()` forgets them, for tests.
    """
    return load(Settings)
