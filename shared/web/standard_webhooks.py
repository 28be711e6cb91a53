"""Signing webhooks as Standard Webhooks has it (https://www.standardwebhooks.com), so that receivers need no code of
ours: libraries for their language verify them.

Pure functions, but for the making of secrets.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

__all__ = ["new_secret", "signed_headers"]

_PREFIX: Final = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes of a secret, by the specification


def new_secret() -> str:
    """Return 256 random bits as `whsec_<base64>`."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signed_headers(known: Sequence[str], message_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """Return the headers with which a webhook is sent now: its id, the time, and a signature by each secret.

    `message_id` stays the same whenever the message is sent again. Several secrets are for while one is being
    changed: a receiver accepts what fits one it knows. Raises ValueError without a secret, for one that is none, and
    for an id with a dot in it, which could move the border to what follows.
    """
    if not known:
        raise ValueError("a webhook is signed")
    if not message_id or "." in message_id:
        raise ValueError("the id of a message has no dot")
    moment = str(int(now.timestamp()))
    signed = f"{message_id}.{moment}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode() for secret in known)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": moment,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _key(secret: str) -> bytes:
    key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(f"a secret has {_SHORTEST} to {_LONGEST} bytes, not {len(key)}")
    return key
