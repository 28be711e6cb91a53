"""One parent job over many children: bulk actions with progress.

    @actor(queue_name="default", subject="Buy {count} labels")
    def buy_labels(label_ids: list[str], count: int) -> dict:
        return fan_out(purchase_label, [{"label_id": id} for id in label_ids], unit="labels")

The parent makes its children once, in slices, then looks after them: its progress is how many have
ended, and it ends when all have. Children are jobs like any other: each has its own retries and alert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from shared.db.database import unit_of_work
from shared.jobs.actor import Actor
from shared.jobs.current import current_job
from shared.jobs.enqueue import enqueue_many
from shared.jobs.models import FINAL, Job
from shared.jobs.outcomes import Cancelled, Snooze

__all__ = ["fan_out"]

_SLICE = 500


def fan_out(
    child: Actor[Any, Any], items: Sequence[dict[str, Any]], *, unit: str = "", priority: int | None = None
) -> dict[str, Any]:
    """Make a child job for each item and wait for all of them; returns counts by state.

    To be called from a leased job, with the same items in each of its runs. Raises Snooze while children
    are under way, Cancelled when the parent was cancelled; the children are then cancelled too, as they are
    when the parent is cancelled between two of its runs.
    """
    job = current_job()
    made = int(job.checkpoint.get("made", 0))
    while made < len(items):
        batch = items[made : made + _SLICE]
        with unit_of_work():
            enqueue_many(
                child,
                batch,
                parent_id=job.id,
                once_keys=[f"child:{job.id}:{made + offset}" for offset in range(len(batch))],
                priority=priority,
            )
            made += len(batch)
            job.progress(0, len(items), unit=unit, checkpoint={"made": made})
        job.breathe()
    with unit_of_work() as session:
        by_state = select(Job.state, func.count()).where(Job.parent_id == job.id).group_by(Job.state)
        counts: dict[str, int] = dict(session.execute(by_state).all())
        ended = sum(counts.get(state, 0) for state in FINAL)
        # A child that was live already under its unique key belongs to somebody else, and is none of ours.
        total = sum(counts.values())
        idle = job.checkpoint.get("idle", 0) + 1 if job.checkpoint.get("ended") == ended else 0
        job.progress(ended, total, unit=unit, checkpoint={"made": made, "ended": ended, "idle": idle})
    if job.cancelled:
        raise Cancelled("the jobs that it started are cancelled with it")
    if ended < total:
        # Ten thousand children need no look every second, nor do a few that have long been waiting for something.
        raise Snooze("waiting_for_children", delay=min(10.0, 0.5 + total / 2000 + idle / 2))
    return {"total": total, **{state: counts.get(state, 0) for state in FINAL}}
