"""Forgetting old notices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.notifications.settings import settings
from shared.jobs import Priority, actor, cron
from shared.jobs.library.cleaning import delete_in_batches

__all__ = ["prune_notices"]


@actor(
    queue_name="default", priority=Priority.BULK, unique=(), subject="Forget old notices", periodic=cron("45 4 * * *")
)
def prune_notices() -> dict[str, int]:
    """Delete notices after 90 days, read or not, with their receipts."""
    before = {"before": datetime.now(UTC) - timedelta(days=settings().notice_days)}
    batch = "DELETE FROM {0} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {0} WHERE {1} < :before LIMIT :batch))"
    return {
        "receipts": delete_in_batches(batch.format("notice_receipts", "told_at"), before),
        "notices": delete_in_batches(batch.format("notices", "created_at"), before),
    }
