"""The envelope of events: CloudEvents 1.0 in structured JSON.

The official AMQP binding is for AMQP 1.0; over 0-9-1 the body is the event, and properties only repeat
some of it as hints. Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

__all__ = ["NotAnEvent", "check", "envelope"]

_REQUIRED = ("id", "source", "type", "tenantid", "time")


class NotAnEvent(ValueError):
    """What came is no event that could ever be handled; the message says what is wrong with it."""


def envelope(service: str, row: Any) -> dict[str, Any]:
    """Return the CloudEvent of an outbox row.

    Beside the attributes of the specification it has `tenantid`, and where known `sequence` (the version of the
    subject), `principal`, `correlationid`, `causationid`, `traceparent`, and `replay`: on a forced replay, the id
    of the event that is told again.
    """
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(row.id),
        "source": f"/backroom/{service}",
        "type": row.type,
        "subject": row.subject,
        "time": row.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "dataschema": f"/contracts/events/{row.type}.json",
        "tenantid": row.tenant_id,
        "data": row.data,
    }
    optional = {
        "sequence": None if row.sequence is None else str(row.sequence),
        "principal": row.principal,
        "correlationid": row.correlation_id,
        "causationid": row.causation_id,
        "traceparent": row.traceparent,
        "replay": None if row.replay_of is None else str(row.replay_of),
    }
    event.update({name: value for name, value in optional.items() if value is not None})
    return event


def check(event: Any) -> dict[str, Any]:
    """Return a CloudEvent that has what every event of ours has, whoever published it.

    Raises NotAnEvent. What is not known here is left alone, and so is what `data` holds.
    """
    if not isinstance(event, dict):
        raise NotAnEvent("it is no JSON object")
    if event.get("specversion") != "1.0":
        raise NotAnEvent(f"its specversion is {event.get('specversion')!r}, not '1.0'")
    for name in _REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise NotAnEvent(f"its attribute {name!r} is missing, or no text")
    try:
        moment = datetime.fromisoformat(event["time"])
    except ValueError:
        raise NotAnEvent(f"its time {event['time'][:40]!r} is none of RFC 3339") from None
    if moment.tzinfo is None:
        raise NotAnEvent("its time has no offset from UTC")
    if "data" not in event:
        raise NotAnEvent("it has no data" if "data_base64" not in event else "its data is not JSON")
    if event.get("sequence") is not None and not str(event["sequence"]).isdecimal():
        raise NotAnEvent("its sequence is no whole number")
    return event
