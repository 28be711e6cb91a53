"""Figures of a service's database for its metrics: ages, backlogs, schedules. Bounded in time, and cached by the
collector, so that scrapes do not harm the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import text

from shared.db.database import Database

__all__ = ["figures"]

_OLDEST = """
SELECT queue, extract(epoch FROM clock_timestamp() - min(run_at))::float8 FROM jobs
WHERE state = 'scheduled' AND run_at <= clock_timestamp() GROUP BY queue
"""

_BY_STATE = "SELECT actor, state, count(*) FROM jobs WHERE state <> 'succeeded' GROUP BY actor, state"

_OUTBOX = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
FROM outbox WHERE published_at IS NULL
"""

_SCHEDULES = """
SELECT schedules.name, extract(epoch FROM max(jobs.finished_at))::float8
FROM schedules JOIN jobs ON jobs.actor = schedules.name AND jobs.tenant_id = 'system' AND jobs.state = 'succeeded'
WHERE jobs.origin = 'schedule' GROUP BY schedules.name
"""


def figures(
    database: Database, dead_letters: Callable[[], Mapping[str, int]]
) -> Callable[[], dict[str, dict[tuple[str, ...], float]]]:
    """Return the function that reads the figures, in the shape of `shared.telemetry.DatabaseCollector`."""

    def read() -> dict[str, dict[tuple[str, ...], float]]:
        with database.system.connect() as connection:
            connection.execute(text("SET LOCAL statement_timeout = '3s'"))

            def rows(statement: str) -> list[Any]:
                return list(connection.execute(text(statement)))

            pending, oldest = rows(_OUTBOX)[0]
            return {
                "jobs_oldest_due_age_seconds": {(queue,): age for queue, age in rows(_OLDEST)},
                "jobs_by_state": {(actor, state): count for actor, state, count in rows(_BY_STATE)},
                "outbox_pending": {(): pending},
                "outbox_oldest_age_seconds": {(): oldest},
                "schedule_last_success_timestamp_seconds": {(name,): at for name, at in rows(_SCHEDULES)},
                "dead_letters": {(queue,): count for queue, count in dead_letters().items()},
            }

    return read
