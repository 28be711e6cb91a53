"""The tables of jobs as the code reads them: `Job`, `Attempt`, `Queue`, `Schedule`, `Worker`.

A job is a row, and the row is the truth about its state, attempts, progress, result and failure;
RabbitMQ only carries the news of it. States and their arrows are drawn in docs/architecture.md.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, metadata

__all__ = [
    "FINAL",
    "LIVE",
    "QUEUED",
    "RUNNING",
    "SCHEDULED",
    "SHOWN",
    "STATES",
    "Attempt",
    "Base",
    "Job",
    "Queue",
    "Schedule",
    "ShownJob",
    "Worker",
]

LIVE = ("scheduled", "queued", "running")
FINAL = ("succeeded", "failed", "cancelled")
STATES = LIVE + FINAL

# Conditions for statements that find jobs by their ids. No partial index answers to them, as one would to a plain
# `state = 'queued'`: a plan that was made while its index was all but empty, and is kept, looks for each id by walking
# through whatever waits there now.
SCHEDULED = "jobs.state || '' = 'scheduled'"
QUEUED = "jobs.state || '' = 'queued'"
RUNNING = "jobs.state || '' = 'running'"


class Base(DeclarativeBase):
    """Base of the tables that every service's database has."""

    metadata = metadata()
    type_annotation_map = TYPES


class Job(Base):
    """One promise to do one thing.

    `runs` counts every run that burnt an attempt, `failures` those that failed since the job was made or
    last retried by hand: it picks the next delay. `deferrals` counts the runs that ended with "not yet" since then:
    a job is not put off for ever. `dispatch` grows each time that the job is handed out
    or taken back; whoever holds an older number can neither claim nor complete it.
    """

    __tablename__ = "jobs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    queue: Mapped[str]
    actor: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    arguments: Mapped[dict[str, Any]]
    subject: Mapped[str | None]
    state: Mapped[str]
    waiting_for: Mapped[str | None]
    run_at: Mapped[datetime]
    dispatch: Mapped[int]
    lost: Mapped[int] = mapped_column(SmallInteger)
    runs: Mapped[int]
    failures: Mapped[int] = mapped_column(SmallInteger)
    deferrals: Mapped[int]
    worker_id: Mapped[int | None] = mapped_column(BigInteger)
    unique_key: Mapped[str | None]
    once_key: Mapped[str | None]
    parent_id: Mapped[uuid.UUID | None]
    origin: Mapped[str]
    progress: Mapped[dict[str, Any] | None]
    checkpoint: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    outcome: Mapped[str | None]
    failure: Mapped[dict[str, Any] | None]
    principal: Mapped[str | None]
    request_id: Mapped[str | None]
    correlation_id: Mapped[str | None]
    causation_id: Mapped[str | None]
    traceparent: Mapped[str | None]
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class ShownJob(NamedTuple):
    """What clients see of a job. Loading a whole `Job` would take a third of all that it takes to accept one."""

    id: uuid.UUID
    actor: str
    queue: str
    subject: str | None
    waiting_for: str | None
    principal: str | None
    parent_id: uuid.UUID | None
    run_at: datetime
    created_at: datetime
    updated_at: datetime
    state: str = "scheduled"
    runs: int = 0
    progress: dict[str, Any] | None = None
    result: Any = None
    failure: dict[str, Any] | None = None
    cancel_requested_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


SHOWN = ", ".join(ShownJob._fields)
"""The columns of `ShownJob`, for SQL by hand."""


class Attempt(Base):
    """One run of a job that burnt an attempt. `public` is for people, `detail` is bounded and redacted."""

    __tablename__ = "job_attempts"

    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    dispatch: Mapped[int]
    tenant_id: Mapped[str]
    worker_id: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    outcome: Mapped[str]
    code: Mapped[str | None]
    public: Mapped[str | None]
    detail: Mapped[str | None]
    trace_id: Mapped[str | None]


class Queue(Base):
    """A queue that somebody has paused; queues without a row run."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None]
    reason: Mapped[str | None]


class Worker(Base):
    """A worker process. It lives as long as it holds the advisory lock of its id."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    threads: Mapped[int]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    actors: Mapped[list[str]] = mapped_column(ARRAY(Text))
    draining: Mapped[bool]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]


class Schedule(Base):
    """What recurs: its cron expression and how far it has been made into jobs."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(primary_key=True)
    cron: Mapped[str]
    catch_up: Mapped[str]
    last_due_at: Mapped[datetime]
    last_job_id: Mapped[uuid.UUID | None]
    last_success_at: Mapped[datetime | None]
