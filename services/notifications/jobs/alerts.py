"""Silencing alerts whose cause is gone, and forgetting old ones.

Whether a job that failed came right after all, no service tells of each job; that would be an event for every job
that ends well. So an alert falls silent by what is told anyway, within five minutes:

- `mended`: for each of its failures the thing came right: a label of that order was bought, the import completed, the
  order was cancelled;
- `retried`: all was tried again from the alert, and nothing failed since for longer than the retries of a job take;
- `quiet`: its cause has not struck for a week;
- at once: the circuit closed, the account was connected, or somebody says so.

If the cause strikes again, that is a new alert.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text

from services.notifications.alerts import resolve
from services.notifications.settings import settings
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron, current_job
from shared.jobs.library.cleaning import delete_in_batches

__all__ = ["prune_alerts", "silence_alerts"]

_CLEAR: Final = """
UPDATE alert_occurrences AS failure SET cleared_at = mended.at
FROM (
    SELECT o.tenant_id, o.alert_id, o.key, min(came.succeeded_at) AS at
    FROM alerts AS a
    JOIN alert_occurrences AS o ON o.tenant_id = a.tenant_id AND o.alert_id = a.id AND o.cleared_at IS NULL
    JOIN outcomes AS failed ON failed.tenant_id = o.tenant_id AND failed.failed_job = o.key
    JOIN outcomes AS came ON came.tenant_id = o.tenant_id AND came.thing = failed.thing AND came.succeeded_at > o.at
    WHERE a.state <> 'resolved' AND a.kind = 'job_failed'
    GROUP BY o.tenant_id, o.alert_id, o.key
) AS mended
WHERE failure.tenant_id = mended.tenant_id AND failure.alert_id = mended.alert_id AND failure.key = mended.key
  AND failure.at < mended.at
"""

_OF_ALERT: Final = "SELECT FROM alert_occurrences AS o WHERE o.tenant_id = alerts.tenant_id AND o.alert_id = alerts.id"

_SILENT: Final = {
    "mended": f"kind = 'job_failed' AND NOT EXISTS ({_OF_ALERT} AND o.cleared_at IS NULL)",
    "retried": f"retried_at < :retried AND NOT EXISTS ({_OF_ALERT} AND o.at > alerts.retried_at)",
    "quiet": f"first_at < :quiet AND NOT EXISTS ({_OF_ALERT} AND o.at >= :quiet)",
}


@actor(queue_name="default", unique=(), subject="Silence alerts whose cause is gone", periodic=cron("*/5 * * * *"))
def silence_alerts() -> dict[str, int]:
    """Resolve the alerts of all workspaces whose cause is gone; the result is how many, by reason."""
    now = datetime.now(UTC)
    values = {
        "retried": now - timedelta(minutes=settings().retried_minutes),
        "quiet": now - timedelta(days=settings().quiet_days),
    }
    with unit_of_work(system=True) as session:
        session.execute(text(_CLEAR))
    silenced = dict.fromkeys(_SILENT, 0)
    for reason, where in _SILENT.items():
        while True:
            with unit_of_work(system=True) as session:
                found = resolve(session, where, values, reason, skip_busy=True)
            silenced[reason] += found
            if not found:
                break
            current_job().breathe()
    return silenced


@actor(
    queue_name="default", priority=Priority.BULK, unique=(), subject="Forget old alerts", periodic=cron("35 4 * * *")
)
def prune_alerts() -> dict[str, int]:
    """Delete alerts that were resolved long ago, and what failed and came right long ago."""
    before = datetime.now(UTC) - timedelta(days=settings().alert_days)
    batch = "DELETE FROM {0} WHERE ctid = ANY(ARRAY(SELECT {0}.ctid FROM {0} {1} LIMIT :batch))"
    values = {"before": before}
    return {
        # Failures first: without its alert nobody would find them.
        "failures": delete_in_batches(
            batch.format(
                "alert_occurrences",
                "JOIN alerts AS a ON a.tenant_id = alert_occurrences.tenant_id AND a.id = alert_occurrences.alert_id "
                "WHERE a.state = 'resolved' AND a.resolved_at < :before",
            ),
            values,
        ),
        "alerts": delete_in_batches(
            batch.format(
                "alerts",
                "WHERE state = 'resolved' AND resolved_at < :before AND NOT EXISTS (SELECT FROM alert_occurrences AS o "
                "WHERE o.tenant_id = alerts.tenant_id AND o.alert_id = alerts.id)",
            ),
            values,
        ),
        "outcomes": delete_in_batches(batch.format("outcomes", "WHERE noted_at < :before"), values),
    }
