"""What lets us into a tenant's Shippo, and Shippo's webhooks into us: sealed, and bound to its tenant."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final
from urllib.parse import quote

from shared.context import current
from shared.outbound import vault

__all__ = [
    "HMAC_SECRET",
    "TOKEN",
    "WEBHOOK_TOKEN",
    "hash_of",
    "new_webhook_token",
    "open_secret",
    "seal_secret",
    "webhook_path",
]

# Purposes, with which what is sealed is bound to its use.
TOKEN: Final = "shippo.token"  # noqa: S105
WEBHOOK_TOKEN: Final = "shippo.webhook_token"  # noqa: S105
HMAC_SECRET: Final = "shippo.hmac_secret"  # noqa: S105


def seal_secret(purpose: str, plaintext: str) -> str:
    """Return the text sealed for the current tenant; `purpose` is one of those above."""
    return vault.seal(_tenant(), purpose, plaintext)


def open_secret(purpose: str, sealed: str) -> str:
    """Return what was sealed for the current tenant. Raises VaultError."""
    return vault.open_(_tenant(), purpose, sealed)


def new_webhook_token() -> str:
    """Return a token for the URL of webhooks: 256 random bits that need no escaping."""
    return secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return what is kept of a webhook token. It is random, so a plain hash gives nothing away."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def webhook_path(tenant_id: str) -> str:
    """Return the path to which Shippo sends a tenant's webhooks."""
    return f"/v1/webhooks/shippo/{quote(tenant_id, safe='')}"


def _tenant() -> str:
    tenant = current().tenant_id
    if tenant is None:
        raise RuntimeError("secrets belong to a tenant; enter one with use(tenant_id=…)")
    return tenant
