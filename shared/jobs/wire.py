"""The messages that travel: news of jobs, and events.

News of jobs is JSON of our own: `{"actor": "purchase_label", "jobs": [["<id>", 3], …]}`, ids with their
dispatch numbers and nothing else; arguments and secrets stay in the row. Events are CloudEvents in
structured JSON. Both become a Dramatiq message here, whose queue is the one that it was *consumed*
from: a body that names another would kill the worker's thread.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dramatiq
from dramatiq.errors import DecodeError

from shared.jobs.actor import Dispatch

__all__ = ["EVENTS_ACTOR", "EVENTS_QUEUE", "Delivery", "Publication", "decode", "encode_dispatch"]

EVENTS_QUEUE = "events"
"""The queue of a service that its bindings fill with events of other services."""

EVENTS_ACTOR = "receive_event"

JOBS_CONTENT_TYPE = "application/vnd.backroom.jobs+json"
EVENTS_CONTENT_TYPE = "application/cloudevents+json"


@dataclass(slots=True)
class Delivery:
    """An event as it came off its queue."""

    event: dict[str, Any]
    redelivered: bool = False
    requeue: bool = False


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


def encode_dispatch(actor_name: str, jobs: Sequence[tuple[uuid.UUID, int]], *, careful: bool = False) -> bytes:
    """Return the body of a message that announces these jobs.

    `careful` jobs were handed out before and never claimed; they are run as if the message came back.
    """
    body: dict[str, Any] = {"actor": actor_name, "jobs": [[str(job), dispatch] for job, dispatch in jobs]}
    if careful:
        body["careful"] = True
    return json.dumps(body, separators=(",", ":")).encode()


def decode(queue_name: str, body: bytes, *, redelivered: bool) -> dramatiq.Message[Any]:
    """Turn a body from that queue into a message for the actor which it concerns.

    Raises dramatiq's DecodeError for what can never be understood; the consumer dead-letters it.
    """
    try:
        content = json.loads(body)
        if queue_name == EVENTS_QUEUE:
            if content["specversion"] != "1.0":
                raise ValueError(f"CloudEvents {content['specversion']} is not spoken here")
            uuid_or_text = str(content["id"])
            return dramatiq.Message(
                queue_name=queue_name,
                actor_name=EVENTS_ACTOR,
                args=(Delivery(content, redelivered),),
                kwargs={},
                options={},
                message_id=uuid_or_text,
            )
        jobs = [(uuid.UUID(job), int(dispatch)) for job, dispatch in content["jobs"]]
        return dramatiq.Message(
            queue_name=queue_name,
            actor_name=content["actor"],
            args=(Dispatch(jobs, redelivered or bool(content.get("careful"))),),
            kwargs={},
            options={},
            message_id=str(jobs[0][0]),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DecodeError(f"a message in {queue_name} makes no sense: {error!r}", body, error) from error
