"""The audit log: who did what, noted in the transaction in which it was done."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from services.workspaces.models import AuditEntry
from shared.context import current

__all__ = ["audit"]


def audit(session: Session, action: str, subject: str, **facts: Any) -> None:
    """Note that the current principal did this. `facts` are JSON, and never secrets; `subject` is `<kind>:<id>`."""
    context = current()
    session.add(
        AuditEntry(
            principal=context.principal, action=action, subject=subject, facts=facts, request_id=context.request_id
        )
    )
