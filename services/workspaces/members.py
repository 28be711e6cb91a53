"""Who is who in a workspace: inviting, changing, disabling, and telling others, all in one transaction."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.workspaces import links
from services.workspaces.audit import audit
from services.workspaces.models import Member, Workspace
from services.workspaces.plans import plan_of
from shared.context import current
from shared.db import new_id
from shared.events import publish
from shared.events.contracts.workspaces import MemberChanged

__all__ = [
    "EMAIL",
    "MemberExists",
    "PlanLimitReached",
    "activate",
    "change",
    "enable",
    "invite",
    "is_email",
    "need_room",
    "new_member",
    "send_invitation",
    "tell_member",
]

EMAIL: Final = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}$"
"""Addresses that mail servers take and that mean nothing in a header of a mail (HTML's definition, with a dot)."""


class MemberExists(Exception):
    """The workspace has a member with this address."""


class PlanLimitReached(Exception):
    """The workspace has as many members as its plan allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the plan allows {limit} members")
        self.limit = limit


def is_email(text: str) -> bool:
    """Tell whether a text is an address to which we send mail."""
    return len(text) <= 254 and re.fullmatch(EMAIL, text) is not None


def new_member(session: Session, *, email: str, name: str, role: str) -> Member:
    """Enter a member who has not signed in yet, and tell others. Raises MemberExists."""
    if session.scalar(select(Member.id).where(func.lower(Member.email) == email.lower())) is not None:
        raise MemberExists(email)
    member = Member(id=new_id(), email=email, name=name, role=role, status="invited", version=1)
    session.add(member)
    session.flush()
    tell_member(session, member)
    return member


def invite(session: Session, *, email: str, name: str, role: str) -> Member:
    """Enter a member and mail an invitation. Raises MemberExists and PlanLimitReached."""
    need_room(session)
    member = new_member(session, email=email, name=name, role=role)
    send_invitation(session, member)
    return member


def send_invitation(session: Session, member: Member) -> None:
    """Mail an invitation; the one before is of no more use."""
    links.issue(session, member, "invitation", invited_by=_name_of_principal(session))
    audit(session, "member.invited", f"member:{member.id}", email=member.email, role=member.role)


def need_room(session: Session) -> None:
    """Go on only while the plan allows another member; until the commit nobody else takes that place.

    Raises PlanLimitReached.
    """
    workspace = session.scalars(select(Workspace).with_for_update(key_share=True)).one()
    count = session.scalar(select(func.count()).select_from(Member).where(Member.status != "disabled")) or 0
    limit = plan_of(workspace.plan).members
    if count >= limit:
        raise PlanLimitReached(limit)


def activate(session: Session, member: Member) -> None:
    """Note that a member has come in for the first time. Its invitation is of no more use."""
    links.revoke_links(session, member.id, "invitation")
    change(session, member, status="active", joined_at=datetime.now(UTC))
    audit(session, "member.activated", f"member:{member.id}")


def enable(session: Session, member: Member) -> None:
    """Make a disabled member what it was. Raises PlanLimitReached."""
    need_room(session)
    change(session, member, status="active" if member.joined_at is not None else "invited")
    audit(session, "member.enabled", f"member:{member.id}")


def change(session: Session, member: Member, **values: Any) -> None:
    """Change a member, and tell others."""
    for name, value in values.items():
        setattr(member, name, value)
    member.version += 1
    member.updated_at = datetime.now(UTC)
    session.flush()
    tell_member(session, member)


def tell_member(session: Session, member: Member) -> None:
    """Publish what a member is now."""
    event = MemberChanged(
        member_id=member.id,
        email=member.email,
        name=member.name,
        role=member.role,  # type: ignore[arg-type]
        status=member.status,  # type: ignore[arg-type]
    )
    publish(session, event, subject=member.id, sequence=member.version)


def _name_of_principal(session: Session) -> str:
    """The name of who invites; none for a program, or for somebody whom we do not know."""
    kind, _, member_id = (current().principal or "").partition(":")
    try:
        member = session.get(Member, UUID(member_id)) if kind == "user" else None
    except ValueError:
        member = None
    return member.name if member is not None else ""
