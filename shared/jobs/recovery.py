"""Taking over the jobs of workers that are no more.

A worker is dead when its advisory lock is free *and* its heartbeat is old, or when its heartbeat is so
old that the process must be suspended or cut off. Lock alone would not do: a database that restarts
forgets all locks while the workers go on. Heartbeat alone would not do: it takes long to be sure. What
a dead worker had running is concluded as crashed, which counts as an attempt; if the worker comes back
after all, the fence keeps whatever it writes from counting.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError

from shared.db.database import Database
from shared.db.signals import jobs_changed
from shared.jobs.actor import Actor
from shared.jobs.conclusions import Conclusions
from shared.jobs.liveness import LOCK_SPACE
from shared.jobs.verdict import Verdict, crashed, hung
from shared.telemetry import get_logger, metrics

__all__ = ["GRACE", "SUSPENDED", "overdue", "recover"]

GRACE = 1.0
"""Seconds without a heartbeat after which a free lock means death: time to take the lock again after a cut."""

SUSPENDED = 15.0
"""Seconds without a heartbeat after which a worker that still holds its lock is given up."""

_AFTER_RESTART = 5.0
"""Seconds after the database's own start in which workers take their locks again."""

_OVERTIME = 60.0
"""Seconds beyond its time limit after which a job that still runs is taken from its thread."""

_APART = 3.0
"""Seconds between the next runs of jobs that died together and had failed before."""

log = get_logger(__name__)

_DEAD = """
SELECT running.worker_id, workers.id IS NOT NULL AND held.objid IS NULL AS lock_is_free
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
       -- A database that crashes and recovers by itself keeps the start time of its postmaster, but not its statistics.
       AND greatest(pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter))
           < clock_timestamp() - make_interval(secs => %(restart)s))
"""

_TRY_LOCK = "SELECT pg_try_advisory_lock(%s, %s)"
_UNLOCK = "SELECT pg_advisory_unlock(%s, %s)"

_OVERDUE = """
SELECT id, tenant_id, actor, queue, subject, arguments, dispatch, failures, worker_id, started_at, correlation_id,
       principal
FROM jobs
WHERE state = 'running' AND started_at < clock_timestamp() - make_interval(secs => %s)
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
    dead = []
    for worker_id, lock_is_free in connection.execute(_DEAD, parameters).fetchall():
        # Whoever holds the lock decides: a worker that is just coming back must not be declared dead meanwhile.
        if lock_is_free and not _ask(connection, _TRY_LOCK, worker_id):
            continue
        # First the worker learns that it is dead, then its jobs go: it must not claim under its old id any more.
        connection.execute(_FORGET, ([worker_id],))
        if lock_is_free:
            _ask(connection, _UNLOCK, worker_id)
        dead.append(worker_id)
    connection.execute(_FORGET_IDLE, (suspended * 2,))
    if not dead:
        return 0
    orphans = [_Orphan(*row) for row in connection.execute(_THEIRS, (dead,))]
    recovered = _conclude(conclusions, actors, orphans)
    log.warning("took over the jobs of dead workers", workers=len(dead), jobs=recovered)
    return recovered


def overdue(
    connection: psycopg.Connection[Any], conclusions: Conclusions, actors: Mapping[str, Actor[Any, Any]]
) -> int:
    """Conclude what runs far beyond its time limit: its thread hangs in a system call, which nothing interrupts.

    The fence keeps whatever it may still write from counting. Returns how many jobs that were.
    """
    found = []
    for row in connection.execute(_OVERDUE, (_OVERTIME,)).fetchall():
        orphan = _Orphan(*row)
        declared = actors.get(orphan.actor)
        if declared is None:
            continue
        ran = (datetime.now(UTC) - orphan.started_at).total_seconds()
        if ran > declared.job.time_limit + _OVERTIME:
            found.append(orphan)
    recovered = _conclude(conclusions, actors, found, hung)
    if recovered:
        log.error("took over jobs that ran far beyond their time limit", jobs=recovered)
    return recovered


def _ask(connection: psycopg.Connection[Any], question: str, worker_id: int) -> bool:
    row = connection.execute(question.encode(), (LOCK_SPACE, worker_id)).fetchone()
    return bool(row and row[0])


def _conclude(
    conclusions: Conclusions,
    actors: Mapping[str, Actor[Any, Any]],
    orphans: Sequence[_Orphan],
    judge: Callable[..., Verdict] = crashed,
) -> int:
    recovered = suspects = 0
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
        verdict = judge(failures=orphan.failures, retry=retry)
        if verdict.run_at is not None and orphan.failures and len(orphans) > 1:
            # One of them may kill workers. Run apart, the others are done before they die with it again.
            verdict = replace(verdict, run_at=verdict.run_at + timedelta(seconds=_APART * suspects))
            suspects += 1
        try:
            ours = conclusions.conclude(
                declared, orphan, verdict, worker_id=orphan.worker_id, started_at=orphan.started_at
            )
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            # One job that cannot be concluded must not keep the others, and the whole relay, from going on.
            log.exception("a crashed job could not be concluded", job=str(orphan.id))
            continue
        if ours:
            recovered += 1
            metrics.job_recovered(orphan.actor)
            jobs_changed({orphan.id: orphan.tenant_id})
    return recovered
