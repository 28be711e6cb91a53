"""Cancelling many jobs, each as a person would: what waits at once, what runs at its next good moment."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select

from shared.db import unit_of_work
from shared.jobs import operations
from shared.jobs.actor import actor
from shared.jobs.current import current_job
from shared.jobs.models import LIVE, Job
from shared.jobs.parts import parts

__all__ = ["cancel_children_of", "cancel_each"]


@actor(queue_name="default", unique="parent_id", subject="Cancel what a cancelled job started", standing="any")
def cancel_children_of(parent_id: UUID) -> dict[str, int]:
    """Cancel the jobs that a cancelled job started: those that wait at once, those that run at their next chance."""
    return {"cancelled": cancel_each(Job.parent_id == parent_id)}


def cancel_each(*which: ColumnElement[bool]) -> int:
    """Cancel the live jobs of the tenant of which this holds; return how many. Goes on in a later run of the job."""
    job = current_job()
    cancelled, last = int(job.checkpoint.get("cancelled", 0)), job.checkpoint.get("last")
    actors: dict[str, Any] = dict(parts().actors)
    while True:
        with unit_of_work() as session:
            live = session.scalars(
                select(Job.id)
                .where(Job.state.in_(LIVE), Job.id != job.id, *which, *([Job.id > UUID(last)] if last else []))
                .order_by(Job.id)
                .limit(100)
            ).all()
        for one in live:
            with unit_of_work() as session, contextlib.suppress(operations.NotPossible):
                operations.cancel(session, one, actors=actors)
                cancelled += 1
        if not live:
            return cancelled
        last = str(live[-1])
        job.progress(cancelled, None, unit="jobs", checkpoint={**job.checkpoint, "cancelled": cancelled, "last": last})
        job.breathe()
