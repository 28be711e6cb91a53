"""Webhooks of providers: a request keeps each once, a job of its service says what it leads to.

    keep(session, "shippo", event.key, body, process_webhook)           # in the request, in the tenant

    @actor(queue_name="webhooks", transactional=True, unique="event_id")
    def process_webhook(event_id: UUID) -> dict[str, str]:
        return process(event_id, _act)

    process_webhook.failed(note_failure)

The rows are cleaned up by the library (`clean_up_webhook_events`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.context import current
from shared.db import new_id, unit_of_work
from shared.jobs.actor import Actor
from shared.jobs.verdict import Verdict

__all__ = ["keep", "note_failure", "process"]

_KEEP: Final = """
INSERT INTO webhook_events (id, tenant_id, provider, event_key, body)
VALUES (:id, :tenant, :provider, :key, CAST(:body AS jsonb))
ON CONFLICT (tenant_id, provider, event_key) DO NOTHING RETURNING id
"""
_READ: Final = "SELECT body, state FROM webhook_events WHERE id = :id FOR UPDATE"
_DONE: Final = """
UPDATE webhook_events SET state = 'processed', outcome = :outcome, processed_at = clock_timestamp() WHERE id = :id
"""
_FAILED: Final = """
UPDATE webhook_events SET state = 'failed', outcome = :outcome, processed_at = clock_timestamp()
WHERE id = :id AND state = 'received'
"""


def keep(session: Session, provider: str, key: str, body: bytes, job: Actor[Any, Any]) -> None:
    """Keep a webhook of the current tenant and send its job; one whose key is known already changes nothing.

    `body` is JSON that the caller has read.
    """
    values = {"id": new_id(), "tenant": current().tenant_id, "provider": provider, "key": key}
    new = session.execute(text(_KEEP), {**values, "body": json.dumps(json.loads(body))}).scalar()
    if new is not None:
        job.send(event_id=new)


def process(event_id: UUID, act: Callable[[Session, dict[str, Any]], str]) -> dict[str, str]:
    """Have `act` do what the body says, in the transaction that notes the outcome it returns; once.

    One that failed before is processed when its job is retried.
    """
    with unit_of_work() as session:
        row = session.execute(text(_READ), {"id": event_id}).one_or_none()
        if row is None or row.state == "processed":
            return {"outcome": "processed_before"}
        outcome = act(session, row.body)
        session.execute(text(_DONE), {"id": event_id, "outcome": outcome})
    return {"outcome": outcome}


def note_failure(verdict: Verdict, event_id: UUID) -> None:
    """Note in its row that a webhook could not be processed; the `failed` hook of its job."""
    with unit_of_work() as session:
        session.execute(text(_FAILED), {"id": event_id, "outcome": verdict.code})
