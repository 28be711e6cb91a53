"""Trying again what failed of one cause, because somebody who read the alert asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Text, cast, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from shared.context import current, use
from shared.db import unit_of_work
from shared.db.database import current_work
from shared.db.signals import jobs_changed, wake_relay
from shared.events.contracts.notifications import RetryRequested
from shared.jobs import operations
from shared.jobs.actor import actor
from shared.jobs.current import current_job
from shared.jobs.handlers import Event, handler
from shared.jobs.models import FINAL, Job

__all__ = ["Cause", "retry_failed", "retry_failed_jobs", "retry_slice"]

_SLICE: Final = 500
_RACES: Final = 5


@handler(RetryRequested)
def retry_failed(event: Event[RetryRequested]) -> None:
    """Have failed jobs of ours tried again; it is none of our business if they are another service's."""
    wanted = event.data
    if wanted.service != current().service:
        return
    with use(principal=wanted.requested_by):
        retry_failed_jobs.send(failed_actor=wanted.actor, code=wanted.code, failed_before=wanted.failed_before)


@actor(queue_name="default", unique=("failed_actor", "code", "failed_before"), subject="Try again what failed")
def retry_failed_jobs(failed_actor: str, code: str | None, failed_before: datetime) -> dict[str, Any]:
    """Retry the failed jobs of one kind and cause, newest first, each as if a person had retried it.

    What failed after that moment is left alone, and so is what is under way again: running it twice retries
    nothing twice.
    """
    job = current_job()
    retried, last = int(job.checkpoint.get("retried", 0)), job.checkpoint.get("last")
    cause = Cause(failed_actor, code, failed_before)
    total = job.checkpoint.get("total")
    if total is None:
        with unit_of_work() as session:
            total = count_failed(session, cause)
    while True:
        with unit_of_work() as session:
            found, after = retry_slice(session, cause, UUID(last) if last else None, limit=_SLICE)
            retried, last = retried + found, str(after) if after else last
            checkpoint = {"retried": retried, "last": last, "total": total}
            job.progress(retried, total, unit="jobs", checkpoint=checkpoint)
        if after is None:
            return {"retried": retried, "failed": total}
        job.breathe()


@dataclass(frozen=True, slots=True)
class Cause:
    """Jobs of one tenant that failed for the same reason: of this actor, with this code (None: any), before then."""

    actor: str
    code: str | None
    before: datetime

    def holds(self) -> list[ColumnElement[bool]]:
        """Return the conditions."""
        of_code = [] if self.code is None else [Job.failure["code"].astext == self.code]
        return [
            Job.tenant_id == current().tenant_id,
            Job.state == "failed",
            Job.actor == self.actor,
            Job.finished_at < self.before,
            *of_code,
        ]


def count_failed(session: Session, cause: Cause) -> int:
    """Return how many jobs have failed for this cause."""
    return session.execute(select(func.count()).select_from(Job).where(*cause.holds())).scalar_one()


def retry_slice(session: Session, cause: Cause, below: UUID | None, *, limit: int) -> tuple[int, UUID | None]:
    """Retry the next jobs of a cause, by id downwards from `below`, in one statement; each as by hand.

    Of those with the same unique key the newest is retried, and none of which a twin is live. Returns how many were
    retried, and the id from which to go on (None: there are no more).
    """
    newer = [] if below is None else [Job.id < below]
    slice_ = select(Job.id, Job.unique_key).where(*cause.holds(), *newer).order_by(Job.id.desc()).limit(limit).cte()
    twin = aliased(Job)
    has_twin = exists().where(
        twin.actor == cause.actor,
        twin.tenant_id == current().tenant_id,
        twin.unique_key == slice_.c.unique_key,
        twin.state.not_in(FINAL),
    )
    # Those without a unique key have no twins.
    kind = func.coalesce(slice_.c.unique_key, cast(slice_.c.id, Text))
    place = func.row_number().over(partition_by=kind, order_by=slice_.c.id.desc()).label("place")
    free = select(slice_.c.id, place).where(~has_twin).cte()
    again = (
        update(Job)
        .where(Job.id.in_(select(free.c.id).where(free.c.place == 1)), Job.state == "failed")
        .values(**operations.AS_NEW, principal=func.coalesce(current().principal, Job.principal))
        .returning(Job.id)
    )
    last = session.scalars(select(slice_.c.id).order_by(slice_.c.id).limit(1)).one_or_none()
    for _ in range(_RACES):
        try:
            with session.begin_nested():
                found = list(session.scalars(again, execution_options={"synchronize_session": False}))
            break
        except IntegrityError:
            continue  # a twin was sent this very moment; the next look sees it
    else:
        raise operations.NotPossible("The same work is being started again and again; try again when that has ended.")
    changed = dict.fromkeys(found, current().tenant_id or "")
    work = current_work()
    assert work is not None
    work.after_commit.append(lambda: jobs_changed(changed))
    work.after_commit.append(wake_relay)
    return len(found), last
