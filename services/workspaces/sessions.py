"""Sessions: a member who is signed in, for as long as its refresh token is used again in time.

A refresh token has two halves, each of 256 random bits. The first stays for the life of the session and says which
one it is; the second is another one at each use. A first half that is known with a second one that is not: somebody
has kept a token that was used before, so that there are two who have it, and the session ends for both.

A member is locked before its links and sessions, here as in `members`: whoever is let in was not disabled meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from services.workspaces import links
from services.workspaces.audit import audit
from services.workspaces.credentials import REFRESH, hash_of, new_secret, revoke, written
from services.workspaces.keys import access_token
from services.workspaces.members import activate
from services.workspaces.models import Member, UserSession, Workspace
from services.workspaces.settings import settings
from shared.context import current, use
from shared.telemetry import get_logger

__all__ = ["Admission", "end", "end_all", "is_live", "lets_in", "may_sign_in", "refresh", "sign_in"]

log = get_logger(__name__)

Reason = Literal["signed_out", "reused", "refused", "disabled", "archived"]

_SEPARATOR: Final = "."  # none of the characters of a secret


@dataclass(frozen=True, slots=True)
class Admission:
    """What somebody gets who is let in."""

    session: UserSession
    member: Member
    access_token: str
    refresh_token: str


def may_sign_in(workspace: Workspace, member: Member) -> bool:
    """Tell whether a member is let in: not when disabled, and as far as the workspace's state allows it."""
    return member.status != "disabled" and lets_in(workspace.state, member.role)


def lets_in(state: str, role: str) -> bool:
    """Tell whether a workspace in this state lets a role in at all."""
    return state != "archived" and (state != "suspended" or role == "owner")


def sign_in(session: Session, token: str, user_agent: str) -> Admission | None:
    """Use a link up and begin a session; None for a link that is not good, or for somebody who may not."""
    member_id = links.whose(session, token)
    if member_id is None:
        return None
    member = session.get_one(Member, member_id, with_for_update={"key_share": True})
    if not may_sign_in(session.scalars(select(Workspace)).one(), member):
        return None
    if links.consume(session, token, "sign_in", "invitation") is None:
        return None
    with use(principal=f"user:{member.id}", role=member.role):
        if member.status == "invited":
            activate(session, member)
        family, secret = new_secret(), new_secret()
        begun = UserSession(
            member_id=member.id,
            family_hash=hash_of(family),
            refresh_hash=hash_of(secret),
            user_agent=user_agent,
            last_used_at=func.clock_timestamp(),
            expires_at=func.clock_timestamp() + _idle(),
        )
        session.add(begun)
        session.flush()
        audit(session, "session.started", f"session:{begun.id}", member_id=str(member.id))
        return _admit(session, begun, member, family, secret)


def refresh(session: Session, token: str) -> Admission | None:
    """Exchange the secret of a refresh token for new tokens; None for one that is not good.

    One that was used before ends its session, therefore the unit of work must be committed in any case.
    """
    family, _, used = token.partition(_SEPARATOR)
    secret = new_secret()
    known = UserSession.family_hash == hash_of(family)
    member_id = session.scalar(select(UserSession.member_id).where(known, is_live()))
    if member_id is None:
        return None
    member = session.get_one(Member, member_id, with_for_update={"read": True})
    found = session.scalar(
        update(UserSession)
        .where(known, UserSession.refresh_hash == hash_of(used), is_live())
        .values(
            refresh_hash=hash_of(secret),
            last_used_at=func.clock_timestamp(),
            expires_at=func.clock_timestamp() + _idle(),
        )
        .returning(UserSession)
    )
    if found is None:
        stolen = session.scalar(select(UserSession).where(known, is_live()).with_for_update(key_share=True))
        if stolen is not None:
            log.warning("refresh_token_reused", reused_session=str(stolen.id), member_id=str(stolen.member_id))
            end(session, stolen, "reused")
        return None
    if not may_sign_in(session.scalars(select(Workspace)).one(), member):
        end(session, found, "refused")
        return None
    return _admit(session, found, member, family, secret)


def end(session: Session, ended: UserSession, reason: Reason) -> None:
    """End a session, and have every service refuse its access tokens."""
    ended.ended_at, ended.ended_because = datetime.now(UTC), reason
    revoke(session, "session", ended.id)
    audit(session, "session.ended", f"session:{ended.id}", because=reason, member_id=str(ended.member_id))


def end_all(session: Session, member_id: UUID, reason: Reason) -> None:
    """End every session of a member, and have every service refuse its access tokens."""
    revoke(session, "member", member_id)
    session.execute(
        update(UserSession)
        .where(UserSession.member_id == member_id, UserSession.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp(), ended_because=reason)
    )


def is_live() -> ColumnElement[bool]:
    """The condition under which a session is still good."""
    return UserSession.ended_at.is_(None) & (UserSession.expires_at > func.clock_timestamp())


def _idle() -> timedelta:
    return timedelta(days=settings().session_days)


def _admit(session: Session, row: UserSession, member: Member, family: str, secret: str) -> Admission:
    principal, seconds = f"user:{member.id}", settings().access_seconds
    access = access_token(session, principal, member.role, session_id=row.id, seconds=seconds)
    tenant_id = current().tenant_id or ""
    return Admission(row, member, access, written(REFRESH, tenant_id, f"{family}{_SEPARATOR}{secret}"))
