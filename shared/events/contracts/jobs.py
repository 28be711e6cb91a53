"""What the library tells on behalf of every service: alerts about its jobs, providers and schedules.

The same shapes for all services, and a type for each: `backroom.shipping.job.failed.v1`. Each tells of
something that a person should know of, once, not of every time that it was noticed.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from pydantic import AwareDatetime, Field

from shared.events.contracts.contract import EventContract, example

__all__ = [
    "CircuitClosed",
    "CircuitOpened",
    "DeadLettersFound",
    "JobFailed",
    "ReconciliationStuck",
    "ScheduleMissed",
    "library_contracts",
    "of_service",
]

C = TypeVar("C", bound=EventContract)


class JobFailed(EventContract):
    """A job failed for good: its retries are used up, or none could have mended it. Once per failure."""

    model_config = example(
        job_id="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a3d",
        actor="purchase_label",
        queue="labels",
        subject="Label for order 1042",
        code="provider_unavailable",
        attempts=4,
        what="The carrier's system did not answer.",
        meaning="No label was bought, and nothing was charged.",
        doing="We tried four times within twelve minutes and stopped.",
        action="Press Retry in a few minutes.",
    )

    job_id: str
    actor: str = Field(description="What kind of job it is.")
    queue: str
    subject: str | None = Field(description="What it was about, in words for people.")
    code: str | None = Field(description="A key of the service's failure texts.")
    attempts: int = Field(description="How many times it ran.")
    what: str = Field(description="What happened. This and the three below are sentences for people.")
    meaning: str = Field(description="What was done, and what was not.")
    doing: str = Field(description="What we do about it.")
    action: str = Field(description="What the reader can do.")


class CircuitOpened(EventContract):
    """A provider is down: its jobs wait, unburnt. Once per outage, however many jobs meet it."""

    model_config = example(
        provider="shippo",
        error="no answer within 10 seconds",
        waiting=118,
        opened_at="2026-03-01T12:00:00Z",
        retry_at="2026-03-01T12:00:30Z",
    )

    provider: str
    error: str = Field(description="What went wrong last, bounded and without secrets.")
    waiting: int = Field(description="How many jobs wait for the provider.")
    opened_at: AwareDatetime
    retry_at: AwareDatetime | None = Field(description="When one job will try whether it is up again.")


class CircuitClosed(EventContract):
    """A provider answers again, and its jobs go on."""

    model_config = example(provider="shippo", opened_at="2026-03-01T12:00:00Z", closed_at="2026-03-01T12:07:30Z")

    provider: str
    opened_at: AwareDatetime | None
    closed_at: AwareDatetime


class ScheduleMissed(EventContract):
    """A schedule did not run when it should have: no scheduler ran then. Once per gap."""

    model_config = example(
        schedule="reconcile_nightly",
        missed=2,
        since="2026-03-01T03:00:00Z",
        caught_up="once",
    )

    schedule: str
    missed: int = Field(description="How many due times passed.")
    since: AwareDatetime = Field(description="The first of them.")
    caught_up: str = Field(description="What became of them: `skip`, `once` or `all` are made up for.")


class ReconciliationStuck(EventContract):
    """Reconciliation found the same thing undone several nights running; it needs a person. Once per thing."""

    model_config = example(
        reconciliation="labels_unknown",
        item="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a2c",
        nights=3,
        job_id="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a3d",
    )

    reconciliation: str
    item: str = Field(description="The id of what did not come right.")
    nights: int
    job_id: str | None = Field(None, description="The last job that tried to mend it.")


class DeadLettersFound(EventContract):
    """Messages that nobody could handle lie in a queue and wait for a person. Once an hour for as long as they lie."""

    model_config = example(queue="shipping.events", count=2)

    queue: str
    count: int = Field(ge=1, description="How many there are now.")


_TYPES: dict[type[EventContract], str] = {
    JobFailed: "job.failed.v1",
    CircuitOpened: "circuit.opened.v1",
    CircuitClosed: "circuit.closed.v1",
    ScheduleMissed: "schedule.missed.v1",
    ReconciliationStuck: "reconciliation.stuck.v1",
    DeadLettersFound: "dead_letters.found.v1",
}


@cache
def of_service(shape: type[C], service: str) -> type[C]:
    """Return the contract by which a service tells this: `of_service(JobFailed, "shipping")`."""
    made = type(
        f"{service.title().replace('_', '')}{shape.__name__}",
        (shape,),
        {
            "__module__": __name__,
            "__doc__": shape.__doc__,
            "__annotations__": {},
            "type": f"backroom.{service}.{_TYPES[shape]}",
        },
    )
    return made


def library_contracts(service: str) -> list[type[EventContract]]:
    """Return all that the library may tell on behalf of a service."""
    return [of_service(shape, service) for shape in _TYPES]
