"""What people and programs may do to jobs: look, ask why, cancel, retry, pause a queue.

All take a session of an open unit of work, so that a tenant reaches its own jobs only.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from shared.context import current
from shared.db.database import current_work
from shared.db.signals import jobs_changed, wake_relay
from shared.jobs.actor import Actor
from shared.jobs.enqueue import NewJob, enqueue
from shared.jobs.models import FINAL, Job, Queue, Worker
from shared.jobs.pick import HELD
from shared.jobs.verdict import CANCELLED_BEFORE_RUN

__all__ = [
    "AS_NEW",
    "NoSuchJob",
    "NotPossible",
    "Why",
    "cancel",
    "hasten",
    "pause",
    "resume",
    "retry",
    "why",
]


class NoSuchJob(LookupError):
    """There is no such job in this tenant."""


class NotPossible(Exception):
    """The job's state does not allow it; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job is where it is. `reason` is one of REASONS; `until` is when it may change, if known."""

    reason: str
    detail: str
    until: datetime | None = None
    position: int | None = None


REASONS = (
    "finished",
    "running",
    "handed_out",
    "due_later",
    "retry_later",
    "put_off",
    "queue_paused",
    "workspace_suspended",
    "circuit_open",
    "rate_limited",
    "no_worker",
    "tenant_limit",
    "in_line",
)


def _locked(session: Session, job_id: uuid.UUID) -> Job:
    """Return the job's row, locked. A transactional job that runs holds the lock until it is done."""
    found = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    before = session.execute(text("SELECT current_setting('lock_timeout')")).scalar_one()
    try:
        with session.begin_nested():
            session.execute(text("SET LOCAL lock_timeout = '2s'"))
            job = session.execute(found).scalar_one_or_none()
            session.execute(text("SELECT set_config('lock_timeout', :before, true)"), {"before": before})
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise NotPossible("The job is being done at this very moment; try again when it has ended.") from error
        raise
    if job is None:
        raise NoSuchJob(f"there is no job {job_id}")
    return job


AS_NEW: dict[str, Any] = {
    "state": "scheduled",
    "waiting_for": "retried_by_hand",
    "run_at": func.clock_timestamp(),
    "failures": 0,
    "deferrals": 0,
    "outcome": None,
    "result": None,
    "finished_at": None,
    "cancel_requested_at": None,
    "updated_at": func.clock_timestamp(),
}
"""What a retry makes of a job; its attempts, and what it failed with last, stay."""


def retry(session: Session, job_id: uuid.UUID, *, actors: dict[str, Actor[Any, Any]] | None = None) -> Job:
    """Run a failed or cancelled job again, with its whole retry schedule before it. Keeps its id and attempts.

    Raises NoSuchJob, and NotPossible when it is not failed or cancelled, or a twin of it is live.
    """
    job = _locked(session, job_id)
    if job.state not in ("failed", "cancelled"):
        raise NotPossible(f"The job is {_IN_WORDS[job.state]}; only failed and cancelled jobs can be retried.")
    try:
        with session.begin_nested():
            session.execute(
                update(Job)
                .where(Job.id == job_id)
                .values(**AS_NEW, principal=func.coalesce(current().principal, Job.principal))
            )
    except IntegrityError:
        # At most one of a kind may be live. Who it is, is only asked now: it may just have been sent.
        twin = session.execute(
            select(Job.id).where(
                Job.actor == job.actor,
                Job.tenant_id == job.tenant_id,
                Job.unique_key == job.unique_key,
                Job.state.not_in(FINAL),
            )
        ).scalar()
        raise NotPossible(f"The same work is already under way in job {twin}.") from None
    _after_commit(job, wake=True)
    session.refresh(job)
    return job


def cancel(session: Session, job_id: uuid.UUID, *, actors: dict[str, Actor[Any, Any]] | None = None) -> Job:
    """Cancel a job: at once if it waits; if it runs, it is asked to stop at its next good moment.

    Raises NoSuchJob, and NotPossible when it has ended already.
    """
    job = _locked(session, job_id)
    if job.state in FINAL:
        raise NotPossible(f"The job is {_IN_WORDS[job.state]} already.")
    if job.state == "running":
        session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(cancel_requested_at=func.clock_timestamp(), updated_at=func.clock_timestamp())
        )
    else:
        session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(
                state="cancelled",
                outcome="cancelled",
                waiting_for=None,
                finished_at=func.clock_timestamp(),
                updated_at=func.clock_timestamp(),
            )
        )
        declared = (actors or {}).get(job.actor)
        if declared is not None and declared.on_failed is not None:
            declared.on_failed(CANCELLED_BEFORE_RUN, **declared.converted(job.arguments))
        cancel_children(session.connection(), job.id, job.tenant_id)
    _after_commit(job, wake=False)
    session.refresh(job)
    return job


_LIVE_CHILDREN = "SELECT EXISTS (SELECT FROM jobs WHERE parent_id = %s AND state IN ('scheduled', 'queued', 'running'))"


def cancel_children(connection: Connection, parent_id: uuid.UUID, tenant_id: str) -> None:
    """See to it that the jobs which a cancelled job started are cancelled too: by a job, for there may be many."""
    if connection.exec_driver_sql(_LIVE_CHILDREN, (parent_id,)).scalar():
        from shared.jobs.library.cancelling import cancel_children_of

        arguments = {"parent_id": str(parent_id)}
        enqueue(NewJob(actor=cancel_children_of, arguments=arguments, tenant_id=tenant_id))


def hasten(session: Session, job_id: uuid.UUID) -> bool:
    """Make a job that was put off due at once, for what it waits for has happened; return whether it was put off.

    A failed job's next try keeps its time: the retry schedule is a promise to the other side.
    """
    hastened = session.execute(
        update(Job)
        .where(
            Job.id == job_id,
            Job.state == "scheduled",
            Job.run_at > func.clock_timestamp(),
            Job.waiting_for.is_distinct_from("retry"),
        )
        .values(run_at=func.clock_timestamp(), updated_at=func.clock_timestamp())
        .returning(Job.tenant_id)
    ).scalar()
    if hastened is None:
        return False
    work = current_work()
    assert work is not None
    changed = {job_id: hastened}
    work.after_commit.append(lambda: jobs_changed(changed))
    work.after_commit.append(wake_relay)
    return True


def pause(session: Session, queue: str, reason: str = "") -> None:
    """Hand out nothing more from a queue until `resume`. Needs a unit of work of the tenant SYSTEM."""
    session.execute(
        text(
            "INSERT INTO queues (name, paused_at, paused_by, reason) VALUES (:name, clock_timestamp(), :by, :reason) "
            "ON CONFLICT (name) DO UPDATE SET paused_at = clock_timestamp(), paused_by = excluded.paused_by, "
            "reason = excluded.reason"
        ),
        {"name": queue, "by": current().principal, "reason": reason},
    )


def resume(session: Session, queue: str) -> None:
    """Hand out from a queue again."""
    session.execute(text("DELETE FROM queues WHERE name = :name"), {"name": queue})
    work = current_work()
    assert work is not None
    work.after_commit.append(wake_relay)


def _after_commit(job: Job, *, wake: bool) -> None:
    work = current_work()
    assert work is not None
    changed = {job.id: job.tenant_id}
    work.after_commit.append(lambda: jobs_changed(changed))
    if wake:
        work.after_commit.append(wake_relay)


_IN_WORDS = {
    "scheduled": "waiting",
    "queued": "about to start",
    "running": "in progress",
    "succeeded": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}

_GATE = """
SELECT 'circuit_open' AS reason, retry_at AS until, tenant_id, last_error AS detail FROM circuits
WHERE provider = :provider AND tenant_id IN ('*', :tenant) AND state <> 'closed'
UNION ALL
SELECT 'rate_limited', max(blocked_until), :tenant, NULL FROM rate_limits
WHERE provider = :provider AND tenant_id IN ('*', :tenant) AND blocked_until > clock_timestamp()
  AND bucket IN ('*', 'write')
HAVING max(blocked_until) IS NOT NULL
LIMIT 1
"""

_HELD = f"SELECT true FROM standings WHERE tenant_id = :tenant AND {HELD}"  # noqa: S608 - a constant

_AHEAD = """
SELECT count(*) FROM (
    SELECT 1 FROM jobs
    WHERE state = 'scheduled' AND queue = :queue AND tenant_id = :tenant AND run_at <= clock_timestamp()
      AND (priority < :priority OR (priority = :priority AND (run_at, id) < (:run_at, :id)))
    LIMIT 10000
) AS ahead
"""


def why(
    session: Session,
    job_id: uuid.UUID,
    *,
    provider: str | None = None,
    per_tenant: int | None = None,
    waiting: Mapping[str, str] | None = None,
    actors: Mapping[str, Actor[Any, Any]] | None = None,
) -> Why:
    """Say why a job is where it is, with exactly one reason.

    `provider` and `per_tenant` are those of the job's queue; `waiting` holds the service's own sentences for
    the codes with which its jobs put themselves off; `actors` tell which jobs wait while a workspace is suspended.
    Raises NoSuchJob.
    """
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise NoSuchJob(f"there is no job {job_id}")
    if job.state in FINAL:
        return Why("finished", f"The job is {_IN_WORDS[job.state]}.")
    if job.state == "running":
        return Why("running", "A worker is at it.")
    paused = session.get(Queue, job.queue)
    if paused is not None and paused.paused_at is not None and job.state == "scheduled":
        reason = f": {paused.reason.rstrip('.')}" if paused.reason else ""
        return Why("queue_paused", f"The line {job.queue!r} is paused{reason}.")
    declared = (actors or {}).get(job.actor)
    waits = job.state == "scheduled" and (declared is None or not declared.goes_on_suspended)
    if waits and session.execute(text(_HELD), {"tenant": job.tenant_id}).scalar():
        return Why("workspace_suspended", "The workspace is suspended; it goes on when the owner reactivates it.")
    workers = session.execute(
        select(func.count())
        .select_from(Worker)
        .where(
            Worker.heartbeat_at > func.clock_timestamp() - text("interval '5 seconds'"),
            Worker.draining.is_(False),
            Worker.queues.contains([job.queue]),
            Worker.actors.contains([job.actor]),
        )
    ).scalar_one()
    if not workers:
        return Why("no_worker", "No worker that can do this is running.")
    if job.state == "queued":
        return Why("handed_out", "It is handed out and starts as soon as a worker is free.")
    if provider is not None:
        gate = session.execute(text(_GATE), {"provider": provider, "tenant": job.tenant_id}).first()
        if gate is not None:
            sentence = {
                "circuit_open": "The other company's system is down; it is being checked now and then.",
                "rate_limited": "The other company's system takes no more requests for the moment.",
            }[gate.reason]
            return Why(gate.reason, sentence, gate.until)
    now = datetime.now(UTC)
    if job.run_at > now:
        if job.waiting_for == "retry":
            return Why("retry_later", "The last try failed; it is tried again then.", job.run_at)
        if job.waiting_for:
            sentences = {**_PUT_OFF, **(waiting or {})}
            return Why("put_off", sentences.get(job.waiting_for, "It was put off until then."), job.run_at)
        return Why("due_later", "It is not due before then.", job.run_at)
    if per_tenant is not None:
        flying = session.execute(
            select(func.count())
            .select_from(Job)
            .where(Job.queue == job.queue, Job.tenant_id == job.tenant_id, Job.state.in_(("queued", "running")))
        ).scalar_one()
        if flying >= per_tenant:
            return Why("tenant_limit", f"Your workspace has {flying} of these under way, as many as go at a time.")
    ahead = session.execute(
        text(_AHEAD),
        {
            "queue": job.queue,
            "tenant": job.tenant_id,
            "priority": job.priority,
            "run_at": job.run_at,
            "id": job.id,
        },
    ).scalar_one()
    return Why("in_line", f"It is number {ahead + 1} in your workspace's line.", None, ahead + 1)


_PUT_OFF = {
    "waiting_for_children": "It waits for the jobs that it started.",
    "waiting_for_jobs": "It waits for the jobs that are still under way.",
    "provider_rate_limited": "The other company's system asked us to wait.",
    "provider_circuit_open": "The other company's system is down.",
    "provider_unsettled": "We wait to learn what became of an earlier request.",
    "shutdown": "Its worker was shut down; it goes on at once.",
    "database_away": "The database was away; it goes on at once.",
}
