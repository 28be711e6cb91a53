"""Looking every hour whether messages lie among the dead letters. There is no other way to learn it: RabbitMQ buries
some by itself, and whoever buries one is not always able to write anything down."""

from __future__ import annotations

from shared.context import current
from shared.events.contracts.jobs import DeadLettersFound, of_service
from shared.events.publish import Occurrence, publish_many
from shared.jobs.actor import Priority, actor
from shared.jobs.current import completion
from shared.jobs.parts import parts
from shared.jobs.schedules import cron

__all__ = ["look_for_dead_letters"]


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Look for messages that nobody could handle",
    periodic=cron("5 * * * *"),
)
def look_for_dead_letters() -> None:
    """Tell of each queue in which dead letters lie; the job's result is how many there are."""
    found = {queue: count for queue, count in parts().dead_letters().items() if count}
    contract = of_service(DeadLettersFound, current().service)
    with completion(found) as session:
        publish_many(session, [Occurrence(contract(queue=queue, count=count), queue) for queue, count in found.items()])
