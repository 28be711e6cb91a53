"""The messages that travel: news of jobs, and events.

News of jobs is JSON of our own: `{"actor": "purchase_label", "jobs": [["<id>", 3], …]}`, ids with their
dispatch numbers, and whose they are where all are one tenant's; arguments and secrets stay in the row.
Events are CloudEvents in structured JSON. Both become a Dramatiq message here, whose queue is the one
that it was *consumed* from: a body that names another would kill the worker's thread.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dramatiq
from dramatiq.errors import DecodeError

from shared.events.envelope import NotAnEvent, check
from shared.jobs.actor import Dispatch

__all__ = [
    "DEAD_LETTERS",
    "EVENTS_ACTOR",
    "EVENTS_QUEUE",
    "DeadLetter",
    "Delivery",
    "Publication",
    "decode",
    "encode_dispatch",
    "obituary",
]

EVENTS_QUEUE = "events"
"""The queue of a service that its bindings fill with events of other services."""

EVENTS_ACTOR = "receive_event"

DEAD_LETTERS = "dead"
"""Suffix of the queue that holds what a queue could not make sense of; without TTL, and watched."""

JOBS_CONTENT_TYPE = "application/vnd.backroom.jobs+json"
EVENTS_CONTENT_TYPE = "application/cloudevents+json"


@dataclass(slots=True)
class Delivery:
    """An event as it came off its queue."""

    event: dict[str, Any]
    redelivered: bool = False
    requeue: bool = False
    died: BaseException | None = None
    """Set by the receiver when it can never be received: it goes to the dead letters, with this as the reason."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to be published. `exchange` is "" for a queue of jobs, else the exchange of events."""

    exchange: str
    routing_key: str
    body: bytes
    content_type: str
    message_id: str | None = None
    type: str | None = None
    headers: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody could handle. `queue` is the one in which it died, as the broker names it."""

    queue: str
    body: bytes
    reason: str
    died_at: datetime | None = None
    headers: dict[str, Any] = field(default_factory=dict)


def obituary(reason: BaseException | str) -> dict[str, Any]:
    """Return the headers of a dead letter that say why it died, and when."""
    if isinstance(reason, DecodeError):
        text = str(reason)
    elif isinstance(reason, BaseException):
        text = f"{type(reason).__name__}: {reason}"
    else:
        text = reason
    return {"x-reason": text[:500], "x-died-at": datetime.now(UTC).isoformat(timespec="milliseconds")}


def encode_dispatch(
    actor_name: str, jobs: Sequence[tuple[uuid.UUID, int]], *, careful: bool = False, tenant_id: str | None = None
) -> bytes:
    """Return the body of a message that announces these jobs, of one tenant if that is given.

    `careful` jobs were handed out before and never claimed; they are run as if the message came back.
    """
    body: dict[str, Any] = {"actor": actor_name, "jobs": [[str(job), dispatch] for job, dispatch in jobs]}
    if careful:
        body["careful"] = True
    if tenant_id is not None:
        body["tenant"] = tenant_id
    return json.dumps(body, separators=(",", ":")).encode()


def decode(queue_name: str, body: bytes, *, redelivered: bool) -> dramatiq.Message[Any]:
    """Turn a body from that queue into a message for the actor which it concerns.

    Raises dramatiq's DecodeError for what can never be understood; the consumer dead-letters it.
    """
    try:
        content = json.loads(body)
        if queue_name == EVENTS_QUEUE:
            event = check(content)
            return dramatiq.Message(
                queue_name=queue_name,
                actor_name=EVENTS_ACTOR,
                args=(Delivery(event, redelivered),),
                kwargs={},
                options={},
                message_id=event["id"],
            )
        jobs = [(uuid.UUID(job), int(dispatch)) for job, dispatch in content["jobs"]]
        return dramatiq.Message(
            queue_name=queue_name,
            actor_name=content["actor"],
            args=(Dispatch(jobs, redelivered or bool(content.get("careful")), tenant_id=_text(content.get("tenant"))),),
            kwargs={},
            options={},
            message_id=str(jobs[0][0]),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = str(error) if isinstance(error, NotAnEvent) else repr(error)
        raise DecodeError(f"a message in {queue_name} makes no sense: {reason}", body, error) from error


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
