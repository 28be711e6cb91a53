"""What Paddle Billing says, in our words: https://developer.paddle.com/api-reference/subscriptions/overview.

We put two things into Paddle ourselves: `custom_data.workspace` of a subscription, at checkout, and
`custom_data.plan` of a price.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

__all__ = ["SIGNATURE_HEADER", "BillingEvent", "Status", "SubscriptionObject", "Unreadable", "parse_event"]

SIGNATURE_HEADER: Final = "Paddle-Signature"

Status = Literal["trialing", "active", "past_due", "paused", "canceled"]

_SUBDOMAIN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Unreadable(ValueError):
    """It is not what Paddle documents; it will not become so by being sent again."""


class _Price(BaseModel):
    custom_data: dict[str, Any] | None = None


class _Item(BaseModel):
    price: _Price | None = None


class _ScheduledChange(BaseModel):
    action: str
    effective_at: AwareDatetime


class SubscriptionObject(BaseModel):
    """A subscription, as much of it as matters here."""

    id: str = Field(pattern=r"^sub_\w{1,100}$")
    customer_id: str = Field(pattern=r"^ctm_\w{1,100}$")
    status: Status
    items: list[_Item] = []
    custom_data: dict[str, Any] | None = None
    scheduled_change: _ScheduledChange | None = None
    canceled_at: AwareDatetime | None = None
    updated_at: AwareDatetime

    @property
    def workspace(self) -> str | None:
        """The subdomain for which it was bought; None where there is none that could be one."""
        name = (self.custom_data or {}).get("workspace")
        return name if isinstance(name, str) and _SUBDOMAIN.fullmatch(name) else None

    @property
    def plan(self) -> str | None:
        """The plan that is paid for, by the first of its prices that names one."""
        named = [(item.price.custom_data or {}).get("plan") for item in self.items if item.price is not None]
        return next((plan for plan in named if isinstance(plan, str)), None)

    @property
    def ends_at(self) -> datetime | None:
        """When it will end, where somebody has cancelled it for then."""
        change = self.scheduled_change
        return change.effective_at if change is not None and change.action == "cancel" else None

    @classmethod
    def parse(cls, data: Any) -> SubscriptionObject:
        """Read one. Raises Unreadable."""
        return _read(cls, data)


class BillingEvent(BaseModel):
    """A webhook, of which `data` is the thing that it is about."""

    event_id: str = Field(pattern=r"^evt_\w{1,100}$")
    event_type: str = Field(max_length=100)
    occurred_at: AwareDatetime
    data: dict[str, Any]

    @property
    def is_about_subscription(self) -> bool:
        return self.event_type.startswith("subscription.")

    def subscription(self) -> SubscriptionObject:
        """Return what became of the subscription that it is about. Raises Unreadable."""
        return SubscriptionObject.parse(self.data)


def parse_event(body: bytes | Mapping[str, Any]) -> BillingEvent:
    """Read a webhook, raw or already decoded. Raises Unreadable."""
    if isinstance(body, bytes):
        try:
            return BillingEvent.model_validate_json(body)
        except ValidationError as error:
            raise Unreadable(_problems(error)) from None
    return _read(BillingEvent, body)


def _read(shape: type[Any], data: Any) -> Any:
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        raise Unreadable(_problems(error)) from None


def _problems(error: ValidationError) -> str:
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found[:5])
