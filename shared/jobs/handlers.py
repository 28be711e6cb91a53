"""Handlers of events: jobs that an event of another service gives birth to.

    @handler("backroom.workspaces.tenant.frozen.v1")
    def cancel_waiting_labels(event: Event) -> None: ...

One job per event and handler for ever: the job's once key is the event's id, and that is the inbox. So
a redelivered event does nothing, and a handler retries, alerts and can be replayed like any job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.context import SYSTEM, use
from shared.db.database import unit_of_work
from shared.jobs.actor import Actor, actor, registry
from shared.jobs.enqueue import NewJob, enqueue
from shared.jobs.wire import Delivery
from shared.telemetry import get_logger, metrics

__all__ = ["Event", "handler", "handlers_of", "receive"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a handler gets it. `sequence` is the version of the entity: drop what is older than yours."""

    id: str
    type: str
    source: str
    tenant_id: str
    subject: str
    time: datetime
    data: dict[str, Any]
    sequence: int | None = None


def handler(event_type: str, **options: Any) -> Callable[[Callable[[Event], None]], Actor[Any, None]]:
    """Declare a handler of a type of event. It is transactional unless told otherwise, on the queue `events`' side."""
    options.setdefault("transactional", True)
    options.setdefault("queue_name", "handlers")

    def decorate(function: Callable[[Event], None]) -> Actor[Any, None]:
        def handle(event: dict[str, Any]) -> None:
            parsed = _parse(event)
            with use(event_id=parsed.id):
                function(parsed)
            metrics.event_handled(parsed.type, "done")

        handle.__name__ = function.__name__
        handle.__module__ = function.__module__
        handle.__doc__ = function.__doc__
        handle.__qualname__ = function.__qualname__
        return actor(event_type=event_type, **options)(handle)

    return decorate


def handlers_of(*modules: str) -> dict[str, list[Actor[Any, Any]]]:
    """Return the handlers that these modules declare, by the type of event."""
    found: dict[str, list[Actor[Any, Any]]] = {}
    for declared in registry.of(*modules):
        if declared.job.event_type is not None:
            found.setdefault(declared.job.event_type, []).append(declared)
    return found


def receive(handlers: dict[str, list[Actor[Any, Any]]], delivery: Delivery) -> None:
    """Write one job per handler of the event, in one transaction; the event may then be acknowledged.

    Raises KeyError or ValueError for an event that lacks what every event has.
    """
    event = delivery.event
    parsed = _parse(event)
    with use(
        tenant_id=parsed.tenant_id,
        event_id=parsed.id,
        principal=event.get("principal"),
        correlation_id=event.get("correlationid"),
        causation_id=parsed.id,
        traceparent=event.get("traceparent"),
        job_id=None,
        request_id=None,
    ):
        wanted = handlers.get(parsed.type, [])
        if not wanted:
            log.warning("an event came for which there is no handler any more", type=parsed.type, event_id=parsed.id)
            return
        with unit_of_work(system=parsed.tenant_id == SYSTEM):
            for declared in wanted:
                enqueue(
                    NewJob(
                        actor=declared,
                        arguments={"event": event},
                        once_key=f"event:{event['source']}:{parsed.id}",
                        origin="event",
                    )
                )


def _parse(event: dict[str, Any]) -> Event:
    return Event(
        id=event["id"],
        type=event["type"],
        source=event["source"],
        tenant_id=event["tenantid"],
        subject=event.get("subject", ""),
        time=datetime.fromisoformat(event["time"].replace("Z", "+00:00")),
        data=event["data"],
        sequence=int(event["sequence"]) if event.get("sequence") is not None else None,
    )
