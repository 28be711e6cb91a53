"""What a running job can say and ask: progress, checkpoint, whether to stop, and its own completion.

job = current_job()
for batch in batches(after=job.checkpoint.get("row", 0)):
    with unit_of_work() as session:
        apply(batch)
        job.progress(batch.end, total, unit="rows", checkpoint={"row": batch.end})
    job.breathe()                       # hands the job on when its slice is over, or stops it
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from shared.db.database import current_work, enter_tenant, leave_tenant, unit_of_work
from shared.db.signals import jobs_changed
from shared.jobs.models import QUEUED, RUNNING
from shared.jobs.outcomes import Cancelled, Continue, Snooze, Superseded
from shared.jobs.record import Finished, done, still_ours
from shared.telemetry import trace_id

__all__ = ["CurrentJob", "completion", "current_job"]

SLICE = 120.0
"""Seconds after which `breathe` hands a long job on, so that deploys drain fast and no message is held long."""

_PROGRESS = f"""
UPDATE jobs SET progress = %s::jsonb, checkpoint = coalesce(%s::jsonb, checkpoint), updated_at = clock_timestamp()
WHERE id = %s AND dispatch = %s AND ({QUEUED} OR ({RUNNING} AND worker_id = %s))
RETURNING cancel_requested_at
"""  # noqa: S608 - constants


class CurrentJob:
    """The job whose run this is."""

    def __init__(
        self,
        *,
        job_id: uuid.UUID,
        tenant_id: str,
        dispatch: int,
        attempt: int,
        retries_left: int,
        checkpoint: dict[str, Any] | None,
        progress: dict[str, Any] | None,
        worker_id: int,
        leased: bool,
        must_stop: Callable[[], bool],
        parent_id: uuid.UUID | None = None,
    ) -> None:
        self.id = job_id
        self.tenant_id = tenant_id
        self.dispatch = dispatch
        self.attempt = attempt
        self.retries_left = retries_left
        """How many more runs the schedule allows if this one fails."""
        self.parent_id = parent_id
        self.checkpoint: dict[str, Any] = checkpoint or {}
        self.last_progress: dict[str, Any] = progress or {}
        self.leased = leased
        self.worker_id = worker_id
        self.started_at = datetime.now(UTC)
        self.completed = False
        self.result: Any = None
        self._began = time.monotonic()
        self._must_stop = must_stop
        self._cancelled = False

    def progress(
        self,
        done: int,
        total: int | None = None,
        *,
        unit: str = "",
        message: str = "",
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        """Say how far the job is. Inside a unit of work it commits with that one, so that the count is true.

        `checkpoint` (JSON) is where a later run resumes. Raises Superseded if the job was taken over.
        """
        self.last_progress = {
            "done": done,
            "total": total,
            "unit": unit,
            "message": message,
            "updated_at": datetime.now(UTC).isoformat(),
        }
        if checkpoint is not None:
            self.checkpoint = checkpoint
        outer = current_work()
        with unit_of_work(tenant_id=self.tenant_id if outer is None else outer.tenant_id) as session:
            with _within_its_wall(session.connection(), self.tenant_id) as connection:
                row = connection.exec_driver_sql(
                    _PROGRESS,
                    (
                        json.dumps(self.last_progress),
                        None if checkpoint is None else json.dumps(checkpoint),
                        self.id,
                        self.dispatch,
                        self.worker_id,
                    ),
                ).first()
            if row is None:
                raise Superseded(f"job {self.id} was taken over")
            self._cancelled = row[0] is not None
            work = current_work()
            assert work is not None
            changed = {self.id: self.tenant_id}
            work.after_commit.append(lambda: jobs_changed(changed))

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the job to stop, as of the last `progress`."""
        return self._cancelled

    def breathe(self) -> None:
        """To be called between batches, outside of any unit of work.

        Raises Cancelled when somebody asked for it, Snooze when the worker shuts down, Continue when the
        slice of this run is over; the job then goes on from its checkpoint. Raises RuntimeError inside of a
        unit of work, and so in any transactional job: what is open would be rolled back, checkpoint included.
        """
        if current_work() is not None:
            raise RuntimeError("breathe() belongs between units of work; close the open one first")
        if self._cancelled:
            raise Cancelled()
        if self._must_stop():
            raise Snooze("shutdown", delay=0)
        if time.monotonic() - self._began > SLICE:
            raise Continue()

    def fence(self, session: Session) -> None:
        """Hold on to the job until the open transaction ends; raises Superseded if it was taken over."""
        if self.completed:
            return
        with _within_its_wall(session.connection(), self.tenant_id) as connection:
            ours = still_ours(connection, self.id, self.dispatch, self.worker_id)
        if not ours:
            raise Superseded(f"job {self.id} was taken over")


@contextlib.contextmanager
def _within_its_wall(connection: Connection, tenant_id: str) -> Iterator[Connection]:
    """Reach a job of that tenant from whatever unit of work is open: a sweep works in the tenants, one by one."""
    work = current_work()
    if work is None or work.system or work.tenant_id == tenant_id:
        yield connection
        return
    leave_tenant(connection)
    yield connection
    # Not after an error: it rolls the transaction back, and the role with it.
    enter_tenant(connection, work.tenant_id)


_current: ContextVar[CurrentJob | None] = ContextVar("backroom_current_job", default=None)


def current_job() -> CurrentJob:
    """Return the job whose run this is; raises RuntimeError outside of any job."""
    job = _current.get()
    if job is None:
        raise RuntimeError("no job is running here")
    return job


class completion:
    """Context manager: a unit of work whose commit also completes the leased job that runs.

    Effect and completion are one commit. After it the run is over; what the actor returns is ignored.

        with completion(result={"tracking": number}) as session: ...

    Raises Superseded (and rolls back) if the job was taken over meanwhile.
    """

    def __init__(self, result: Any = None) -> None:
        self._result = result
        self._work = unit_of_work()
        self._session: Session | None = None

    def __enter__(self) -> Session:
        if current_work() is not None:
            raise RuntimeError("completion() is a unit of work of its own; close the open one first")
        session = self._session = self._work.__enter__()
        job = _current.get()
        work = current_work()
        assert work is not None
        if job is not None and job.leased:
            work.before_commit[:] = [self._complete]
        return session

    def _complete(self, session: Session) -> None:
        job = current_job()
        session.flush()
        finished = Finished(
            job.id,
            job.dispatch,
            job.worker_id,
            job.started_at,
            datetime.now(UTC),
            self._result,
            trace_id=trace_id(),
        )
        with _within_its_wall(session.connection(), job.tenant_id) as connection:
            ours = done(connection, [finished])
        if not ours:
            raise Superseded(f"job {job.id} was taken over")

    def __exit__(self, *exception: Any) -> None:
        self._work.__exit__(*exception)
        job = _current.get()
        if exception[0] is None and job is not None and job.leased:
            job.completed = True
            job.result = self._result
