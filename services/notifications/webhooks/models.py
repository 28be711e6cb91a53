"""The tables of webhooks: endpoints, and what was or is to be sent to them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from sqlalchemy import Integer, SmallInteger, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from services.notifications.models import Base
from shared.db import TenantRecord, sealed

__all__ = ["PURPOSE", "WebhookDelivery", "WebhookEndpoint"]

PURPOSE: Final = "webhook.secret"
"""For which the secrets of endpoints are sealed."""


class WebhookEndpoint(TenantRecord, Base):
    """Where a tenant's own system takes webhooks, what it wants, and how it has been answering."""

    __tablename__ = "webhook_endpoints"

    url: Mapped[str]
    """In its only spelling. The tenant's word, and so never to be trusted."""
    description: Mapped[str] = mapped_column(default="")
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    state: Mapped[str] = mapped_column(default="enabled")
    disabled_reason: Mapped[str | None] = mapped_column(default=None)
    """`by_hand`; `gone`: it answered 410; `failing`: it took nothing for days."""
    secret_sealed: Mapped[str] = sealed(PURPOSE)
    previous_sealed: Mapped[str | None] = sealed(PURPOSE, default=None)
    previous_until: Mapped[datetime | None] = mapped_column(default=None)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    """In a row, over all deliveries."""
    failing_since: Mapped[datetime | None] = mapped_column(default=None)
    resting_until: Mapped[datetime | None] = mapped_column(default=None)
    """Nothing but a test is sent before then."""
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    def disable(self, reason: str, now: datetime) -> None:
        """Switch it off; what waits for it is dropped when its turn comes."""
        self.state, self.disabled_reason = "disabled", reason
        self.begin_anew(now)

    def enable(self, now: datetime) -> None:
        """Switch it on; what was dropped meanwhile has to be asked for."""
        self.state, self.disabled_reason = "enabled", None
        self.begin_anew(now)

    def begin_anew(self, now: datetime) -> None:
        """Forget how it has been answering, since it is another one now."""
        self.failures, self.failing_since, self.resting_until = 0, None, None
        self.version += 1
        self.updated_at = now


class WebhookDelivery(TenantRecord, Base):
    """One message to one endpoint, and how the last attempt went. Its id at the receiver is `message_id`."""

    __tablename__ = "webhook_deliveries"

    endpoint_id: Mapped[uuid.UUID]
    message_id: Mapped[str]
    event_type: Mapped[str]
    body: Mapped[str]
    state: Mapped[str] = mapped_column(default="waiting")
    """`dropped`: its endpoint was disabled, or somebody cancelled it."""
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    code: Mapped[str | None] = mapped_column(default=None)
    """Why the last attempt failed."""
    response_status: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    response: Mapped[str] = mapped_column(default="")
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempted_at: Mapped[datetime | None] = mapped_column(default=None)
