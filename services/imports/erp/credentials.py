"""What lets us into a tenant's ERP, and the ERP's feed into us: sealed, and bound to its tenant."""

from __future__ import annotations

from datetime import datetime

from services.imports.erp.models import SECRET, TOKEN, ErpConnection
from shared.context import current
from shared.outbound import vault

__all__ = ["SECRET", "TOKEN", "all_secrets", "feed_secrets", "seal", "token_of"]


def seal(purpose: str, plaintext: str) -> str:
    """Return the text sealed for the current tenant; `purpose` is one of those above."""
    tenant = current().tenant_id
    if tenant is None:
        raise RuntimeError("secrets belong to a tenant; enter one with use(tenant_id=…)")
    return vault.seal(tenant, purpose, plaintext)


def token_of(connection: ErpConnection) -> str:
    """Return the token that the ERP gave us. Raises VaultError."""
    return vault.open_(connection.tenant_id, TOKEN, connection.token_sealed)


def feed_secrets(connection: ErpConnection | None, now: datetime) -> list[str]:
    """Return the secrets that a feed may be signed with: one, or two while it is being changed."""
    if connection is None:
        return []
    sealed = [connection.secret_sealed]
    if connection.previous_sealed and connection.previous_until and now < connection.previous_until:
        sealed.append(connection.previous_sealed)
    return [vault.open_(connection.tenant_id, SECRET, one) for one in sealed]


def all_secrets(connection: ErpConnection) -> list[str]:
    """Return everything that must never be written down: token and secrets, also one that is no longer valid."""
    sealed = [one for one in (connection.secret_sealed, connection.previous_sealed) if one]
    return [token_of(connection), *(vault.open_(connection.tenant_id, SECRET, one) for one in sealed)]
