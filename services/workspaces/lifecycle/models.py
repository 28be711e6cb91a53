"""The tables of the lifecycle: subscriptions, cancellations, their steps."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from services.workspaces.models import Base
from shared.db import TenantRecord

__all__ = ["Cancellation", "CancellationStep", "Subscription"]


class Subscription(TenantRecord, Base):
    """A subscription at Paddle, as it last was. A workspace that is bought anew gets another one."""

    __tablename__ = "subscriptions"

    provider_id: Mapped[str]
    """Paddle's id; unique within the workspace."""
    customer_id: Mapped[str]
    status: Mapped[str]
    """`trialing`, `active`, `past_due`, `paused` or `canceled`, which is the end."""
    plan: Mapped[str | None] = mapped_column(default=None)
    ends_at: Mapped[datetime | None] = mapped_column(default=None)
    """Until when it was paid for, where somebody has cancelled it for then."""
    canceled_at: Mapped[datetime | None] = mapped_column(default=None)
    """When it ended."""
    occurred_at: Mapped[datetime]
    """Paddle's time of what is here; what is older is dropped."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Cancellation(TenantRecord, Base):
    """What follows from the end of a workspace's last subscription. At most one per workspace is open."""

    __tablename__ = "cancellations"

    canceled_at: Mapped[datetime]
    """Day 0: when the subscription ended, not when somebody clicked."""
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    """When it was over: the workspace was archived or reactivated."""
    reactivated_at: Mapped[datetime | None] = mapped_column(default=None)


class CancellationStep(TenantRecord, Base):
    """A step of a cancellation that was decided on: at most one row per cancellation and step, for ever."""

    __tablename__ = "cancellation_steps"

    cancellation_id: Mapped[uuid.UUID]
    step: Mapped[str]
    outcome: Mapped[str]
    """`done`, `skipped_stale` (too late to be of use), `skipped_no_owner`, or `cancelled` by a reactivation."""
    due_at: Mapped[datetime]
    done_at: Mapped[datetime]
    """By the clock of the run that did it."""
