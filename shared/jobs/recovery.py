"""Taking over the jobs of workers that are no more.

A worker is dead when its advisory lock is free *and* its heartbeat is old, or when its heartbeat is so
old that the process must be suspended or cut off. Lock alone would not do: a database that restarts
forgets all locks while the workers go on. Heartbeat alone would not do: it takes long to be sure. What
a dead worker had running is concluded as crashed, which counts as an attempt; if the worker comes back
after all, the fence keeps whatever it writes from counting.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from shared.db.database import Database
from shared.db.signals import jobs_changed
from shared.jobs.actor import Actor
from shared.jobs.conclusions import Conclusions
from shared.jobs.liveness import LOCK_SPACE
from shared.jobs.verdict import crashed
from shared.telemetry import get_logger, metrics

__all__ = ["GRACE", "SUSPENDED", "recover"]

GRACE = 1.0
"""Seconds without a heartbeat after which a free lock means death: time to take the lock again after a cut."""

SUSPENDED = 15.0
"""Seconds without a heartbeat after which a worker that still holds its lock is given up."""

_AFTER_RESTART = 5.0
"""Seconds after the database's own start in which workers take their locks again."""

log = get_logger(__name__)

_DEAD = """
SELECT running.worker_id
FROM (SELECT DISTINCT worker_id FROM jobs WHERE state = 'running') AS running
LEFT JOIN workers ON workers.id = running.worker_id
LEFT JOIN pg_locks AS held
    ON held.locktype = 'advisory' AND held.granted AND held.classid::bigint = %(space)s AND held.objsubid = 2
    AND held.objid::bigint = running.worker_id
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
WHERE workers.id IS NULL
   OR workers.heartbeat_at < clock_timestamp() - make_interval(secs => %(suspended)s)
   OR (held.objid IS NULL
       AND workers.heartbeat_at < clock_timestamp() - make_interval(secs => %(grace)s)
       AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(restart)s))
"""

_FORGET = """
DELETE FROM workers WHERE id = ANY(%s)
"""

_FORGET_IDLE = """
DELETE FROM workers
WHERE heartbeat_at < clock_timestamp() - make_interval(secs => %s)
  AND NOT EXISTS (SELECT FROM jobs WHERE jobs.worker_id = workers.id AND jobs.state = 'running')
"""

_THEIRS = """
SELECT id, tenant_id, actor, queue, subject, arguments, dispatch, failures, worker_id, started_at, correlation_id,
       principal
FROM jobs WHERE state = 'running' AND worker_id = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class _Orphan:
    id: uuid.UUID
    tenant_id: str
    actor: str
    queue: str
    subject: str | None
    arguments: dict[str, Any]
    dispatch: int
    failures: int
    worker_id: int
    started_at: Any
    correlation_id: str | None
    principal: str | None


def recover(
    database: Database,
    connection: psycopg.Connection[Any],
    conclusions: Conclusions,
    actors: Mapping[str, Actor[Any, Any]],
    *,
    suspended: float = SUSPENDED,
) -> int:
    """Conclude as crashed what dead workers had running; return how many jobs that were.

    `connection` is the relay's, in autocommit. Jobs of actors that this process does not know stay as they
    are until one comes that knows them.
    """
    parameters = {"space": LOCK_SPACE, "suspended": suspended, "grace": GRACE, "restart": _AFTER_RESTART}
    dead = [row[0] for row in connection.execute(_DEAD, parameters)]
    connection.execute(_FORGET_IDLE, (suspended * 2,))
    if not dead:
        return 0
    # First the worker learns that it is dead, then its jobs go: it must not claim under its old id any more.
    connection.execute(_FORGET, (list(dead),))
    orphans = [_Orphan(*row) for row in connection.execute(_THEIRS, (list(dead),))]
    recovered = 0
    for orphan in orphans:
        declared = actors.get(orphan.actor)
        if declared is None:
            log.error(
                "a crashed job waits for a worker that knows its actor",
                job=str(orphan.id),
                actor=orphan.actor,
            )
            continue
        retry = [delay * conclusions.retry_scale for delay in declared.job.retry]
        verdict = crashed(failures=orphan.failures, retry=retry)
        if conclusions.conclude(declared, orphan, verdict, worker_id=orphan.worker_id, started_at=orphan.started_at):
            recovered += 1
            metrics.job_recovered(orphan.actor)
            jobs_changed({orphan.id: orphan.tenant_id})
    log.warning("took over the jobs of dead workers", workers=len(dead), jobs=recovered)
    return recovered
