"""The envelope of events: CloudEvents 1.0 in structured JSON.

The official AMQP binding is for AMQP 1.0; over 0-9-1 the body is the event, and properties only repeat
some of it as hints. Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

__all__ = ["envelope"]


def envelope(service: str, row: Any) -> dict[str, Any]:
    """Return the CloudEvent of an outbox row."""
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
    }
    event.update({name: value for name, value in optional.items() if value is not None})
    return event
