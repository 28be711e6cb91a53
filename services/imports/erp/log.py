"""The log of what passed between an ERP and us: who looks into a sync that went wrong finds what was said.

Excerpts are of at most 4 KB and without secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from services.imports.erp.models import Entity, ErpLog
from shared.telemetry.excerpts import EXCERPT, excerpt

__all__ = ["EXCERPT", "excerpt", "write"]

_EXTERNAL_ID: Final = 200


def write(
    session: Session,
    connection_id: UUID,
    direction: str,
    entity: Entity,
    *,
    failed: bool,
    secrets: Sequence[str],
    counts: dict[str, int] | None = None,
    request: str = "",
    response: str = "",
    external_id: str | None = None,
) -> None:
    """Write one line in the open transaction."""
    session.add(
        ErpLog(
            connection_id=connection_id,
            direction=direction,
            entity=entity,
            external_id=None if external_id is None else excerpt(external_id, secrets, _EXTERNAL_ID),
            outcome="failed" if failed else "ok",
            counts=counts or {},
            request=excerpt(request, secrets),
            response=excerpt(response, secrets),
        )
    )
