"""What webhooks are signed with: sealed, and bound to its tenant."""

from __future__ import annotations

from datetime import datetime

from services.notifications.webhooks.models import PURPOSE, WebhookEndpoint
from shared.context import current
from shared.outbound import vault

__all__ = ["seal", "secrets_of"]


def seal(secret: str) -> str:
    """Return a secret sealed for the current tenant."""
    tenant_id = current().tenant_id
    assert tenant_id is not None, "secrets belong to a tenant"
    return vault.seal(tenant_id, PURPOSE, secret)


def secrets_of(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    """Return what to sign with, the newest first: one, or two while it is being changed. Raises VaultError."""
    sealed = [endpoint.secret_sealed]
    if endpoint.previous_sealed and endpoint.previous_until and now < endpoint.previous_until:
        sealed.append(endpoint.previous_sealed)
    return [vault.open_(endpoint.tenant_id, PURPOSE, one) for one in sealed]
