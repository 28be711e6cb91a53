"""Bringing an archived workspace back: for operators alone.

backroom jobs send --service workspaces --tenant acme restore_workspace
"""

from __future__ import annotations

from datetime import UTC, datetime

from services.workspaces.jobs.billing import ask_paddle, take_over
from services.workspaces.lifecycle import cancellations, subscriptions
from shared.jobs import Skip, actor, completion

__all__ = ["restore_workspace"]


@actor(queue_name="billing", unique=(), subject="Restore the workspace", time_limit=120, standing="any")
def restore_workspace() -> None:
    """Make an archived workspace active if it is paid for, else canceled as of today, with all steps ahead of it."""
    seen = ask_paddle()
    result: dict[str, str] = {}
    with completion(result) as session:
        take_over(session, seen)
        workspace = cancellations.lock_workspace(session)
        if workspace is None or workspace.state != "archived":
            raise Skip("not_archived")
        if subscriptions.is_paid_for(session):
            cancellations.change_state(session, workspace, "active", "operator", None, datetime.now(UTC))
        else:
            cancellations.begin(session, workspace, datetime.now(UTC), "operator")
        result["state"] = workspace.state
