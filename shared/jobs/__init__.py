"""Durable jobs on Dramatiq: a job is a row, and the broker only carries the news of it.

    from shared.jobs import actor

    @actor(queue_name="labels", unique="label_id")
    def purchase_label(label_id: UUID) -> dict: ...

    with unit_of_work() as session:
        session.add(label)
        purchase_label.send(label_id=label.id)     # both or neither

How the parts fit together is told in docs/architecture.md.
"""

from shared.jobs.actor import Actor, Priority, actor
from shared.jobs.bulk import fan_out
from shared.jobs.current import CurrentJob, completion, current_job
from shared.jobs.enqueue import enqueue_many
from shared.jobs.failures import FailureText, explain
from shared.jobs.handlers import Event, handler
from shared.jobs.outcomes import Cancelled, Continue, GiveUp, Retry, Skip, Snooze, Unknown
from shared.jobs.schedules import cron
from shared.jobs.verdict import Verdict

__all__ = [
    "Actor",
    "Cancelled",
    "Continue",
    "CurrentJob",
    "Event",
    "FailureText",
    "GiveUp",
    "Priority",
    "Retry",
    "Skip",
    "Snooze",
    "Unknown",
    "Verdict",
    "actor",
    "completion",
    "cron",
    "current_job",
    "enqueue_many",
    "explain",
    "fan_out",
    "handler",
]
