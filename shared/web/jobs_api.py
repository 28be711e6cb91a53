"""The API of a service's jobs: list them, follow one, ask why it waits, retry it, cancel it.

Every service has these operations, on its own jobs. Within a tenant, the role `sales` sees and touches the
jobs of its own principal only; the others see all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Literal
from uuid import UUID

import flask
from pydantic import BaseModel, Field
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from shared.db import unit_of_work
from shared.jobs import operations
from shared.jobs.actor import Actor
from shared.jobs.failures import FailureText, explain
from shared.jobs.models import FINAL, Attempt, Job
from shared.jobs.relay import QueueSettings
from shared.web import rule
from shared.web.api import Answer, Api
from shared.web.app import runtime
from shared.web.auth import Identity
from shared.web.conditional import etag, not_modified, require_match
from shared.web.job_changes import JobWatch
from shared.web.jobs_view import AttemptView, JobView, attempt_view, job_view
from shared.web.pages import Page, PageQuery, paginate
from shared.web.prefer import wait_seconds
from shared.web.problems import Conflict, NotFound, PreconditionFailed
from shared.web.sse import event_id
from shared.web.streams import STREAM, last_event_id, stream

__all__ = ["JobQuery", "WhyView", "api"]

_WAIT = {"Prefer": "`wait=N`: answer when the job is done, after N seconds (at most 25) at the latest."}
_WAITED = {"Preference-Applied": "`wait=N` when it waited."}


class JobQuery(PageQuery):
    """Filters of the list of jobs; all that are given must hold."""

    state: Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled"] | None = None
    actor: str | None = Field(None, max_length=200, description="What kind of job.")
    queue: str | None = Field(None, max_length=200)
    parent: UUID | None = Field(None, description="Children of this job.")
    subject: str | None = Field(None, max_length=200, description="Part of what the job is about.")


class WhyView(BaseModel):
    """Why a job is where it is: exactly one reason."""

    reason: str = Field(
        description="For programs, one of: " + ", ".join(f"`{reason}`" for reason in operations.REASONS)
    )
    detail: str = Field(description="The same for people.")
    until: datetime | None = Field(None, description="When it may change, where that is known.")
    position: int | None = Field(None, description="Place in the workspace's line, from 1.")


class JobStateForbids(Conflict):
    """The job's state does not allow it: what is done cannot be cancelled, what still runs not retried."""

    slug, title = "job-state-forbids", "The job's state does not allow it"


def api(
    service: str,
    failures: Mapping[str, FailureText],
    *,
    actors: Mapping[str, Actor[Any, Any]] | None = None,
    queues: Iterable[QueueSettings] = (),
    waiting: Mapping[str, str] | None = None,
) -> Api:
    """Return the operations on the jobs of a service, whose failures are explained by these texts.

    `actors` put the domain right when a job is cancelled; `queues` and the sentences of
    `waiting` know what a job may wait for.
    """
    api = Api("jobs", description=f"Work of {service} in the back room.")
    api.explain = partial(explain, failures)
    known, lines = dict(actors or {}), {queue.name: queue for queue in queues}

    def retry(job_id: UUID, identity: Identity) -> JobView:
        """Run a failed or cancelled job again, at once. It keeps its id and its history."""
        return _operate(operations.retry, known, job_id, identity)

    def cancel(job_id: UUID, identity: Identity) -> JobView:
        """Cancel a job: at once while it waits; at its next safe point while it runs."""
        return _operate(operations.cancel, known, job_id, identity)

    def why(job_id: UUID, identity: Identity) -> WhyView:
        """Say why a job is where it is: one reason, and when it may change."""
        with unit_of_work() as session:
            queue = lines.get(_find(session, job_id, identity).queue)
            found = operations.why(
                session,
                job_id,
                provider=queue.provider if queue else None,
                per_tenant=queue.per_tenant if queue else None,
                waiting=waiting,
                actors=known,
            )
            return WhyView.model_validate(found, from_attributes=True)

    one = "/v1/jobs/<uuid:job_id>"
    changes: dict[str, Any] = {"raises": (JobStateForbids, PreconditionFailed)}
    api.get("/v1/jobs")(list_jobs)
    api.get(one, request_headers=_WAIT, headers=_WAITED)(read_job)
    api.get(f"{one}/attempts")(list_attempts)
    api.get(f"{one}/children")(list_children)
    api.get(f"{one}/why")(why)
    api.post(f"{one}/retry", **changes)(retry)
    api.post(f"{one}/cancel", **changes)(cancel)
    api.get(f"{one}/events", **STREAM)(job_events)
    api.get("/v1/events", **STREAM)(events)
    return api


def list_jobs(query: JobQuery, identity: Identity) -> Page[JobView]:
    """List jobs, the newest first."""
    statement = _visible(identity)
    for column, value in ((Job.state, query.state), (Job.actor, query.actor), (Job.queue, query.queue)):
        if value is not None:
            statement = statement.where(column == value)
    if query.parent is not None:
        statement = statement.where(Job.parent_id == query.parent)
    if query.subject is not None:
        statement = statement.where(Job.subject.icontains(query.subject, autoescape=True))
    with unit_of_work() as session:
        return paginate(session, statement, (Job.id,), query, view=_view)


def read_job(job_id: UUID, identity: Identity) -> Answer[JobView]:
    """Read a job; with `Prefer: wait=N`, when it is done.

    With `If-None-Match` as well it answers as soon as the job changed.
    """
    seconds = wait_seconds(flask.request)
    if not seconds:
        return _answer(_read(job_id, identity))
    with runtime().waiters.place() as place:
        job = _read(job_id, identity)
        if not place or job.state in FINAL:
            return _answer(job)
        answer = _answer(_wait(job, identity, seconds))
    return Answer(answer.body, etag=answer.etag, headers={"Preference-Applied": f"wait={seconds}"})


def list_attempts(job_id: UUID, query: PageQuery, identity: Identity) -> Page[AttemptView]:
    """List the runs of a job that counted, the newest first."""
    with unit_of_work() as session:
        _find(session, job_id, identity)
        statement = select(Attempt).where(Attempt.job_id == job_id)
        return paginate(session, statement, (Attempt.number,), query, view=attempt_view)


def list_children(job_id: UUID, query: PageQuery, identity: Identity) -> Page[JobView]:
    """List the jobs that this one made, the newest first."""
    with unit_of_work() as session:
        _find(session, job_id, identity)
        statement = _visible(identity).where(Job.parent_id == job_id)
        return paginate(session, statement, (Job.id,), query, view=_view)


def job_events(job_id: UUID, identity: Identity) -> flask.Response:
    """Follow a job as Server-Sent Events: `state`, `progress`, and `end`, after which the stream ends."""
    watch = JobWatch(identity.tenant_id, job_id, _only(identity), last_event_id(), runtime().explain)
    return stream(watch, identity, lambda: watch.offer(_read(job_id, identity)))


def events(identity: Identity) -> flask.Response:
    """Follow all jobs of the tenant as Server-Sent Events.

    Resuming by `Last-Event-ID` covers the newest 500 jobs; after a longer break read the list again.
    """
    since = last_event_id()
    # Without an id to go on from, what was before now is no news.
    watch = JobWatch(identity.tenant_id, None, _only(identity), since or time.time_ns() // 1000, runtime().explain)

    def begin() -> None:
        if not since:
            return  # the client has just read the list
        with unit_of_work() as session:
            for job in session.scalars(_visible(identity).order_by(Job.id.desc()).limit(500)):
                watch.offer(job)

    return stream(watch, identity, begin)


def _wait(job: Job, identity: Identity, seconds: int) -> Any:
    here = runtime()
    known = not_modified(flask.request, _etag(job))
    watch = JobWatch(identity.tenant_id, job.id, None, event_id(job.updated_at))
    deadline = time.monotonic() + seconds
    here.hub.watch(watch)
    try:
        latest: Any = _read(job.id, identity)  # what changed before the watch began
        with rule.unlimited_time():
            while latest.state not in FINAL and not (known and latest.updated_at > job.updated_at):
                left = deadline - time.monotonic()
                if left <= 0 or watch.closed:
                    break
                for _, job_now in watch.take(left):
                    latest = job_now
        return latest
    finally:
        here.hub.forget(watch)


def _operate(
    operation: Callable[..., Job], actors: dict[str, Actor[Any, Any]], job_id: UUID, identity: Identity
) -> JobView:
    with unit_of_work() as session:
        require_match(_etag(_find(session, job_id, identity)))
        try:
            return _view(operation(session, job_id, actors=actors))
        except operations.NotPossible as error:
            raise JobStateForbids(str(error)) from None


def _only(identity: Identity) -> str | None:
    return identity.principal if identity.role == "sales" else None


def _visible(identity: Identity) -> Select[Any]:
    statement = select(Job)
    principal = _only(identity)
    return statement if principal is None else statement.where(Job.principal == principal)


def _find(session: Session, job_id: UUID, identity: Identity) -> Job:
    job: Job | None = session.scalars(_visible(identity).where(Job.id == job_id)).one_or_none()
    if job is None:
        raise NotFound("There is no such job.")
    return job


def _read(job_id: UUID, identity: Identity) -> Job:
    with unit_of_work() as session:
        return _find(session, job_id, identity)


def _answer(job: Any) -> Answer[JobView]:
    return Answer(_view(job), etag=_etag(job))


def _etag(job: Any) -> str:
    return etag(job.id, job.updated_at)


def _view(job: Any) -> JobView:
    return job_view(job, runtime().explain)
