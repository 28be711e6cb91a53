"""Keeping house: what is old goes.

All delete in batches, each its own commit, and go on in a later run when their time is over.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from shared.db import unit_of_work, uuid7_floor
from shared.jobs.actor import Priority, actor
from shared.jobs.current import current_job
from shared.jobs.schedules import cron

__all__ = [
    "clean_up_events",
    "clean_up_idempotency_keys",
    "clean_up_jobs",
    "clean_up_revocations",
    "clean_up_webhook_events",
]

KEEP_JOBS = timedelta(days=30)
KEEP_FAILED_JOBS = timedelta(days=90)
KEEP_EVENTS = timedelta(days=30)
KEEP_WEBHOOKS = timedelta(days=30)
KEEP_FAILED_WEBHOOKS = timedelta(days=90)
_BATCH = 1000
_BUDGET = 60.0


def delete_in_batches(statement: str, parameters: dict[str, Any]) -> int:
    """Run a DELETE with a `:batch` limit until it finds no more; return how many rows went.

    Stops after a minute and leaves the rest to the next run.
    """
    job = current_job()
    deadline = time.monotonic() + _BUDGET
    total = 0
    while time.monotonic() < deadline:
        with unit_of_work(system=True) as session:
            count = session.execute(text(statement), {**parameters, "batch": _BATCH}).rowcount  # type: ignore[attr-defined]
            total += count
            job.progress(total, None, unit="rows")
        if count < _BATCH:
            break
        job.breathe()
    return total


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up finished jobs",
    periodic=cron("20 3 * * *"),
)
def clean_up_jobs() -> dict[str, int]:
    """Delete finished jobs with their attempts: succeeded and cancelled after 30 days, failed after 90."""
    now = datetime.now(UTC)
    statement = (
        "WITH old AS (DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE id < :floor AND state = ANY(:states) "
        "AND finished_at < :before ORDER BY id LIMIT :batch) RETURNING id), "
        "attempts AS (DELETE FROM job_attempts USING old WHERE job_id = old.id) SELECT id FROM old"
    )
    done = delete_in_batches(
        statement,
        {
            "floor": uuid7_floor(now - KEEP_JOBS),
            "states": ["succeeded", "cancelled"],
            "before": now - KEEP_JOBS,
        },
    )
    failed = delete_in_batches(
        statement,
        {
            "floor": uuid7_floor(now - KEEP_FAILED_JOBS),
            "states": ["failed"],
            "before": now - KEEP_FAILED_JOBS,
        },
    )
    return {"done": done, "failed": failed}


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up published events",
    periodic=cron("40 3 * * *"),
)
def clean_up_events() -> dict[str, int]:
    """Delete published events after 30 days; until then they can be replayed."""
    before = datetime.now(UTC) - KEEP_EVENTS
    deleted = delete_in_batches(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE id < :floor AND published_at < :before "
        "ORDER BY id LIMIT :batch)",
        {"floor": uuid7_floor(before), "before": before},
    )
    return {"events": deleted}


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up expired idempotency keys",
    periodic=cron("50 3 * * *"),
)
def clean_up_idempotency_keys() -> dict[str, int]:
    """Delete idempotency keys that have expired."""
    deleted = delete_in_batches(
        "DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency_keys "
        "WHERE expires_at < clock_timestamp() LIMIT :batch))",
        {},
    )
    return {"keys": deleted}


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up processed webhooks",
    periodic=cron("10 4 * * *"),
)
def clean_up_webhook_events() -> dict[str, int]:
    """Delete webhook events: processed ones after 30 days, failed ones after 90. Unprocessed ones stay."""
    now = datetime.now(UTC)
    statement = (
        "DELETE FROM webhook_events WHERE id IN (SELECT id FROM webhook_events WHERE received_at < :before "
        "AND state = :state ORDER BY received_at LIMIT :batch)"
    )
    processed = delete_in_batches(statement, {"before": now - KEEP_WEBHOOKS, "state": "processed"})
    failed = delete_in_batches(statement, {"before": now - KEEP_FAILED_WEBHOOKS, "state": "failed"})
    return {"processed": processed, "failed": failed}


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up revocations",
    periodic=cron("30 4 * * *"),
)
def clean_up_revocations() -> dict[str, int]:
    """Delete revocations of credentials whose last token has expired a day ago."""
    deleted = delete_in_batches(
        "DELETE FROM revocations WHERE ctid = ANY(ARRAY(SELECT ctid FROM revocations "
        "WHERE forget_at < clock_timestamp() - interval '1 day' LIMIT :batch))",
        {},
    )
    return {"revocations": deleted}
