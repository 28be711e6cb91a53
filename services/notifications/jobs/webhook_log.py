"""The log of webhooks: sending again what it holds, and keeping it no longer than it is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, exists, or_, select, update

from services.notifications.jobs.webhooks import deliver_webhook
from services.notifications.settings import settings
from services.notifications.webhooks.models import WebhookDelivery, WebhookEndpoint
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron, current_job, enqueue_many

__all__ = ["clean_up_webhook_deliveries", "replay_webhooks"]

_BATCH: Final = 500
_START: Final = str(UUID(int=0))


@actor(queue_name="default", unique="endpoint_id", subject="Send webhooks to {host:.100} again")
def replay_webhooks(endpoint_id: UUID, since: datetime, delivered: bool, host: str) -> dict[str, int]:
    """Send again what an endpoint was to get since a moment: what did not arrive, or all of it."""
    job = current_job()
    states = ("failed", "dropped", *(("delivered",) if delivered else ()))
    count, after = int(job.checkpoint.get("count", 0)), str(job.checkpoint.get("after", _START))
    while True:
        with unit_of_work() as session:
            found = session.execute(
                select(WebhookDelivery.id, WebhookDelivery.event_type)
                .where(
                    WebhookDelivery.endpoint_id == endpoint_id,
                    WebhookDelivery.created_at >= since,
                    WebhookDelivery.state.in_(states),
                    WebhookDelivery.id > UUID(after),
                    exists().where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.state == "enabled"),
                )
                .order_by(WebhookDelivery.id)
                .limit(_BATCH)
            ).all()
            session.execute(
                update(WebhookDelivery)
                .where(WebhookDelivery.id.in_([row.id for row in found]))
                .values(state="waiting", attempts=0, queued_at=datetime.now(UTC))
            )
            wanted = [{"delivery_id": row.id, "event_type": row.event_type, "host": host} for row in found]
            enqueue_many(deliver_webhook, wanted, priority=Priority.BULK)
            count, after = count + len(found), str(found[-1].id) if found else after
            job.progress(count, None, unit="webhooks", checkpoint={"count": count, "after": after})
        if len(found) < _BATCH:
            return {"webhooks": count}
        job.breathe()


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up old webhooks",
    periodic=cron("35 4 * * *"),
)
def clean_up_webhook_deliveries() -> dict[str, int]:
    """Remove what was sent, or not, longer ago than it is kept, unless it is still to be sent."""
    before = datetime.now(UTC) - timedelta(days=settings().webhook_days)
    still_wanted = exists().where(WebhookEndpoint.id == WebhookDelivery.endpoint_id)
    old = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.created_at < before, or_(WebhookDelivery.state != "waiting", ~still_wanted))
        .order_by(WebhookDelivery.created_at)
        .limit(_BATCH)
    )
    removed = 0
    while True:
        with unit_of_work(system=True) as session:
            gone = session.scalars(
                delete(WebhookDelivery)
                .where(WebhookDelivery.id.in_(old))
                .returning(WebhookDelivery.id)
                .execution_options(synchronize_session=False)
            ).all()
            removed += len(gone)
            current_job().progress(removed, None, unit="webhooks")
        if len(gone) < _BATCH:
            return {"webhooks": removed}
        current_job().breathe()
