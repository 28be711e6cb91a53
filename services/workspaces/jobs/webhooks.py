"""What Paddle's webhooks lead to. Processed as a job, from the row in which the request left them."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.workspaces.lifecycle import cancellations, subscriptions
from services.workspaces.lifecycle.paddle_objects import Unreadable, parse_event
from shared.db import unit_of_work
from shared.jobs import GiveUp, actor
from shared.jobs.verdict import Verdict

__all__ = ["process_webhook"]

_READ = "SELECT body, state FROM webhook_events WHERE id = :id FOR UPDATE"
_DONE = """
UPDATE webhook_events SET state = 'processed', outcome = :outcome, processed_at = clock_timestamp() WHERE id = :id
"""
_FAILED = """
UPDATE webhook_events SET state = 'failed', outcome = :outcome, processed_at = clock_timestamp()
WHERE id = :id AND state = 'received'
"""


@actor(queue_name="webhooks", transactional=True, unique="event_id", subject="Message from Paddle")
def process_webhook(event_id: UUID) -> dict[str, str]:
    """Process one webhook; says in the job's result what it led to.

    Fails where somebody pays for a workspace that is archived: that is for a person, see `restore_workspace`.
    """
    with unit_of_work() as session:
        row = session.execute(text(_READ), {"id": event_id}).one_or_none()
        if row is None or row.state == "processed":
            return {"outcome": "processed_before"}
        outcome = _act(session, row.body)
        session.execute(text(_DONE), {"id": event_id, "outcome": outcome})
    return {"outcome": outcome}


@process_webhook.failed
def _failed(verdict: Verdict, event_id: UUID) -> None:
    with unit_of_work() as session:
        session.execute(text(_FAILED), {"id": event_id, "outcome": verdict.code})


def _act(session: Session, body: dict[str, object]) -> str:
    try:
        event = parse_event(body)
        seen = event.subscription()
    except Unreadable as error:
        raise GiveUp("billing_unreadable", str(error)) from error
    workspace = cancellations.lock_workspace(session)
    if workspace is None:
        return "no_workspace"
    if not subscriptions.note(session, seen, event.occurred_at):
        return "not_newer"
    outcome = subscriptions.settle(session, workspace)
    if outcome == "archived":
        raise GiveUp("workspace_archived")
    return outcome
