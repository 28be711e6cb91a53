"""The audit log, for the owner."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from services.workspaces.api.base import api
from services.workspaces.models import AuditEntry
from shared.db import unit_of_work
from shared.web import Page, PageQuery, paginate

__all__: list[str] = []


class AuditView(BaseModel):
    """Something that somebody did."""

    model_config = ConfigDict(title="AuditEntry", from_attributes=True)

    id: UUID
    principal: str | None = Field(description="Who; null for somebody who was not signed in.")
    action: str = Field(description="What, as `member.invited`.")
    subject: str = Field(description="To whom or what, as `member:<id>`.")
    facts: dict[str, Any]
    request_id: str | None
    created_at: datetime


class AuditQuery(PageQuery):
    action: str | None = Field(None, max_length=100)
    subject: str | None = Field(None, max_length=100)
    principal: str | None = Field(None, max_length=100)


@api.get("/v1/audit", role="owner")
def list_audit(query: AuditQuery) -> Page[AuditView]:
    """List what was done in the workspace, the latest first."""
    statement = select(AuditEntry)
    for name in ("action", "subject", "principal"):
        wanted = getattr(query, name)
        if wanted is not None:
            statement = statement.where(getattr(AuditEntry, name) == wanted)
    with unit_of_work() as session:
        return paginate(session, statement, (AuditEntry.id,), query)
