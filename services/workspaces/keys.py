"""The keys that sign access tokens: made, published, used and forgotten by a schedule.

A key is published an hour before it signs, so that every service knows it by then, and for as long afterwards as
its tokens are good. Its private half is sealed; a process that serves requests opens it, and can make none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from services.workspaces.models import SIGNING_KEY, SigningKey
from services.workspaces.names import PUBLIC
from services.workspaces.settings import settings
from shared.context import SYSTEM, current, use
from shared.db import unit_of_work
from shared.outbound import vault
from shared.telemetry import get_logger
from shared.web import Signer
from shared.web.problems import Unavailable

__all__ = ["access_token", "any_key", "jwks", "rotate"]

log = get_logger(__name__)

_AHEAD: Final = timedelta(hours=1)
_KEPT: Final = timedelta(hours=1)
"""Longer than any access token is good (`access_seconds`)."""

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('workspaces.signing_keys'))"


def jwks() -> dict[str, Any]:
    """Return the public keys that verify access tokens, as a JSON Web Key Set."""
    with use(tenant_id=PUBLIC), unit_of_work() as session:
        return {"keys": list(session.scalars(select(SigningKey.public).order_by(SigningKey.signs_from)))}


def any_key(session: Session) -> bool:
    """Tell whether there is a key at all."""
    return session.scalar(select(func.count()).select_from(SigningKey)) != 0


def access_token(
    session: Session,
    principal: str,
    role: str,
    *,
    session_id: UUID,
    seconds: float,
    scopes: Iterable[str] | None = None,
) -> str:
    """Return an access token for the current tenant. Raises Unavailable before there is a key."""
    sealed = session.scalar(
        select(SigningKey.private_sealed)
        .where(SigningKey.signs_from <= func.clock_timestamp())
        .order_by(SigningKey.signs_from.desc())
        .limit(1)
    )
    if sealed is None:
        raise Unavailable("The key that signs is being made.", retry_after=5)
    tenant_id = current().tenant_id or ""
    return _signer(sealed).issue(tenant_id, principal, role, seconds, session_id=str(session_id), scopes=scopes)


@lru_cache(maxsize=4)
def _signer(sealed: str) -> Signer:
    return Signer(json.loads(vault.open_(SYSTEM, SIGNING_KEY, sealed)))


def rotate(session: Session, now: datetime | None = None) -> dict[str, int]:
    """Make the key that comes next where it is time, and forget those of which no token is good any more.

    `session` sees all tenants. Doing it twice is the same as once.
    """
    now = now or datetime.now(UTC)
    session.execute(text(_LOCK))
    keys = session.scalars(select(SigningKey).order_by(SigningKey.signs_from)).all()
    made = 0
    if not keys:
        _make(session, now)
        made = 1
    else:
        due = keys[-1].signs_from + timedelta(days=settings().signing_key_days)
        if due <= now + _AHEAD:
            _make(session, max(due, now + _AHEAD))
            made = 1
    # A key is over when the one after it has signed for as long as tokens are good.
    over = [key.id for key, successor in pairwise(keys) if successor.signs_from + _KEPT < now]
    session.execute(delete(SigningKey).where(SigningKey.id.in_(over)))
    return {"made": made, "forgotten": len(over)}


def _make(session: Session, signs_from: datetime) -> None:
    signer = Signer()
    sealed = vault.seal(SYSTEM, SIGNING_KEY, json.dumps(signer.private_jwk()))
    public = signer.jwks()["keys"][0]
    session.add(
        SigningKey(id=signer.key_id, tenant_id=SYSTEM, public=public, private_sealed=sealed, signs_from=signs_from)
    )
    log.info("signing_key_made", kid=signer.key_id, signs_from=signs_from.isoformat())
