"""Events for services under test: have one arrive, as if another service had published it.

    deliver(crm, LabelPurchased.example(), subject=label_id)
    crm.drain()                                   # its handlers run

It passes through the real inbox, but through no broker; deliver it twice to see it handled once.
"""

from __future__ import annotations

import contextvars
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from shared.db import new_id
from shared.events.contracts import EventContract
from shared.events.contracts.contract import service_of
from shared.events.envelope import envelope
from shared.jobs.handlers import receive
from shared.jobs.wire import Delivery
from shared.testing.service import ServiceUnderTest

__all__ = ["cloud_event", "deliver"]


def cloud_event(
    event: EventContract,
    *,
    subject: uuid.UUID | str | None = None,
    sequence: int | None = None,
    tenant_id: str = "acme",
    event_id: uuid.UUID | str | None = None,
    **attributes: Any,
) -> dict[str, Any]:
    """Return the CloudEvent in which this event travels; `attributes` replace or add some of its own."""
    row = SimpleNamespace(
        id=event_id or new_id(),
        tenant_id=tenant_id,
        type=type(event).type,
        subject=str(subject or new_id()),
        sequence=sequence,
        data=event.model_dump(mode="json"),
        principal=None,
        correlation_id=None,
        causation_id=None,
        traceparent=None,
        replay_of=None,
        created_at=datetime.now(UTC),
    )
    return {**envelope(service_of(type(event).type), row), **attributes}


def deliver(service: ServiceUnderTest, event: EventContract | dict[str, Any], **attributes: Any) -> str:
    """Have an event arrive at the service: one job per handler is written; returns the event's id.

    `event` is a contract's instance, for which `attributes` are those of `cloud_event`, or a whole CloudEvent.
    Raises NoHandler when the service does not handle its type.
    """
    if not isinstance(event, dict):
        attributes.setdefault("tenant_id", service.tenant_id)
        event = cloud_event(event, **attributes)
    # A worker's thread knows neither the test's unit of work nor its tenant.
    context = contextvars.Context()
    context.run(service.database.bind)
    context.run(receive, service.app.handlers, Delivery(event))
    return str(event["id"])
