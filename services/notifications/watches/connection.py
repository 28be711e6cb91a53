"""Which language model a tenant's watches are written by: its own where it has one, else ours where there is one."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.notifications.settings import settings
from services.notifications.watches.models import PURPOSE, ModelConnection
from shared.context import current
from shared.outbound import vault

__all__ = ["has_model", "key_of", "seal"]


def has_model(session: Session) -> bool:
    """Tell whether there is a model to be asked."""
    return settings().model_base_url is not None or session.scalar(select(ModelConnection.tenant_id)) is not None


def seal(key: str) -> str:
    """Return a key sealed for the current tenant."""
    tenant_id = current().tenant_id
    assert tenant_id is not None, "keys belong to a tenant"
    return vault.seal(tenant_id, PURPOSE, key)


def key_of(connection: ModelConnection) -> str:
    """Return the key that the tenant gave us. Raises VaultError."""
    return vault.open_(connection.tenant_id, PURPOSE, connection.key_sealed)
