"""The tables of watches: the watches, what each has told, and the tenant's own language model."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Boolean, Integer, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from services.notifications.models import Base
from shared.db import TenantRecord, sealed

__all__ = ["PURPOSE", "ModelConnection", "Watch", "WatchMatch"]

PURPOSE: Final = "model.key"
"""For which the keys of language models are sealed."""


class Watch(TenantRecord, Base):
    """What a member wrote, and the rule that was made of it; only a rule that the member confirmed is checked."""

    __tablename__ = "watches"

    member_id: Mapped[uuid.UUID]
    text: Mapped[str]
    title: Mapped[str] = mapped_column(default="")
    rule: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """As `rule.Rule` has it; None until it is written."""
    frequency: Mapped[int] = mapped_column(SmallInteger)
    """Minutes."""
    state: Mapped[str] = mapped_column(default="draft")
    """`draft`, `active` or `paused`."""
    paused_reason: Mapped[str | None] = mapped_column(default=None)
    next_run_at: Mapped[datetime | None] = mapped_column(default=None)
    last_checked_at: Mapped[datetime | None] = mapped_column(default=None)
    errors: Mapped[int] = mapped_column(SmallInteger, default=0)
    """In a row."""
    holds: Mapped[bool] = mapped_column(Boolean, default=False)
    """Of a rule about a number: whether it held when it was checked last."""
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    def activate(self, slot: datetime) -> None:
        """Have it checked from this time on."""
        self.state, self.paused_reason, self.next_run_at, self.errors = "active", None, slot, 0
        self.version += 1

    def pause(self, reason: str) -> None:
        """Have it checked no more; what it has told stays told."""
        self.state, self.paused_reason, self.next_run_at = "paused", reason, None
        self.version += 1


class WatchMatch(Base):
    """Something that a watch has told and that still matches."""

    __tablename__ = "watch_matches"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    tenant_id: Mapped[str]
    watch_id: Mapped[uuid.UUID]
    item_id: Mapped[uuid.UUID]
    told_at: Mapped[datetime]


class ModelConnection(Base):
    """The tenant's own language model, which is asked instead of ours."""

    __tablename__ = "model_connections"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    base_url: Mapped[str]
    """In its only spelling. The tenant's word, and so never to be trusted."""
    model: Mapped[str]
    key_sealed: Mapped[str] = sealed(PURPOSE)
    key_hint: Mapped[str]
    connected_by: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
