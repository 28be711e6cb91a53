"""The outbox: an event is a row in the same transaction as the change that it tells of; the relay publishes it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from shared.context import current
from shared.db import new_id
from shared.telemetry import inject

__all__ = ["append"]

_INSERT = """
INSERT INTO outbox (id, tenant_id, type, subject, sequence, data, principal, correlation_id, causation_id, traceparent)
SELECT id, tenant, %(type)s, subject, sequence, data::jsonb, %(principal)s, %(correlation)s, %(causation)s,
       %(traceparent)s
FROM unnest(%(ids)s::uuid[], %(tenants)s::text[], %(subjects)s::text[], %(sequences)s::bigint[], %(data)b::text[])
     AS event(id, tenant, subject, sequence, data)
"""


def append(
    connection: Connection,
    *,
    tenant_id: str | Sequence[str],
    type: str,
    events: Sequence[tuple[str, int | None, dict[str, Any]]],
) -> list[uuid.UUID]:
    """Write events of one type; each is (subject, sequence, data). Returns their ids.

    `tenant_id` is whose all of them are, or whose each is: then this is work of the tenant SYSTEM.

    `shared.events.publish` is the typed door to this; it is here for the library's own events.
    """
    context = current()
    ids = [new_id() for _ in events]
    connection.exec_driver_sql(
        _INSERT,
        {
            "ids": ids,
            "subjects": [event[0] for event in events],
            "sequences": [event[1] for event in events],
            "data": [json.dumps(event[2], default=str) for event in events],
            "tenants": [tenant_id] * len(ids) if isinstance(tenant_id, str) else list(tenant_id),
            "type": type,
            "principal": context.principal,
            "correlation": context.correlation_id or context.request_id,
            "causation": context.job_id or context.event_id or context.request_id or context.causation_id,
            "traceparent": inject(),
        },
    )
    return ids
