"""API keys: made for programs, exchanged for access tokens, revoked."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from services.workspaces.audit import audit
from services.workspaces.credentials import API_KEY, hash_of, new_secret, revoke, written
from services.workspaces.keys import access_token
from services.workspaces.models import ApiKey, Workspace
from services.workspaces.sessions import lets_in
from services.workspaces.settings import settings
from shared.context import current
from shared.db import new_id

__all__ = ["exchange", "make", "revoke_key"]


def make(session: Session, name: str, role: str, scopes: list[str], expires_at: datetime | None) -> tuple[ApiKey, str]:
    """Return a new key, and its secret, which is shown this once."""
    secret = new_secret()
    key = ApiKey(
        id=new_id(),
        name=name,
        role=role,
        scopes=scopes,
        secret_hash=hash_of(secret),
        hint=secret[-4:],
        created_by=current().principal or "",
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    audit(session, "api_key.made", f"api_key:{key.id}", name=name, role=role, scopes=scopes)
    return key, written(API_KEY, current().tenant_id or "", secret)


def exchange(session: Session, secret: str) -> tuple[str, int] | None:
    """Return an access token and for how many seconds it is good; None for a key that is not good."""
    now = func.clock_timestamp()
    key = session.scalar(
        update(ApiKey)
        .where(
            ApiKey.secret_hash == hash_of(secret),
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
        )
        .values(last_used_at=now)
        .returning(ApiKey)
    )
    if key is None or not lets_in(session.scalars(select(Workspace.state)).one(), key.role):
        return None
    seconds = settings().access_seconds
    if key.expires_at is not None:
        seconds = min(seconds, max(1, int((key.expires_at - datetime.now(UTC)).total_seconds())))
    principal = f"key:{key.id}"
    token = access_token(session, principal, key.role, session_id=key.id, seconds=seconds, scopes=key.scopes)
    return token, seconds


def revoke_key(session: Session, key: ApiKey) -> None:
    """Let a key in no more, and have every service refuse its access tokens."""
    key.revoked_at = datetime.now(UTC)
    revoke(session, "api_key", key.id)
    audit(session, "api_key.revoked", f"api_key:{key.id}", name=key.name)
