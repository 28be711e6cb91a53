"""What lets somebody in: made here, kept as a hash alone, and told of when it does no longer.

A refresh token is `br_<workspace>_<secret>`, an API key `bk_<workspace>_<secret>`: whoever has one need not say
whose it is, and a leaked one is recognized. The secrets are random, so a plain hash of them gives nothing away.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from sqlalchemy.orm import Session

from services.workspaces.names import is_subdomain
from services.workspaces.settings import settings
from shared.events import publish
from shared.events.contracts.workspaces import CredentialRevoked

__all__ = ["API_KEY", "REFRESH", "hash_of", "new_secret", "revoke", "split", "written"]

API_KEY: Final = "bk"
REFRESH: Final = "br"

_CLOCKS: Final = timedelta(seconds=30)
"""How far clocks may be apart, and more: for so long after its last token has expired a credential is remembered."""


def new_secret() -> str:
    """Return 256 random bits that need no escaping."""
    return secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def written(kind: str, tenant_id: str, secret: str) -> str:
    """Return a secret as it is given away."""
    return f"{kind}_{tenant_id}_{secret}"


def split(kind: str, text: str) -> tuple[str, str] | None:
    """Return workspace and secret of what was given away, None if it is nothing of this kind."""
    prefix, _, rest = text.partition("_")
    tenant_id, _, secret = rest.partition("_")
    # No name that is reserved may come from outside: work of the tenant "system" sees all others.
    return (tenant_id, secret) if prefix == kind and secret and is_subdomain(tenant_id) else None


def revoke(session: Session, kind: Literal["session", "api_key", "member"], credential_id: UUID) -> None:
    """Have every service refuse the access tokens that were issued for it until now."""
    now = datetime.now(UTC)
    forget_at = now + timedelta(seconds=settings().access_seconds) + _CLOCKS
    event = CredentialRevoked(kind=kind, credential_id=credential_id, revoked_at=now, forget_at=forget_at)
    publish(session, event, subject=credential_id)
