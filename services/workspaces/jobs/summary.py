"""The part of the summary that workspaces counts itself, and the look whether the others still count theirs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import text

from services.workspaces.summaries import PARTS, STALE
from shared.db import unit_of_work
from shared.jobs import GiveUp, Priority, actor, cron

__all__ = ["count_summary", "watch_summaries"]

_COUNT: Final = """
INSERT INTO summaries AS known (tenant_id, part, data, counted_at, sequence)
SELECT tenant_id, 'members', jsonb_build_object('by_role', jsonb_object_agg(role, members)), :now, :sequence
FROM (
    SELECT tenant_id, role, count(*) AS members FROM members
    WHERE status <> 'disabled' AND tenant_id NOT IN (SELECT tenant_id FROM standings WHERE state = 'archived')
    GROUP BY tenant_id, role
) AS counted
GROUP BY tenant_id
ON CONFLICT (tenant_id, part) DO UPDATE SET
    data = excluded.data, counted_at = excluded.counted_at, sequence = excluded.sequence
WHERE known.sequence < excluded.sequence
"""
_NEWEST: Final = "SELECT part, max(counted_at) AS counted_at FROM summaries GROUP BY part"


@actor(
    queue_name="default",
    priority=Priority.BULK,
    transactional=True,
    unique=(),
    subject="Count what dashboards show",
    periodic=cron("15 * * * *"),
)
def count_summary() -> dict[str, int]:
    """Count the members of all workspaces, in one statement."""
    now = datetime.now(UTC)
    values = {"now": now, "sequence": int(now.timestamp() * 1000)}
    with unit_of_work(system=True) as session:
        return {"workspaces": session.execute(text(_COUNT), values).rowcount}  # type: ignore[attr-defined]


@actor(
    queue_name="default",
    transactional=True,
    unique=(),
    subject="Look whether dashboards are up to date",
    periodic=cron("40 * * * *"),
    retry=(),
)
def watch_summaries() -> None:
    """Fail, and so alert, when a part was counted for no workspace at all three hours running.

    All workspaces are counted in one statement, so that one look at the newest count tells; one that was never
    counted is no miss, for its service may not be there.
    """
    with unit_of_work(system=True) as session:
        newest = {row.part: row.counted_at for row in session.execute(text(_NEWEST))}
    now = datetime.now(UTC)
    missed = [part for part in PARTS if part in newest and now - newest[part] > STALE]
    if missed:
        raise GiveUp("summary_stale", parts=", ".join(missed))
