"""Cleaning up after ERPs: the log of what passed between them and us, and what they sent.

Rows are looked at in the order of their age, a batch in a commit, and the place is kept in the job: whatever stops it,
it goes on there, and what is kept is not looked at again and again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text

from services.imports.settings import settings
from shared.db import unit_of_work
from shared.jobs import Priority, actor, cron, current_job

__all__ = ["clean_up_erp_log"]

_BATCH: Final = 1_000
_START: Final = ("-infinity", str(UUID(int=0)))

# Kept for as long as the connection itself says, or else as usual, what failed longer than what went well.
_OLD: Final = """
    page.created_at < :now - make_interval(secs => 86400 * coalesce(
        connection.keep_days, CASE WHEN {failed} THEN CAST(:failed_days AS float) ELSE CAST(:days AS float) END
    ))
"""

# What is younger than everybody keeps is not even looked at.
_PAGE: Final = """
    SELECT id, created_at, connection_id, {columns} FROM {table}
    WHERE (created_at, id) > (CAST(:at AS timestamptz), CAST(:id AS uuid))
      AND created_at < :now - make_interval(secs => 86400 * (
          SELECT least(CAST(:days AS float), CAST(:failed_days AS float), min(keep_days)) FROM erp_connections
      ))
    ORDER BY created_at, id LIMIT :batch
"""

_LAST: Final = "(SELECT created_at, id FROM page ORDER BY created_at DESC, id DESC LIMIT 1) AS last"

# Of a connection that there still is, the latest line of each entity stays, as do those of a pass that goes on.
_LOG: Final = f"""
WITH page AS ({_PAGE.format(table="erp_sync_log", columns="entity, outcome")}), gone AS (
    DELETE FROM erp_sync_log AS old
    USING page LEFT JOIN erp_connections AS connection ON connection.id = page.connection_id
    WHERE old.id = page.id AND {_OLD.format(failed="page.outcome = 'failed'")} AND (
        connection.id IS NULL OR (
            EXISTS (
                SELECT FROM erp_sync_log AS later WHERE later.connection_id = page.connection_id
                AND later.entity = page.entity AND later.id > page.id
            )
            AND page.created_at < coalesce(
                CAST(connection.cursor -> page.entity -> 'pass' ->> 'began' AS timestamptz), 'infinity'
            )
        )
    )
    RETURNING page.outcome
)
SELECT last.created_at, last.id, (SELECT count(*) FROM gone WHERE outcome = 'ok') AS ok,
       (SELECT count(*) FROM gone WHERE outcome = 'failed') AS failed, 0 AS feeds
FROM {_LAST}
"""  # noqa: S608 - all of it is ours

# What was never applied stays, unless its connection is gone and nobody will apply it.
_FEEDS: Final = f"""
WITH page AS ({_PAGE.format(table="erp_feeds", columns="state")}), gone AS (
    DELETE FROM erp_feeds AS old
    USING page LEFT JOIN erp_connections AS connection ON connection.id = page.connection_id
    WHERE old.id = page.id AND {_OLD.format(failed="page.state = 'failed'")}
      AND (connection.id IS NULL OR page.state <> 'received')
    RETURNING page.id
)
SELECT last.created_at, last.id, 0 AS ok, 0 AS failed, (SELECT count(*) FROM gone) AS feeds
FROM {_LAST}
"""  # noqa: S608

_SWEEPS: Final = {"log": _LOG, "feeds": _FEEDS}


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Clean up the logs of ERPs",
    periodic=cron("25 4 * * *"),
)
def clean_up_erp_log() -> dict[str, int]:
    """Remove lines of the log, and feeds that were dealt with, that are older than they are kept."""
    job = current_job()
    counts: dict[str, int] = job.checkpoint.get("counts", {"ok": 0, "failed": 0, "feeds": 0})
    places: dict[str, list[str]] = job.checkpoint.get("places", {})
    for name, statement in _SWEEPS.items():
        while True:
            at, row_id = places.get(name, _START)
            with unit_of_work(system=True) as session:
                row = session.execute(
                    text(statement),
                    {
                        "at": at,
                        "id": row_id,
                        "now": datetime.now(UTC),
                        "days": settings().erp_log_days,
                        "failed_days": settings().erp_failed_log_days,
                        "batch": _BATCH,
                    },
                ).first()
                if row is None:
                    break
                places = {**places, name: [row.created_at.isoformat(), str(row.id)]}
                counts = {kind: counts[kind] + getattr(row, kind) for kind in counts}
                checkpoint = {"counts": counts, "places": places}
                job.progress(sum(counts.values()), None, unit="rows", checkpoint=checkpoint)
            job.breathe()
    return counts
