"""Answers that many operations give: work accepted, a thing created."""

from __future__ import annotations

import uuid
from typing import Any, Final

from shared.db import unit_of_work
from shared.jobs.models import Job
from shared.web.api import Answer
from shared.web.app import runtime
from shared.web.jobs_view import JobView, job_view

__all__ = ["accepted", "created"]

_LOOK_AGAIN: Final = "2"  # seconds; most jobs are done by then, and a stream tells sooner

# By hand, since loading a whole `Job` would take a third of all that it takes to accept one.
_JOB = """
SELECT id, state, actor, queue, subject, waiting_for, progress, result, failure, runs, run_at, cancel_requested_at,
       principal, parent_id, created_at, started_at, finished_at, updated_at
FROM jobs WHERE id = %s
"""


def accepted(job: Any) -> Answer[JobView]:
    """Return 202 with the job as it stands and where to follow it (RFC 9110 §15.3.3).

    `job` is what an actor's `send` returned, a `Job` or a job's id. Inside the unit of work in which it was
    sent this costs one query, outside of it a transaction.
    """
    if not isinstance(job, Job):
        job_id = uuid.UUID(str(getattr(job, "message_id", job)))
        with unit_of_work() as session:
            job = session.connection().exec_driver_sql(_JOB, (job_id,)).one()
    view = job_view(job, runtime().explain)
    return Answer(view, status=202, headers={"Location": view.links["self"], "Retry-After": _LOOK_AGAIN})


def created(body: Any, location: str) -> Answer[Any]:
    """Return 201 with the new resource and its path."""
    return Answer(body, status=201, headers={"Location": location})
