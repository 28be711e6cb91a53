"""Leave to turn one kind of mail off for one member, for whoever has a mail that was sent to it (RFC 8058).

The token says whom and what, sealed for its tenant: nobody can read or make one. It holds for as long as the key
that sealed it is among ours.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from services.notifications.mail.models import CHOSEN
from services.notifications.settings import settings
from shared.outbound import vault

__all__ = ["BadToken", "Leave", "read", "url"]

_PURPOSE: Final = "mail.unsubscribe"


@dataclass(frozen=True, slots=True)
class Leave:
    """Which kind of mail to turn off, and for whom."""

    tenant_id: str
    member_id: uuid.UUID
    kind: str


class BadToken(ValueError):
    """The token is none of ours."""


def url(tenant_id: str, member_id: uuid.UUID, kind: str) -> str:
    """Return where one click ends this kind of mail to this member."""
    sealed = vault.seal(tenant_id, _PURPOSE, json.dumps([str(member_id), kind]))
    query = urlencode({"token": f"{tenant_id}/{sealed}"})
    return f"{settings().public_url.rstrip('/')}/v1/unsubscribe?{query}"


def read(token: str) -> Leave:
    """Return what a token allows. Raises BadToken."""
    tenant_id, _, sealed = token.partition("/")
    try:
        member_id, kind = json.loads(vault.open_(tenant_id, _PURPOSE, sealed))
        leave = Leave(tenant_id, uuid.UUID(member_id), kind)
    except (vault.VaultError, ValueError):
        raise BadToken from None
    if leave.kind not in CHOSEN:
        raise BadToken
    return leave
