"""Is a feed genuine? Who it claims to be of, and whether it is signed with a secret of theirs.

A feed is sent with the header

    Backroom-Signature: t=<unix seconds>,v1=<hex>

hex being the HMAC-SHA256, with the connection's secret, of the bytes `<t>.PUT /v1/erp/<key id>/<entity>\\n<body>`.
Method, path, time and body are all in it, so that none can be exchanged for another. The key id carries the name of
its tenant: a request without a token must find the tenant before it can read any row, and looks into no other's.

Pure functions, but for the making of new keys and secrets.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from shared.context import SYSTEM
from shared.web.signatures import verify_hmac_timestamped

__all__ = [
    "SIGNATURE_HEADER",
    "digest_of",
    "is_genuine",
    "new_key_id",
    "new_secret",
    "path_of",
    "sign",
    "tenant_of",
]

SIGNATURE_HEADER: Final = "Backroom-Signature"
_NOBODYS: Final = "a secret that nobody has"
_KEY_ID: Final = re.compile(r"(?P<tenant>[A-Za-z0-9_-]{1,400})\.[0-9a-f]{20}")
_MOMENT: Final = re.compile(r"(?:^|,)\s*t=([0-9]{1,12})(?:,|$)")


def new_key_id(tenant_id: str) -> str:
    """Return a name for a connection that no other has, from which its tenant can be read."""
    return f"{base64.urlsafe_b64encode(tenant_id.encode()).decode().rstrip('=')}.{secrets.token_hex(10)}"


def new_secret() -> str:
    """Return 256 random bits as text."""
    return f"erps_{secrets.token_urlsafe(32)}"


def tenant_of(key_id: str) -> str | None:
    """Return the tenant that a key id names; None for what we never made."""
    found = _KEY_ID.fullmatch(key_id)
    if found is None:
        return None
    text = found["tenant"]
    try:
        tenant = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return tenant if tenant and tenant != SYSTEM and "\x00" not in tenant else None


def path_of(key_id: str, entity: str) -> str:
    """Return the path of a feed, as it is signed."""
    return f"/v1/erp/{key_id}/{entity}"


def sign(secret: str, key_id: str, entity: str, body: bytes, now: datetime) -> str:
    """Return the header of a feed that is sent now; what ERPs do, and tests."""
    moment = str(int(now.timestamp()))
    signed = moment.encode() + b"." + _message(key_id, entity, body)
    return f"t={moment},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def is_genuine(
    known: Sequence[str],
    header: str | None,
    key_id: str,
    entity: str,
    body: bytes,
    now: datetime,
    *,
    tolerance: float,
) -> bool:
    """Tell whether a feed is signed with one of the secrets, now or nearly so.

    Each secret is tried, and one more where there is none, so that it takes as long for a key that does not exist.
    """
    message = _message(key_id, entity, body)
    fitting = [
        verify_hmac_timestamped(secret, header, message, now, tolerance=tolerance) for secret in known or (_NOBODYS,)
    ]
    return bool(known) and True in fitting


def digest_of(header: str, body: bytes) -> str:
    """Return what tells a genuine feed from all others: its time and its bytes."""
    found = _MOMENT.search(header)
    return hashlib.sha256((found[1] if found else "").encode() + b"." + body).hexdigest()


def _message(key_id: str, entity: str, body: bytes) -> bytes:
    return f"PUT {path_of(key_id, entity)}\n".encode() + body
