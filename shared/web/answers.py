"""Answers that many operations give: work accepted, a thing created."""

from __future__ import annotations

import uuid
from typing import Any, Final

from dramatiq import Message

from shared.db import unit_of_work
from shared.jobs.models import SHOWN, Job, ShownJob
from shared.web.api import Answer
from shared.web.app import runtime
from shared.web.jobs_view import JobView, job_view

__all__ = ["accepted", "created"]

_LOOK_AGAIN: Final = "2"  # seconds; most jobs are done by then, and a stream tells sooner

_JOB = f"SELECT {SHOWN} FROM jobs WHERE id = %s"  # noqa: S608 - the columns are a constant


def accepted(job: Any) -> Answer[JobView]:
    """Return 202 with the job as it stands and where to follow it (RFC 9110 §15.3.3).

    `job` is what an actor's `send` returned, a `Job` or a job's id; only the id costs a query.
    """
    if isinstance(job, Message):
        job = job.options["job"]
    elif not isinstance(job, Job):
        job_id = uuid.UUID(str(job))
        with unit_of_work() as session:
            job = ShownJob(*session.connection().exec_driver_sql(_JOB, (job_id,)).one())
    view = job_view(job, runtime().explain)
    return Answer(view, status=202, headers={"Location": view.links["self"], "Retry-After": _LOOK_AGAIN})


def created(body: Any, location: str) -> Answer[Any]:
    """Return 201 with the new resource and its path."""
    return Answer(body, status=201, headers={"Location": location})
