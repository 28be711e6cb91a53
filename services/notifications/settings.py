"""Settings of notifications, from the environment: `NOTIFICATIONS_…`."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

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


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings, read from the environment on first use. Raises BadSettings.

    `settings.cache_clear()` forgets them, for tests.
    """
    return load(Settings)
