"""What goes when a workspace is archived: whatever lets its people and programs in."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from services.workspaces.api_keys import revoke_key
from services.workspaces.models import ApiKey, Link, UserSession

__all__ = ["destroy_credentials"]


def destroy_credentials(session: Session) -> int:
    """End the sessions of the tenant, and revoke its links and API keys; return how many there were.

    That an archived workspace is refused everywhere does not depend on it; a restored one begins with new ones.
    """
    now = func.clock_timestamp()
    unused = update(Link).where(Link.used_at.is_(None), Link.revoked_at.is_(None))
    live = update(UserSession).where(UserSession.ended_at.is_(None))
    gone = [
        *session.scalars(unused.values(revoked_at=now).returning(Link.id)),
        *session.scalars(live.values(ended_at=now, ended_because="archived").returning(UserSession.id)),
    ]
    keys = session.scalars(select(ApiKey).where(ApiKey.revoked_at.is_(None))).all()
    for key in keys:
        revoke_key(session, key)
    return len(gone) + len(keys)
