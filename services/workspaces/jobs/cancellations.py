"""Walking cancellations through their steps: an hourly tick finds those that have one due, a job each takes it.

Each step is one transaction: its row, what it does, the event about it. A job takes at most one step that changes
the state of the workspace, with its own end in the same commit, so that nothing is taken away twice in a run; and
only after Paddle has said, in that very run, that nobody pays. While Paddle does not answer the job waits, and the
next tick makes another one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.workspaces.jobs.billing import ask_paddle, take_over
from services.workspaces.lifecycle import cancellations
from services.workspaces.lifecycle.cancellations import STEPS, Step
from shared.db import unit_of_work
from shared.jobs import actor, completion, cron
from shared.jobs.reconcile import Found, queue_again

__all__ = ["advance_cancellation", "advance_cancellations"]

_MOST: Final = 5000
"""Per tick; what is more gets its turn in the next."""

# Steps are decided in order, so that as many rows as days have passed mean that nothing is due.
_DUE: Final = """
SELECT tenant_id, id FROM cancellations
WHERE ended_at IS NULL
  AND (SELECT count(*) FROM unnest(CAST(:days AS integer[])) AS day
       WHERE cancellations.canceled_at + make_interval(days => day) <= :as_of)
    > (SELECT count(*) FROM cancellation_steps AS step
       WHERE step.tenant_id = cancellations.tenant_id AND step.cancellation_id = cancellations.id)
ORDER BY canceled_at LIMIT :most
"""


@actor(queue_name="default", unique=(), subject="Advance cancellations", periodic=cron("5 * * * *"))
def advance_cancellations(as_of: datetime | None = None) -> dict[str, int]:
    """Have every cancellation that has a step due take it.

    `as_of` stands for now; with it a demonstration or a test walks through 90 days.
    """
    with unit_of_work(system=True) as session:
        return {"cancellations": queue_again(advance_cancellation, _due(session, as_of))}


@actor(
    queue_name="billing",
    unique="cancellation_id",
    subject="The next step of a cancellation",
    time_limit=120,
    standing="any",
)
def advance_cancellation(cancellation_id: UUID, as_of: datetime | None = None) -> dict[str, str]:
    """Take the steps of one cancellation that are due, up to one that changes the state of the workspace."""
    now = as_of or datetime.now(UTC)
    taken: dict[str, str] = {}
    while (step := _next(cancellation_id, now)) is not None:
        if step.state is not None:
            _take_away(cancellation_id, step, now, taken)
            break
        with unit_of_work() as session:
            outcome = cancellations.take(session, cancellation_id, step, now)
        taken[step.name] = outcome or "not_needed"
    return taken


def _next(cancellation_id: UUID, now: datetime) -> Step | None:
    with unit_of_work() as session:
        return cancellations.next_due(session, cancellation_id, now)


def _take_away(cancellation_id: UUID, step: Step, now: datetime, taken: dict[str, str]) -> None:
    seen = ask_paddle()
    with completion(taken) as session:
        settled = take_over(session, seen)
        outcome = cancellations.take(session, cancellation_id, step, now)
        taken[step.name] = outcome or settled


def _due(session: Session, as_of: datetime | None) -> list[Found]:
    now = as_of or datetime.now(UTC)
    rows = session.execute(text(_DUE), {"days": [step.day for step in STEPS], "as_of": now, "most": _MOST})
    more = {} if as_of is None else {"as_of": as_of}
    return [(row.tenant_id, {"cancellation_id": row.id, **more}) for row in rows]
