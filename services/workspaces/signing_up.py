"""Making a workspace with its owner, and telling others; a name that nobody came to use goes to the next who asks.

Signing up asks for nothing but a name and an address, so that anybody could take a name away from those whose it is.
Therefore it is theirs for good only when somebody has signed in; before that, it is kept for `RESERVED`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.workspaces import keys, links, members
from services.workspaces.audit import audit
from services.workspaces.jobs import rotate_signing_keys
from services.workspaces.lifecycle.models import Subscription
from services.workspaces.models import Member, Workspace
from services.workspaces.plans import PlanName, limits_of
from shared.context import use
from shared.db import new_id, unit_of_work
from shared.events import publish
from shared.events.contracts.workspaces import PlanChanged, WorkspaceCreated

__all__ = ["make_workspace"]

RESERVED: Final = timedelta(days=7)
"""For so long a name is kept for somebody who has not signed in yet."""


class Wanted(Protocol):
    """What somebody asks for who signs up."""

    name: str
    email: str
    owner_name: str
    plan: PlanName
    time_zone: str


def make_workspace(subdomain: str, wanted: Wanted) -> Workspace | None:
    """Make a workspace with its owner, mail a link, and tell others; None where the subdomain is taken."""
    with use(tenant_id=subdomain), unit_of_work() as session:
        statement = insert(Workspace).values(
            id=new_id(), tenant_id=subdomain, name=wanted.name, plan=wanted.plan, time_zone=wanted.time_zone
        )
        workspace = session.scalar(
            statement.values(state="active", version=1).on_conflict_do_nothing().returning(Workspace)
        )
        if workspace is not None:
            owner = members.new_member(session, email=wanted.email, name=wanted.owner_name, role="owner")
        elif (unused := _unused(session)) is not None:
            workspace, owner = unused
            _hand_over(session, workspace, owner, wanted)
        else:
            return None
        if not keys.any_key(session):  # the very first workspace; the schedule would come later
            rotate_signing_keys.send()
        made = WorkspaceCreated(
            name=workspace.name, plan=workspace.plan, owner_id=owner.id, time_zone=workspace.time_zone
        )
        publish(session, made, subject=workspace.id, sequence=workspace.version)
        plan = PlanChanged(plan=workspace.plan, limits=limits_of(workspace.plan))
        publish(session, plan, subject=workspace.id, sequence=workspace.version)
        links.issue(session, owner, "sign_in")
        audit(session, "workspace.created", f"workspace:{workspace.id}", owner_id=str(owner.id), plan=workspace.plan)
        return workspace


def _unused(session: Session) -> tuple[Workspace, Member] | None:
    """Return the workspace and its owner, locked, if nobody came in or paid for it while it was kept for them."""
    workspace = session.scalar(
        select(Workspace)
        .where(
            Workspace.updated_at < datetime.now(UTC) - RESERVED,
            Workspace.state == "active",
            ~exists(select(Subscription.id)),
        )
        .with_for_update()
    )
    # Who is just coming in has this row; then it is found no more.
    owner = session.scalar(select(Member).where(Member.role == "owner", Member.joined_at.is_(None)).with_for_update())
    return (workspace, owner) if workspace is not None and owner is not None else None


def _hand_over(session: Session, workspace: Workspace, owner: Member, wanted: Wanted) -> None:
    """Make an unused workspace what somebody else wants; links to the one before are of no more use."""
    links.revoke_links(session, owner.id)
    members.change(session, owner, email=wanted.email, name=wanted.owner_name)
    workspace.name, workspace.plan, workspace.time_zone = wanted.name, wanted.plan, wanted.time_zone
    # Whoever knows the name's first workspace must see that this is something newer.
    workspace.version += 1
    workspace.updated_at = datetime.now(UTC)
    audit(session, "workspace.handed_over", f"workspace:{workspace.id}")
    session.flush()
