"""What workspaces tells: who is who, what is to be mailed to whom, and when it is morning."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import insert

from services.notifications import mail
from services.notifications.mail.models import Workspace
from services.notifications.models import Member
from services.notifications.mornings import local_day
from services.notifications.tables import Morning
from shared.db import unit_of_work
from shared.events.contracts.workspaces import (
    LinkIssued,
    MemberChanged,
    WinbackDue,
    WorkspaceChanged,
    WorkspaceCreated,
)
from shared.jobs import Event, Priority, handler

__all__ = ["mail_link", "mail_winback", "note_changed_workspace", "note_member", "note_workspace"]


@handler(MemberChanged)
def note_member(event: Event[MemberChanged]) -> None:
    """Keep what a member is now."""
    fields = {**event.data.model_dump(exclude={"member_id"}), "sequence": event.sequence or 0}
    statement = insert(Member).values(tenant_id=event.tenant_id, id=event.data.member_id, **fields)
    with unit_of_work() as session:
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant_id", "id"],
                set_={name: statement.excluded[name] for name in fields},
                where=Member.sequence < statement.excluded.sequence,
            )
        )


@handler(WorkspaceCreated)
def note_workspace(event: Event[WorkspaceCreated]) -> None:
    """Keep in whose name mails are written, and when it is morning; the first morning is that of the next day."""
    _keep(event)


@handler(WorkspaceChanged)
def note_changed_workspace(event: Event[WorkspaceChanged]) -> None:
    """Keep the name and the time zone that a workspace has now."""
    _keep(event)


def _keep(event: Event[WorkspaceCreated] | Event[WorkspaceChanged]) -> None:
    name, zone = event.data.name, event.data.time_zone
    fields = {"name": name, "sequence": event.sequence or 0}
    workspace = insert(Workspace).values(tenant_id=event.tenant_id, **fields)
    newer = Workspace.sequence < workspace.excluded.sequence
    workspace = workspace.on_conflict_do_update(index_elements=["tenant_id"], set_=fields, where=newer)
    morning = insert(Morning).values(tenant_id=event.tenant_id, time_zone=zone, told_on=local_day(zone, event.time))
    with unit_of_work() as session:
        if session.scalar(workspace.returning(Workspace.tenant_id)) is not None:
            session.execute(morning.on_conflict_do_update(index_elements=["tenant_id"], set_={"time_zone": zone}))


@handler(LinkIssued, priority=Priority.URGENT)
def mail_link(event: Event[LinkIssued]) -> None:
    """Mail a link to whom it lets in, for as long as it does."""
    link = event.data
    with unit_of_work() as session:
        mail.queue(
            session,
            link.purpose,
            mail.Address(link.email, link.name, member_id=link.member_id),
            {
                "workspace_name": link.workspace_name,
                "url_sealed": link.url_sealed,
                "expires_at": link.expires_at.isoformat(),
                "invited_by": link.invited_by,
            },
            dedupe_key=f"link:{link.link_id}",
            kind="sign_in",
            expires_at=link.expires_at,
        )


@handler(WinbackDue)
def mail_winback(event: Event[WinbackDue]) -> None:
    """Ask the owner of a cancelled workspace back."""
    due = event.data
    with unit_of_work() as session:
        mail.queue(
            session,
            due.step,
            mail.Address(due.email, due.name, member_id=due.owner_id),
            {"workspace_name": due.workspace_name, "freezes_at": due.freezes_at.isoformat()},
            dedupe_key=f"cancel:{due.cancellation_id}:{due.step}",
            kind="billing",
        )
