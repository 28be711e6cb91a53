"""What becomes of an archived workspace's access to third parties."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session

from services.imports.erp.models import ErpConnection

__all__ = ["destroy_credentials"]


def destroy_credentials(session: Session) -> int:
    """Disconnect the workspace's ERPs, their tokens, secrets and hourly pulls with them; return how many there were."""
    return int(session.execute(delete(ErpConnection)).rowcount)  # type: ignore[attr-defined]
