"""What tenants' own systems can be told: our promise to them, kept apart from how services talk among themselves.

A type is never taken back, and its data only grows. Of an event goes out what means something outside: no jobs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.events.contracts import EventContract, imports, shipping

__all__ = ["PUBLISHED", "TEST", "Published", "payload"]

TEST: Final = "webhook.test"
"""The type of what is sent on request, to try an endpoint; it is not subscribed to."""


@dataclass(frozen=True, slots=True)
class Published:
    """A type that can be subscribed to, the event that it comes from, and what of it is told."""

    name: str
    contract: type[EventContract]
    fields: tuple[str, ...]

    @property
    def description(self) -> str:
        """What has happened, in a sentence."""
        return (self.contract.__doc__ or "").strip().splitlines()[0]

    def data(self, event: EventContract) -> dict[str, Any]:
        """Return what is told of an event, as it is in JSON."""
        return event.model_dump(mode="json", include=set(self.fields))


_LABEL: Final = ("label_id", "order_id", "order_number")
_IMPORT: Final = ("import_id", "kind", "file_name", "requested_by")

_ALL: Final = (
    Published("order.created", shipping.OrderCreated, ("order_id", "number", "created_by", "recipient")),
    Published(
        "order.transitioned",
        shipping.OrderTransitioned,
        ("order_id", "number", "created_by", "from_state", "to_state", "by", "reason"),
    ),
    Published(
        "order.milestone_reached",
        shipping.MilestoneReached,
        ("order_id", "order_number", "milestone", "recipient", "carrier", "tracking_number", "tracking_url"),
    ),
    Published(
        "label.purchased",
        shipping.LabelPurchased,
        (
            *_LABEL,
            "requested_by",
            "carrier",
            "service",
            "amount",
            "currency",
            "tracking_number",
            "tracking_url",
            "purchased_at",
        ),
    ),
    Published("label.failed", shipping.LabelFailed, (*_LABEL, "requested_by", "code")),
    Published("label.refunded", shipping.LabelRefunded, (*_LABEL, "amount", "currency")),
    Published(
        "tracking.updated",
        shipping.TrackingUpdated,
        (
            "order_id",
            "label_id",
            "carrier",
            "tracking_number",
            "status",
            "substatus",
            "details",
            "place",
            "status_date",
            "eta",
        ),
    ),
    Published("import.completed", imports.ImportCompleted, (*_IMPORT, "created", "updated", "skipped", "failed")),
    Published("import.failed", imports.ImportFailed, (*_IMPORT, "code", "processed", "rows")),
)

PUBLISHED: Final = {one.name: one for one in _ALL}


def payload(event_type: str, at: datetime, data: dict[str, Any]) -> str:
    """Return the body of a webhook: what happened, when, and to what."""
    body = {"type": event_type, "timestamp": at.isoformat().replace("+00:00", "Z"), "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
