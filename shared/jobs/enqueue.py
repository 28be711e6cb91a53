"""Writing jobs: what `send` comes down to.

The row joins the open unit of work, so that the job exists if and only if the business change does.
Outside of any unit of work it gets one of its own.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from shared.context import Context, current
from shared.db import new_id
from shared.db.database import Work, current_work, unit_of_work
from shared.db.signals import wake_relay_after
from shared.jobs.actor import Actor
from shared.jobs.models import SHOWN, ShownJob
from shared.telemetry import inject

__all__ = ["NewJob", "enqueue", "enqueue_many"]

_COLUMNS = (
    "id, tenant_id, queue, actor, priority, arguments, subject, state, waiting_for, run_at, unique_key, once_key, "
    "parent_id, origin, principal, request_id, correlation_id, causation_id, traceparent"
)

_INSERT = f"""
INSERT INTO jobs ({_COLUMNS})
VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s, 'scheduled', %s, coalesce(%s, now()), %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING RETURNING id, run_at, created_at
"""  # noqa: S608 - the columns are the constant above

_EXISTING = f"""
SELECT {SHOWN} FROM jobs
WHERE actor = %s AND tenant_id = %s
  AND ((unique_key = %s AND state IN ('scheduled', 'queued', 'running')) OR once_key = %s)
ORDER BY id LIMIT 1
"""  # noqa: S608

_INSERT_MANY = f"""
INSERT INTO jobs ({_COLUMNS})
SELECT id, %(tenant)s, %(queue)s, %(actor)s, %(priority)s, arguments::jsonb, subject, 'scheduled', NULL,
       coalesce(%(run_at)s, now()), unique_key, once_key, %(parent)s, %(origin)s, %(principal)s, %(request)s,
       %(correlation)s, %(causation)s, %(traceparent)s
FROM unnest(%(ids)s::uuid[], %(arguments)b::text[], %(subjects)s::text[], %(unique)s::text[], %(once)s::text[])
     AS job(id, arguments, subject, unique_key, once_key)
WHERE NOT EXISTS (SELECT FROM standings WHERE tenant_id = %(tenant)s AND state = 'archived')
ON CONFLICT DO NOTHING RETURNING id
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be written. `once_key` makes it at most one for ever (an event, a tick of a schedule)."""

    actor: Actor[Any, Any]
    arguments: dict[str, Any]
    run_at: datetime | None = None
    tenant_id: str | None = None
    once_key: str | None = None
    parent_id: uuid.UUID | None = None
    origin: str | None = None
    subject: str | None = None
    priority: int | None = None
    waiting_for: str | None = None


def enqueue(job: NewJob) -> tuple[ShownJob, bool]:
    """Write a job; return what is shown of it and whether it is new (False: it is the live job with the same key)."""
    context = current()
    tenant_id = job.tenant_id or context.tenant_id
    if tenant_id is None:
        raise RuntimeError(f"{job.actor.actor_name} was sent outside of any tenant; enter one with use(tenant_id=…)")
    work = current_work()
    if work is not None:
        with unit_of_work(tenant_id=work.tenant_id) as session:
            return _insert(session, work, job, tenant_id, context)
    with unit_of_work(tenant_id=tenant_id) as session:
        opened = current_work()
        assert opened is not None
        return _insert(session, opened, job, tenant_id, context)


def _insert(session: Session, work: Work, job: NewJob, tenant_id: str, context: Context) -> tuple[ShownJob, bool]:
    connection = session.connection()
    declared = job.actor
    unique_key = declared.unique_key(job.arguments)
    subject = job.subject or declared.subject(job.arguments)
    values = (
        new_id(),
        tenant_id,
        declared.queue_name,
        declared.actor_name,
        declared.priority if job.priority is None else job.priority,
        json.dumps(job.arguments),
        subject,
        job.waiting_for,
        job.run_at,
        unique_key,
        job.once_key,
        job.parent_id,
        job.origin or origin(context),
        context.principal,
        context.request_id,
        context.correlation_id or context.request_id,
        causation(context),
        inject(),
    )
    # Twice: between a conflict and the look-up the live job may have ended.
    for _ in range(5):
        inserted = connection.exec_driver_sql(_INSERT, values).first()
        if inserted is not None:
            wake_relay_after(work)
            job_id, run_at, created_at = inserted
            return ShownJob(
                job_id,
                declared.actor_name,
                declared.queue_name,
                subject,
                job.waiting_for,
                context.principal,
                job.parent_id,
                run_at,
                created_at,
                created_at,
            ), True
        existing = connection.exec_driver_sql(
            _EXISTING, (declared.actor_name, tenant_id, unique_key, job.once_key)
        ).first()
        if existing is not None:
            return ShownJob(*existing), False
    raise RuntimeError(f"{declared.actor_name}: neither could the job be written nor its live twin be found")


def enqueue_many(
    declared: Actor[Any, Any],
    arguments: Sequence[dict[str, Any]],
    *,
    tenant_id: str | None = None,
    parent_id: uuid.UUID | None = None,
    once_keys: Iterable[str] | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
) -> list[uuid.UUID]:
    """Write many jobs of one actor and tenant in one statement; return the ids of those that are new.

    What is already live by its unique key, or was made once by its once key, is left as it is. Of an archived
    workspace nothing is written: sweeps over all tenants pass it over.
    """
    if not arguments:
        return []
    context = current()
    tenant = tenant_id or context.tenant_id
    if tenant is None:
        raise RuntimeError(f"{declared.actor_name} was sent outside of any tenant; enter one with use(tenant_id=…)")
    outer = current_work()
    with unit_of_work(tenant_id=outer.tenant_id if outer else tenant) as session:
        work = current_work()
        assert work is not None
        checked = [declared.message_with_options(kwargs=item).kwargs for item in arguments]
        rows = session.connection().exec_driver_sql(
            _INSERT_MANY,
            {
                "ids": [new_id() for _ in checked],
                "arguments": [json.dumps(item) for item in checked],
                "subjects": [declared.subject(item) for item in checked],
                "unique": [declared.unique_key(item) for item in checked],
                "once": list(once_keys) if once_keys is not None else [None] * len(checked),
                "tenant": tenant,
                "queue": declared.queue_name,
                "actor": declared.actor_name,
                "priority": declared.priority if priority is None else priority,
                "run_at": run_at,
                "parent": parent_id,
                "origin": origin(context),
                "principal": context.principal,
                "request": context.request_id,
                "correlation": context.correlation_id or context.request_id,
                "causation": causation(context),
                "traceparent": inject(),
            },
        )
        wake_relay_after(work)
        return [row[0] for row in rows]


def origin(context: Context) -> str:
    """Return how a job written in this context was born: request, event, job or program."""
    if context.in_request:
        return "request"
    if context.job_id is not None:
        return "job"
    return "program"


def causation(context: Context) -> str | None:
    """Return the id of what directly causes whatever is written in this context."""
    return context.job_id or context.event_id or context.request_id or context.causation_id


def from_delay(delay: int | None) -> datetime | None:
    """Return the moment that lies so many milliseconds from now, None for no delay."""
    if delay is None:
        return None
    return datetime.fromtimestamp(datetime.now(UTC).timestamp() + delay / 1000, tz=UTC)
