"""What the library tells on behalf of every service: what goes wrong becomes an alert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from services.notifications.alerts import Cause, resolve, strike
from services.notifications.audience import people_for
from shared.db import unit_of_work
from shared.events.contracts import EventContract, services
from shared.events.contracts.contract import service_of
from shared.events.contracts.jobs import (
    CircuitClosed,
    CircuitOpened,
    DeadLettersFound,
    JobFailed,
    ReconciliationStuck,
    ScheduleMissed,
    of_service,
)
from shared.jobs import Actor, Event, FailureText, Skip, handler
from shared.telemetry import get_logger

__all__ = ["HANDLERS"]

log = get_logger(__name__)

C = TypeVar("C", bound=EventContract)

HANDLERS: Final[dict[str, Actor[Any, Any]]] = {}
"""All of them, by name: one for each service and kind of event."""


def _of_every_service(shape: type[C], name: str) -> Callable[[Callable[[Event[C]], None]], None]:
    """Declare a handler of this event of each service: `name` with the service's."""

    def decorate(function: Callable[[Event[C]], None]) -> None:
        for service in services():
            called = name.format(service)
            HANDLERS[called] = handler(of_service(shape, service), actor_name=called)(function)

    return decorate


@_of_every_service(JobFailed, "alert_of_failed_{}_job")
def _job_failed(event: Event[JobFailed]) -> None:
    """Alert whoever can act of a job that failed for good."""
    failed, service = event.data, service_of(event.type)
    if failed.actor in HANDLERS:
        # It would alert of itself without end; its own row and the log have it.
        log.error("an alert could not be raised", job=failed.job_id, actor=failed.actor, code=failed.code)
        raise Skip("alert_of_an_alert")
    people = people_for(service, queue=failed.queue, actor=failed.actor, code=failed.code)
    if not people.roles:
        raise Skip("told_apart")
    cause = Cause(
        "job_failed",
        f"{failed.actor}:{failed.code}",
        service,
        people,
        FailureText(failed.what, failed.meaning, failed.doing, failed.action),
        actor=failed.actor,
        code=failed.code,
    )
    with unit_of_work() as session:
        strike(session, cause, key=failed.job_id, subject=failed.subject, at=event.time)


@_of_every_service(CircuitOpened, "alert_of_opened_{}_circuit")
def _circuit_opened(event: Event[CircuitOpened]) -> None:
    """Alert of a provider that is down."""
    name = event.data.provider.replace("_", " ").capitalize()
    says = FailureText(
        what=f"{name} does not answer.",
        meaning="Whatever needs it waits. Nothing is lost, and nothing is done twice.",
        doing="We ask again and again, and go on by ourselves as soon as it answers.",
        action="Nothing for now.",
    )
    _strike(event, "circuit_opened", event.data.provider, says, provider=event.data.provider)


@_of_every_service(CircuitClosed, "silence_closed_{}_circuit")
def _circuit_closed(event: Event[CircuitClosed]) -> None:
    """The provider answers again: what told of it falls silent."""
    with unit_of_work() as session:
        resolve(
            session,
            "kind = 'circuit_opened' AND tenant_id = :tenant AND service = :service AND provider = :provider",
            {"tenant": event.tenant_id, "service": service_of(event.type), "provider": event.data.provider},
            "circuit_closed",
        )


@_of_every_service(ScheduleMissed, "alert_of_missed_{}_schedule")
def _schedule_missed(event: Event[ScheduleMissed]) -> None:
    """Alert of work that was not begun when it was due."""
    says = FailureText(
        what="Regular work was not begun when it was due.",
        meaning="What it keeps up to date was late.",
        doing="It is made up for as it is meant to be.",
        action="Look why nothing started it then.",
    )
    _strike(event, "schedule_missed", event.data.schedule, says)


@_of_every_service(ReconciliationStuck, "alert_of_stuck_{}_reconciliation")
def _reconciliation_stuck(event: Event[ReconciliationStuck]) -> None:
    """Alert of what does not come right by itself."""
    says = FailureText(
        what="Something did not come right, though we tried for several nights.",
        meaning="It is not finished, and may never be by itself.",
        doing="We try again every night.",
        action="Look at it, and send us its reference if you cannot mend it.",
    )
    _strike(event, "reconciliation_stuck", event.data.reconciliation, says, key=event.data.item)


@_of_every_service(DeadLettersFound, "alert_of_dead_letters_of_{}")
def _dead_letters_found(event: Event[DeadLettersFound]) -> None:
    """Alert of messages that nobody could handle."""
    says = FailureText(
        what="Messages between parts of the system could not be handled.",
        meaning="What should have followed from them was not done.",
        doing="They are kept until somebody has looked at them.",
        action="Mend the cause and have them delivered again.",
    )
    _strike(event, "dead_letters", event.data.queue, says)


def _strike(
    event: Event[Any], kind: str, cause: str, says: FailureText, *, provider: str | None = None, key: str | None = None
) -> None:
    service = service_of(event.type)
    people = people_for(service, provider=provider)
    with unit_of_work() as session:
        strike(
            session,
            Cause(kind, cause, service, people, says, provider=provider),
            key=key or event.id,
            subject=None,
            at=event.time,
        )
