"""A job as clients see it: `JobView`, made from the job's row.

The row has more than anybody outside needs to know (arguments, checkpoints, who holds it); none of that
goes out. A failure goes out as four sentences for people, made by the service's texts from its code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.jobs.failures import FailureText, explain
from shared.jobs.models import FINAL, Attempt, Job, ShownJob

__all__ = ["AttemptView", "Explain", "FailureView", "JobView", "Progress", "attempt_view", "job_view"]

Explain = Callable[[str, Mapping[str, Any]], FailureText]
"""From a failure's code and fields to what people are told."""


class Progress(BaseModel):
    """How far the job is. Absent until it first says so."""

    done: int
    total: int | None = Field(None, description="Null while it is not known.")
    unit: str | None = Field(None, examples=["rows"])
    message: str | None = None


class FailureView(BaseModel):
    """Why it failed, for people."""

    code: str = Field(description="The kind of failure as a word for programs.")
    what: str = Field(description="What happened.")
    meaning: str = Field(description="What was done, what was not, what it costs.")
    doing: str = Field(description="What we are doing about it.")
    action: str = Field(description="What you can do.")


class JobView(BaseModel):
    """A job: one promise to do one thing. When `done`, either `result` or `error` says how it ended."""

    model_config = ConfigDict(title="Job")

    id: UUID
    state: str = Field(description="`scheduled`, `queued`, `running`; then `succeeded`, `failed` or `cancelled`.")
    done: bool = Field(description="Whether the state is final.")
    actor: str = Field(description="What kind of job it is.")
    queue: str
    subject: str | None = Field(None, description="What it is about.", examples=["Label for order 1042"])
    waiting_for: str | None = Field(None, description="What holds it back, if anything special does.")
    progress: Progress | None = None
    result: Any = Field(None, description="What it brought, when it succeeded.")
    error: FailureView | None = Field(None, description="Why it failed, when it failed for good.")
    last_failure: FailureView | None = Field(None, description="Why the last run failed, while another try is due.")
    attempts: int = Field(description="Runs so far.")
    next_run_at: datetime | None = Field(None, description="When it is due, while it waits.")
    cancel_requested: bool = False
    principal: str | None = Field(None, description="Who asked for it.")
    parent_id: UUID | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    updated_at: datetime
    links: dict[str, str] = Field(description="Paths of the job itself and of what belongs to it.")


class AttemptView(BaseModel):
    """One run of a job that counted."""

    model_config = ConfigDict(title="Attempt")

    number: int
    started_at: datetime
    ended_at: datetime
    outcome: str
    code: str | None = Field(None, description="The kind of failure, if it failed.")
    public: str | None = Field(None, description="What happened, for people.")
    trace_id: str | None = None


def job_view(job: Job | ShownJob, explain_failure: Explain | None = None) -> JobView:
    """Return what clients see of the job."""
    final = job.state in FINAL
    failure = _failure(job.failure, explain_failure)
    path = f"/v1/jobs/{job.id}"
    links = {name: f"{path}/{name}" for name in ("events", "attempts", "children", "why")}
    if job.state in ("failed", "cancelled"):
        links["retry"] = f"{path}/retry"
    elif not final:
        links["cancel"] = f"{path}/cancel"
    if job.parent_id is not None:
        links["parent"] = f"/v1/jobs/{job.parent_id}"
    return JobView(
        id=job.id,
        state=job.state,
        done=final,
        actor=job.actor,
        queue=job.queue,
        subject=job.subject,
        waiting_for=job.waiting_for,
        progress=Progress.model_validate(job.progress) if job.progress else None,
        result=job.result if job.state == "succeeded" else None,
        error=failure if job.state == "failed" else None,
        last_failure=failure if not final else None,
        attempts=job.runs,
        next_run_at=job.run_at if job.state == "scheduled" else None,
        cancel_requested=job.cancel_requested_at is not None,
        principal=job.principal,
        parent_id=job.parent_id,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        updated_at=job.updated_at,
        links={"self": path, **links},
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    """Return what clients see of a run: its private detail stays with us."""
    return AttemptView.model_validate(attempt, from_attributes=True)


def _failure(failure: dict[str, Any] | None, explain_failure: Explain | None) -> FailureView | None:
    if not failure:
        return None
    code, fields = str(failure.get("code", "unexpected")), failure.get("fields") or {}
    text = explain_failure(code, fields) if explain_failure else explain({}, code, fields)
    return FailureView(code=code, what=text.what, meaning=text.meaning, doing=text.doing, action=text.action)
