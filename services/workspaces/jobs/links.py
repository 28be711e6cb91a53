"""Links that somebody asked for by an address: whether there is such a member is found out here, not in the request.

The look over all workspaces is one job, and each link another one, in the member's own workspace: so a link is
issued once, however often the first is run.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import text

from services.workspaces import links
from services.workspaces.models import Member, Workspace
from services.workspaces.sessions import may_sign_in
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.jobs import Priority, Skip, actor, current_job, enqueue_many

__all__ = ["find_members", "issue_link"]

_MOST: Final = 50
"""Workspaces of one address to which links are mailed at a time."""

_FIND: Final = """
SELECT tenant_id, id FROM members
WHERE lower(email) = lower(:email) AND status <> 'disabled'
  AND (CAST(:workspace AS text) IS NULL OR tenant_id = :workspace)
ORDER BY created_at DESC LIMIT :most
"""


@actor(priority=Priority.URGENT, subject="Look for whoever wants to sign in")
def find_members(email: str, workspace: str | None = None) -> dict[str, int]:
    """Have a link mailed to every member with this address; in one workspace, or in all."""
    job_id = current_job().id
    with use(tenant_id=SYSTEM), unit_of_work(system=True) as session:
        found = session.execute(text(_FIND), {"email": email, "workspace": workspace, "most": _MOST}).all()
        for row in found:
            once = [f"link:{job_id}:{row.id}"]
            enqueue_many(issue_link, [{"member_id": row.id}], tenant_id=row.tenant_id, once_keys=once)
    return {"members": len(found)}


@actor(priority=Priority.URGENT, transactional=True, unique="member_id", subject="Link to sign in")
def issue_link(member_id: UUID) -> None:
    """Make a link to sign in and have it mailed; not to who may not."""
    with unit_of_work() as session:
        member = session.get(Member, member_id)
        if member is None or not may_sign_in(session.query(Workspace).one(), member):
            raise Skip("may_not_sign_in")
        links.issue(session, member, "sign_in")
