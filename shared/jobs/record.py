"""Writing down what became of a run: the job's new state, its attempt, and what follows from it.

Every statement is fenced: it touches the job only under the dispatch number of the run's claim and only
while the job is in the hands of this worker, so a run that was taken over changes nothing. The number alone
would not do: marks of what is handed out do not wait for the disk, and a crash of the database may undo one
whose run goes on; the number is then given out once more, but to another worker.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.jobs.models import QUEUED, RUNNING
from shared.jobs.verdict import Verdict

__all__ = ["Finished", "conclude", "done", "still_ours"]


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended well. `result` is JSON; `outcome` is `done` or `skipped`."""

    job_id: uuid.UUID
    dispatch: int
    worker_id: int
    started_at: datetime
    ended_at: datetime
    result: Any = None
    outcome: str = "done"
    code: str | None = None
    trace_id: str | None = None
    after_commit: Sequence[Callable[[], None]] = ()
    """What the job's unit of work wants done when it has committed."""


_RUNS = """unnest(%s::uuid[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[],
                         %s::text[], %s::text[])"""
_RUN = """(VALUES (%s::uuid, %s::int, %s::timestamptz, %s::timestamptz, %s::text, %s::text, %s::text, %s::text))"""

_DONE = """
WITH run AS (
    SELECT * FROM {runs} AS run(id, dispatch, started_at, ended_at, outcome, code, result, trace_id)
), done AS (
    UPDATE jobs SET state = 'succeeded', outcome = run.outcome, result = run.result::jsonb, failure = NULL,
                    runs = runs + (state = 'queued')::int, waiting_for = NULL, started_at = run.started_at,
                    finished_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM run
    WHERE jobs.id = run.id AND jobs.dispatch = run.dispatch
      AND ({queued} OR ({running} AND jobs.worker_id = %s))
    RETURNING jobs.id, jobs.runs, jobs.tenant_id
)
INSERT INTO job_attempts (job_id, number, dispatch, tenant_id, worker_id, started_at, ended_at, outcome, code, trace_id)
SELECT done.id, done.runs, run.dispatch, done.tenant_id, %s, run.started_at, run.ended_at, run.outcome, run.code,
       run.trace_id
FROM done JOIN run USING (id)
RETURNING job_id
"""

_DONE_MANY = _DONE.format(runs=_RUNS, queued=QUEUED, running=RUNNING)
_DONE_ONE = _DONE.format(runs=_RUN, queued=QUEUED, running=RUNNING)

_CONCLUDE = f"""
UPDATE jobs SET
    state = %(state)s, outcome = %(outcome)s, waiting_for = %(waiting_for)s,
    run_at = coalesce(%(run_at)s, run_at),
    runs = runs + CASE WHEN %(burns)s THEN (state = 'queued')::int ELSE -(state = 'running')::int END,
    failures = failures + %(failed)s::int,
    deferrals = deferrals + (NOT %(burns)s)::int,
    failure = CASE WHEN %(keep_failure)s THEN failure ELSE %(failure)s::jsonb END,
    result = %(result)s::jsonb,
    started_at = coalesce(%(started_at)s, started_at),
    finished_at = CASE WHEN %(final)s THEN clock_timestamp() END,
    updated_at = clock_timestamp()
WHERE id = %(id)s AND dispatch = %(dispatch)s
  AND ({QUEUED} OR ({RUNNING} AND worker_id = %(worker)s))
RETURNING runs, tenant_id
"""  # noqa: S608 - constants

_ATTEMPT = """
INSERT INTO job_attempts (job_id, number, dispatch, tenant_id, worker_id, started_at, ended_at, outcome, code, public,
                          detail, trace_id)
VALUES (%s, %s, %s, %s, %s, coalesce(%s, clock_timestamp()), clock_timestamp(), %s, %s, %s, %s, %s)
"""

_OURS = f"""
SELECT 1 FROM jobs WHERE id = %s AND dispatch = %s AND {RUNNING} AND worker_id = %s FOR SHARE
"""  # noqa: S608 - a constant


def done(connection: Connection, runs: Sequence[Finished]) -> set[uuid.UUID]:
    """Complete these jobs in the open transaction; return the ids of those that were still ours."""
    if len(runs) == 1:
        run = runs[0]
        parameters: tuple[Any, ...] = (
            run.job_id, run.dispatch, run.started_at, run.ended_at, run.outcome, run.code, _json(run.result),
            run.trace_id, run.worker_id, run.worker_id,
        )  # fmt: skip
        return {row[0] for row in connection.exec_driver_sql(_DONE_ONE, parameters)}
    rows = connection.exec_driver_sql(
        _DONE_MANY,
        (
            [run.job_id for run in runs],
            [run.dispatch for run in runs],
            [run.started_at for run in runs],
            [run.ended_at for run in runs],
            [run.outcome for run in runs],
            [run.code for run in runs],
            [_json(run.result) for run in runs],
            [run.trace_id for run in runs],
            *[runs[0].worker_id if runs else None] * 2,
        ),
    )
    return {row[0] for row in rows}


def _json(result: Any) -> str | None:
    return None if result is None else json.dumps(result, default=str)


def conclude(
    connection: Connection,
    job_id: uuid.UUID,
    dispatch: int,
    verdict: Verdict,
    *,
    worker_id: int | None,
    started_at: datetime | None,
    public: str | None = None,
    trace_id: str | None = None,
) -> int | None:
    """Write down a run that did not simply succeed; return the job's number of runs, None if not ours any more."""
    failed = verdict.burns and verdict.outcome not in ("skipped", "cancelled")
    failure = json.dumps({"code": verdict.code, "fields": verdict.fields}, default=str) if failed else None
    row = connection.exec_driver_sql(
        _CONCLUDE,
        {
            "id": job_id,
            "dispatch": dispatch,
            "worker": worker_id,
            "state": verdict.state,
            "outcome": verdict.outcome,
            "waiting_for": verdict.waiting_for,
            "run_at": verdict.run_at,
            "burns": verdict.burns,
            "failed": failed,
            "keep_failure": not verdict.burns,
            "failure": failure,
            "result": None if verdict.result is None else json.dumps(verdict.result, default=str),
            "started_at": started_at,
            "final": verdict.state != "scheduled",
        },
    ).first()
    if row is None:
        return None
    if verdict.burns:
        connection.exec_driver_sql(
            _ATTEMPT,
            (
                job_id,
                row.runs,
                dispatch,
                row.tenant_id,
                worker_id,
                started_at,
                verdict.outcome,
                verdict.code,
                public,
                verdict.detail or None,
                trace_id,
            ),
        )
    return int(row.runs)


def still_ours(connection: Connection, job_id: uuid.UUID, dispatch: int, worker_id: int) -> bool:
    """Whether the running job is still in the hands of this run; holds on to it until the transaction ends."""
    return connection.exec_driver_sql(_OURS, (job_id, dispatch, worker_id)).first() is not None
