"""Counting what dashboards show of imports: every hour, anew, for all workspaces in one statement."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import text

from shared.db import unit_of_work
from shared.events import Occurrence, publish_many
from shared.events.contracts.imports import ImportsSummaryCounted
from shared.jobs import Priority, actor, cron

__all__ = ["count_summary"]

_PER_STATEMENT: Final = 500

_COUNT: Final = """
WITH catalog AS (
    SELECT tenant_id, count(*) AS samples FROM samples GROUP BY tenant_id
), states AS (
    SELECT tenant_id, jsonb_object_agg(state, imports) AS by_state
    FROM (SELECT tenant_id, state, count(*) AS imports FROM imports GROUP BY tenant_id, state) AS counted
    GROUP BY tenant_id
), latest AS (
    SELECT DISTINCT ON (tenant_id) tenant_id, jsonb_build_object(
        'file_name', file_name, 'kind', kind, 'state', state, 'created_at', created_at
    ) AS last_import
    FROM imports ORDER BY tenant_id, id DESC
)
SELECT tenant_id, coalesce(samples, 0) AS samples, coalesce(by_state, '{}') AS by_state, last_import
FROM catalog
FULL JOIN states USING (tenant_id)
LEFT JOIN latest USING (tenant_id)
WHERE tenant_id NOT IN (SELECT tenant_id FROM standings WHERE state = 'archived')
"""


@actor(
    queue_name="default",
    priority=Priority.BULK,
    transactional=True,
    unique=(),
    subject="Count what dashboards show",
    periodic=cron("25 * * * *"),
)
def count_summary() -> dict[str, int]:
    """Count, and tell of each workspace that has a sample or an import."""
    now = datetime.now(UTC)
    with unit_of_work(system=True) as session:
        counted = [
            Occurrence(
                ImportsSummaryCounted(
                    counted_at=now, samples=row.samples, imports_by_state=row.by_state, last_import=row.last_import
                ),
                subject=row.tenant_id,
                sequence=int(now.timestamp() * 1000),
                tenant_id=row.tenant_id,
            )
            for row in session.execute(text(_COUNT))
        ]
        for start in range(0, len(counted), _PER_STATEMENT):
            publish_many(session, counted[start : start + _PER_STATEMENT])
    return {"workspaces": len(counted)}
