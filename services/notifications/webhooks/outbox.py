"""Writing what is to be sent: a row per endpoint and message, and the job that sends it, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications.jobs.webhooks import deliver_webhook
from services.notifications.webhooks.catalog import payload
from services.notifications.webhooks.models import WebhookDelivery, WebhookEndpoint
from shared.context import current
from shared.db import new_id
from shared.jobs import enqueue_many

__all__ = ["send_to", "tell_endpoints"]


def tell_endpoints(session: Session, event_type: str, message_id: str, at: datetime, data: dict[str, Any]) -> int:
    """Have a message sent to each endpoint that wants such; return how many are new.

    A message that an endpoint has got or is to get already is none.
    """
    wanting = session.execute(
        select(WebhookEndpoint.id, WebhookEndpoint.url)
        .where(WebhookEndpoint.state == "enabled", WebhookEndpoint.event_types.contains([event_type]))
        .order_by(WebhookEndpoint.id)
    ).all()
    return len(send_to(session, [(row.id, row.url) for row in wanting], event_type, message_id, at, data))


def send_to(
    session: Session,
    endpoints: Sequence[tuple[Any, str]],
    event_type: str,
    message_id: str,
    at: datetime,
    data: dict[str, Any],
) -> list[Any]:
    """Have a message sent to these endpoints (id and URL); return the ids of the deliveries that are new."""
    if not endpoints:
        return []
    body, tenant_id = payload(event_type, at, data), current().tenant_id
    rows = [
        {
            "id": new_id(),
            "tenant_id": tenant_id,
            "endpoint_id": endpoint_id,
            "message_id": message_id,
            "event_type": event_type,
            "body": body,
            "state": "waiting",
        }
        for endpoint_id, _ in endpoints
    ]
    made = session.execute(
        insert(WebhookDelivery)
        .values(rows)
        .on_conflict_do_nothing()
        .returning(WebhookDelivery.id, WebhookDelivery.endpoint_id)
    ).all()
    hosts = {endpoint_id: urlsplit(url).hostname or "" for endpoint_id, url in endpoints}
    enqueue_many(
        deliver_webhook,
        [{"delivery_id": row.id, "event_type": event_type, "host": hosts[row.endpoint_id]} for row in made],
    )
    return [row.id for row in made]
