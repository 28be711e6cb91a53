"""Links that let a member in: 256 random bits that are in a mail alone, good once and for minutes.

A link belongs to a member, a purpose and a workspace; a new one revokes the one before. It is consumed by one
statement, so that of many who click at once one is let in.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from services.workspaces.credentials import hash_of, new_secret
from services.workspaces.models import Link, Member, Workspace
from services.workspaces.settings import settings
from shared.context import current
from shared.db import new_id
from shared.events import publish
from shared.events.contracts.workspaces import LinkIssued
from shared.outbound import vault

__all__ = ["URL", "consume", "issue", "revoke_links", "whose"]

Purpose = Literal["sign_in", "invitation"]

URL: Final = "link.url"
"""The purpose for which a link is sealed on its way to whoever mails it."""


def issue(session: Session, member: Member, purpose: Purpose, *, invited_by: str = "") -> None:
    """Make a link and have it mailed to the member."""
    # One after the other: the second revokes what the first made.
    session.execute(select(Member.id).where(Member.id == member.id).with_for_update(key_share=True))
    revoke_links(session, member.id, purpose)
    token, tenant_id = new_secret(), current().tenant_id or ""
    now = datetime.now(UTC)
    expires_at = now + _good_for(purpose)
    link = Link(id=new_id(), member_id=member.id, purpose=purpose, token_hash=hash_of(token), expires_at=expires_at)
    session.add(link)
    # Behind the #, where neither servers nor proxies see it.
    url = f"{settings().console_url.rstrip('/')}/sign-in#token={token}&workspace={quote(tenant_id, safe='')}"
    event = LinkIssued(
        link_id=link.id,
        purpose=purpose,
        member_id=member.id,
        email=member.email,
        name=member.name,
        workspace_name=session.scalars(select(Workspace.name)).one(),
        url_sealed=vault.seal(tenant_id, URL, url),
        expires_at=expires_at,
        invited_by=invited_by,
    )
    publish(session, event, subject=link.id)


def consume(session: Session, token: str, *purposes: Purpose) -> UUID | None:
    """Use a link up; return whose it was, None for one that is used, expired, revoked, for another purpose or none."""
    return session.scalar(
        update(Link)
        .where(
            Link.token_hash == hash_of(token),
            Link.purpose.in_(purposes),
            Link.used_at.is_(None),
            Link.revoked_at.is_(None),
            Link.expires_at > func.clock_timestamp(),
        )
        .values(used_at=func.clock_timestamp())
        .returning(Link.member_id)
    )


def whose(session: Session, token: str) -> UUID | None:
    """Return whose a link is, good or not."""
    return session.scalar(select(Link.member_id).where(Link.token_hash == hash_of(token)))


def revoke_links(session: Session, member_id: UUID, *purposes: Purpose) -> None:
    """Make a member's links that are still good useless; of these purposes, or all."""
    statement = update(Link).where(Link.member_id == member_id, Link.used_at.is_(None), Link.revoked_at.is_(None))
    if purposes:
        statement = statement.where(Link.purpose.in_(purposes))
    session.execute(statement.values(revoked_at=func.clock_timestamp()))


def _good_for(purpose: Purpose) -> timedelta:
    if purpose == "invitation":
        return timedelta(days=settings().invitation_days)
    return timedelta(minutes=settings().link_minutes)
