"""What Paddle's webhooks lead to. Processed as a job, from the row in which the request left them."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from services.workspaces.lifecycle import cancellations, subscriptions
from services.workspaces.lifecycle.paddle_objects import Unreadable, parse_event
from shared.jobs import GiveUp, actor
from shared.jobs.webhooks import note_failure, process

__all__ = ["process_webhook"]


@actor(queue_name="webhooks", transactional=True, unique="event_id", subject="Message from Paddle")
def process_webhook(event_id: UUID) -> dict[str, str]:
    """Process one webhook; says in the job's result what it led to.

    Fails where somebody pays for a workspace that is archived: that is for a person, see `restore_workspace`.
    """
    return process(event_id, _act)


process_webhook.failed(note_failure)


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
