"""Settings of imports, from the environment: `IMPORTS_…`."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.runtime.settings import load

__all__ = ["Settings", "settings"]


class Settings(BaseSettings):
    """What can be set about imports. Times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="IMPORTS_", extra="ignore")

    max_file_bytes: int = Field(
        default=200_000_000, gt=0, le=5_000_000_000, description="The largest file that may be uploaded, in bytes."
    )
    max_rows: int = Field(default=2_000_000, gt=0, description="The most rows that a file may have.")
    max_columns: int = Field(default=200, gt=0, le=2000, description="The most columns that a file may have.")
    max_field_chars: int = Field(default=20_000, gt=0, le=1_000_000, description="The longest cell, in characters.")
    max_records: int = Field(
        default=5_000_000, gt=0, description="How many records of one kind a workspace may have, all imports together."
    )
    batch_rows: int = Field(default=5_000, gt=0, le=50_000, description="How many rows share one commit.")
    upload_days: float = Field(default=30, gt=0, description="For how long uploaded files are kept.")
    image_max_bytes: int = Field(default=10_000_000, gt=0, description="The largest picture that is fetched, in bytes.")
    image_max_pixels: int = Field(
        default=50_000_000, gt=0, description="The most pixels that a picture may have; what has more is refused."
    )
    image_connect_seconds: float = Field(default=10, gt=0, le=60, description="How long to wait for a picture's host.")
    image_total_seconds: float = Field(default=30, gt=0, le=300, description="How long fetching a picture may take.")
    image_per_host: int = Field(default=2, gt=0, description="How many pictures of one host are fetched at a time.")
    image_attempts: int = Field(
        default=12, gt=0, description="How often a picture that cannot be had now is tried, every five minutes."
    )
    image_trusted_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts (name:port) that may be fetched from although they are not on the internet: for a sandbox "
        "on a developer's machine only.",
    )
    erp_trusted_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts (name:port) of ERPs that may be asked although they are not on the internet: for a sandbox "
        "on a developer's machine only.",
    )
    erp_connect_seconds: float = Field(default=5, gt=0, le=60, description="How long to wait for an ERP to be there.")
    erp_total_seconds: float = Field(default=60, gt=0, le=300, description="How long one page of an ERP may take.")
    erp_max_bytes: int = Field(
        default=8_000_000, gt=0, le=50_000_000, description="The largest page that is taken from an ERP, in bytes."
    )
    erp_max_pages: int = Field(
        default=5_000, gt=0, le=9_000, description="The most pages of 500 items that an ERP is asked for in one pass."
    )
    erp_overlap_seconds: float = Field(
        default=300, ge=0, description="How far a pass reaches back before the last one, since clocks differ."
    )
    erp_log_days: float = Field(
        default=30, ge=1, description="For how long the log of an ERP is kept, of what went well."
    )
    erp_failed_log_days: float = Field(
        default=90, ge=1, description="For how long the log of an ERP is kept, of what failed."
    )
    erp_tolerance_seconds: float = Field(
        default=300, gt=0, le=3600, description="How far the time of a signed feed may be from ours."
    )
    erp_rotation_hours: float = Field(
        default=24, gt=0, description="How long the secret of a feed stays valid after a new one was made."
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings, read from the environment on first use. Raises BadSettings.

    `settings.cache_clear()` forgets them, for tests.
    """
    return load(Settings)
