"""Counting what dashboards show of shipping: every hour, anew, for all workspaces in one statement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import text

from services.shipping.settings import settings
from shared.db import unit_of_work
from shared.events import Occurrence, publish_many
from shared.events.contracts.shipping import ShippingSummaryCounted
from shared.jobs import Priority, actor, cron

__all__ = ["count_summary"]

_PER_STATEMENT: Final = 500

_COUNT: Final = """
WITH groups AS (
    SELECT tenant_id, created_by, state, count(*) AS orders, max(updated_at) AS last_activity_at,
           count(*) FILTER (WHERE created_at > :month) AS recent,
           count(*) FILTER (WHERE created_at > :before AND created_at <= :month) AS previous,
           count(*) FILTER (WHERE state IN ('New', 'Processing') AND created_at < :stuck AND NOT EXISTS (
               SELECT FROM order_transitions AS moved
               WHERE moved.tenant_id = orders.tenant_id AND moved.order_id = orders.id AND moved.created_at >= :stuck
           )) AS stuck
    FROM orders GROUP BY tenant_id, created_by, state
), totals AS (
    SELECT tenant_id, max(last_activity_at) AS last_activity_at,
           sum(recent) AS recent, sum(previous) AS previous, sum(stuck) AS stuck
    FROM groups GROUP BY tenant_id
), states AS (
    SELECT tenant_id, jsonb_object_agg(state, orders) AS by_state
    FROM (SELECT tenant_id, state, sum(orders) AS orders FROM groups GROUP BY tenant_id, state) AS counted
    GROUP BY tenant_id
), creators AS (
    SELECT tenant_id,
           jsonb_object_agg(created_by, jsonb_build_object('open', open, 'last_30_days', recent)) AS by_creator
    FROM (
        SELECT tenant_id, created_by, sum(recent) AS recent,
               coalesce(sum(orders) FILTER (WHERE state IN ('New', 'Processing')), 0) AS open
        FROM groups GROUP BY tenant_id, created_by
    ) AS counted
    GROUP BY tenant_id
), spending AS (
    SELECT tenant_id, jsonb_object_agg(currency, jsonb_build_object('labels', labels, 'amount', amount)) AS spend
    FROM (
        SELECT tenant_id, currency, count(*) AS labels, sum(amount) AS amount FROM labels
        WHERE purchased_at > :month AND status <> 'refunded' AND currency IS NOT NULL
        GROUP BY tenant_id, currency
    ) AS counted
    GROUP BY tenant_id
)
SELECT tenant_id, coalesce(by_state, '{}') AS by_state, coalesce(by_creator, '{}') AS by_creator,
       coalesce(spend, '{}') AS spend, coalesce(recent, 0) AS recent, coalesce(previous, 0) AS previous,
       coalesce(stuck, 0) AS stuck, last_activity_at, coalesce(shippo_accounts.status, 'not_connected') AS shippo
FROM totals
FULL JOIN shippo_accounts USING (tenant_id)
LEFT JOIN states USING (tenant_id)
LEFT JOIN creators USING (tenant_id)
LEFT JOIN spending USING (tenant_id)
WHERE tenant_id NOT IN (SELECT tenant_id FROM standings WHERE state = 'archived')
"""


@actor(
    queue_name="default",
    priority=Priority.BULK,
    transactional=True,
    unique=(),
    subject="Count what dashboards show",
    periodic=cron("20 * * * *"),
)
def count_summary() -> dict[str, int]:
    """Count, and tell of each workspace that has an order or an account with Shippo."""
    now = datetime.now(UTC)
    month = now - timedelta(days=30)
    moments = {
        "month": month,
        "before": month - timedelta(days=30),
        "stuck": now - timedelta(days=settings().stuck_days),
    }
    with unit_of_work(system=True) as session:
        counted = [
            Occurrence(
                ShippingSummaryCounted(
                    counted_at=now,
                    orders_by_state=row.by_state,
                    stuck_orders=row.stuck,
                    orders_30_days=row.recent,
                    orders_previous_30_days=row.previous,
                    spend_30_days=row.spend,
                    by_creator=row.by_creator,
                    last_activity_at=row.last_activity_at,
                    shippo=row.shippo,
                ),
                subject=row.tenant_id,
                sequence=int(now.timestamp() * 1000),
                tenant_id=row.tenant_id,
            )
            for row in session.execute(text(_COUNT), moments)
        ]
        for start in range(0, len(counted), _PER_STATEMENT):
            publish_many(session, counted[start : start + _PER_STATEMENT])
    return {"workspaces": len(counted)}
