"""Settings of shipping, from the environment: `SHIPPING_…`."""

from __future__ import annotations

from functools import lru_cache
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.runtime.settings import load

__all__ = ["Settings", "settings"]


class Settings(BaseSettings):
    """What can be set about shipping. Times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="SHIPPING_", extra="ignore")

    shippo_base_url: str = Field(
        default="https://api.goshippo.com", pattern=r"^https?://", description="Where Shippo's API is."
    )
    shippo_own_limits: bool = Field(
        default=True, description="Keep to Shippo's limits per minute by ourselves; off against the sandbox only."
    )
    shippo_read_seconds: float = Field(
        default=30, gt=0, le=120, description="How long to wait for any sign of life in an answer of Shippo."
    )
    shippo_total_seconds: float = Field(
        default=40, gt=0, le=180, description="How long one call of Shippo may take as a whole."
    )
    settle_seconds: float = Field(
        default=120,
        gt=0,
        le=3600,
        description="How long after a purchase without an answer we look for it; above twice the total of a call, "
        "since a purchase that is still under way then would not be found, and be made again.",
    )
    poll_seconds: tuple[float, ...] = Field(
        default=(10, 60, 600),
        min_length=1,
        description="Pauses between looks at a purchase that Shippo has queued; the last one repeats.",
    )
    poll_hours: float = Field(default=24, gt=0, description="After this long a queued purchase is put before a person.")
    refund_poll_seconds: tuple[float, ...] = Field(
        default=(60, 600, 3600, 21600),
        min_length=1,
        description="Pauses between looks at a refund; the last one repeats.",
    )
    refund_days: float = Field(
        default=21, gt=0, description="After this long without a decision a refund is put before a person."
    )
    rate_days: float = Field(default=7, gt=0, le=7, description="Age at which a rate cannot be bought any more.")
    recheck_hours: float = Field(
        default=24, gt=0, description="For how long a label of unknown outcome is looked for every hour."
    )
    tracking_stale_hours: float = Field(
        default=24, gt=0, description="Silence about a parcel on its way after which we ask by ourselves."
    )
    tracking_days: float = Field(default=60, gt=0, description="For how long after its label a parcel is followed.")
    label_file_days: float = Field(default=90, gt=0, description="For how long label files are kept.")
    stuck_days: float = Field(
        default=3, gt=0, description="After so long in New or Processing without a move an order counts as stuck."
    )
    webhook_tolerance_seconds: float = Field(
        default=300, gt=0, description="How old a signed webhook may be when it arrives."
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Where Shippo reaches this API; with it, webhooks are registered there by themselves.",
        examples=["https://shipping.backroom.example"],
    )

    @model_validator(mode="after")
    def _settled_is_settled(self) -> Self:
        if self.settle_seconds <= 2 * self.shippo_total_seconds:
            raise ValueError("SHIPPING_SETTLE_SECONDS must be more than twice SHIPPING_SHIPPO_TOTAL_SECONDS")
        return self


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings, read from the environment on first use. Raises BadSettings.

    `settings.cache_clear()` forgets them, for tests.
    """
    return load(Settings)
