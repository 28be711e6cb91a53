"""Handlers of events: jobs that an event of another service gives birth to.

    @handler(LabelPurchased)
    def note_shipment(event: Event[LabelPurchased]) -> None:
        event.data.tracking_number

One job per event and handler for ever: the job's once key is the event's id, and that is the inbox. So
a redelivered event does nothing, and a handler retries, alerts and can be replayed like any job. An
event for which there is no handler any more goes to the dead letters, since it may be one that only
the next version, of which this one is rolled back, knows how to handle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from pydantic import ValidationError

from shared.context import SYSTEM, use
from shared.db.database import unit_of_work
from shared.events.contracts import EventContract, contracts
from shared.jobs.actor import Actor, actor, registry
from shared.jobs.enqueue import NewJob, enqueue
from shared.jobs.outcomes import Retry
from shared.jobs.wire import Delivery
from shared.telemetry import metrics

__all__ = ["Event", "NoHandler", "handler", "handlers_of", "receive"]

T = TypeVar("T")
C = TypeVar("C", bound=EventContract)


class NoHandler(LookupError):
    """No handler of this service takes events of this type; a binding of its queue still brings them."""


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """An event as a handler gets it. `sequence` is the version of the entity: drop what is older than yours."""

    id: str
    type: str
    source: str
    tenant_id: str
    subject: str
    time: datetime
    data: T
    sequence: int | None = None
    replay: str | None = None
    """Set on a forced replay: the id of the event that this one tells again."""


@overload
def handler(contract: type[C], **options: Any) -> Callable[[Callable[[Event[C]], None]], Actor[Any, None]]: ...


@overload
def handler(contract: str, **options: Any) -> Callable[[Callable[[Event[dict[str, Any]]], None]], Actor[Any, None]]: ...


def handler(contract: type[EventContract] | str, **options: Any) -> Any:
    """Declare a handler of events; a transactional job on the queue `handlers`, unless `options` say otherwise.

    `event.data` is an instance of the contract. Only for types of producers elsewhere, which have no contract
    here, name the type itself; `event.data` is then what JSON holds. Raises TypeError for a type that has one.
    """
    options.setdefault("transactional", True)
    options.setdefault("queue_name", "handlers")
    if isinstance(contract, str):
        event_type, shape = contract, None
        if event_type in contracts():
            raise TypeError(f"{event_type} has a contract: use @handler({contracts()[event_type].__name__})")
    else:
        event_type, shape = contract.type, contract

    def decorate(function: Callable[[Event[Any]], None]) -> Actor[Any, None]:
        def handle(event: dict[str, Any]) -> None:
            parsed = _parse(event, shape)
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

    Raises NoHandler for an event of a type that this service does not handle.
    """
    event = delivery.event
    parsed = _parse(event, None)
    wanted = handlers.get(parsed.type)
    if not wanted:
        raise NoHandler(f"no handler of this version of the service takes events of type {parsed.type}")
    with (
        use(
            tenant_id=parsed.tenant_id,
            event_id=parsed.id,
            principal=event.get("principal"),
            correlation_id=event.get("correlationid"),
            causation_id=parsed.id,
            traceparent=event.get("traceparent"),
            job_id=None,
            request_id=None,
        ),
        unit_of_work(system=parsed.tenant_id == SYSTEM),
    ):
        for declared in wanted:
            enqueue(
                NewJob(
                    actor=declared,
                    arguments={"event": event},
                    once_key=f"event:{event['source']}:{parsed.id}",
                    origin="event",
                )
            )


def _parse(event: dict[str, Any], shape: type[EventContract] | None) -> Event[Any]:
    data = event["data"]
    if shape is not None:
        try:
            data = shape.model_validate(data)
        except ValidationError as error:
            # Not given up at once: during a deploy a worker of the version before may meet what a newer service
            # says, and the retry schedule outlasts a deploy.
            problems = error.errors(include_input=False, include_url=False)
            raise Retry("event_unreadable", f"{shape.type} {event['id']}: {problems}") from error
    return Event(
        id=event["id"],
        type=event["type"],
        source=event["source"],
        tenant_id=event["tenantid"],
        subject=event.get("subject") or "",
        time=datetime.fromisoformat(event["time"]),
        data=data,
        sequence=int(event["sequence"]) if event.get("sequence") is not None else None,
        replay=event.get("replay"),
    )
