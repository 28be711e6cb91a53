"""What every table of a service has in common: UUIDv7 keys, UTC times, the tenant's column."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, MetaData, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, MappedColumn, mapped_column

from shared.context import current
from shared.db.ids import new_id

__all__ = ["TYPES", "Record", "TenantRecord", "metadata", "sealed"]

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


TYPES: dict[Any, Any] = {
    uuid.UUID: Uuid,
    datetime: DateTime(timezone=True),
    str: Text,
    dict[str, Any]: JSONB,
    list[Any]: JSONB,
}
"""Column types by annotation, for a service's declarative base:

    class Base(DeclarativeBase):
        metadata = metadata()
        type_annotation_map = TYPES
"""


def metadata() -> MetaData:
    """Return new metadata, one per service, since each service owns its database; constraints get stable names."""
    return MetaData(naming_convention=_NAMING)


def _tenant() -> str:
    tenant = current().tenant_id
    if tenant is None:
        raise RuntimeError("a row of a tenant was made outside of any tenant; enter one with use(tenant_id=…)")
    return tenant


def sealed(purpose: str, **options: Any) -> MappedColumn[Any]:
    """Return a column for a secret that `shared.outbound.vault` sealed for the row's tenant and this purpose.

    What a column of this kind holds is sealed anew when the newest key is another one, and never exported.
    """
    return mapped_column(info={"sealed": purpose}, **options)


class Record:
    """Mixin: a UUIDv7 primary key and the moment of birth."""

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TenantRecord(Record):
    """Mixin: a record that belongs to the current tenant; its table gets `enable_tenancy` in a migration."""

    tenant_id: Mapped[str] = mapped_column(default=_tenant, index=False)
