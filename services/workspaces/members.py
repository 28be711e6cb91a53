"""Telling others who is who, in the transaction in which it changes."""

from __future__ import annotations

from sqlalchemy.orm import Session

from services.workspaces.models import Member
from shared.events import publish
from shared.events.contracts.workspaces import MemberChanged

__all__ = ["tell_member"]


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
