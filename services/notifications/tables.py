"""The tables of notices and alerts, and the projections that only they read."""

from __future__ import annotations

import uuid
from datetime import date, datetime

from sqlalchemy import Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from services.notifications.models import Base

__all__ = ["Alert", "Mark", "Morning", "Notice", "Occurrence", "Outcome", "Receipt"]


class Notice(Base):
    """One thing that is told, however many are told it."""

    __tablename__ = "notices"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """A row of `audience.AUDIENCES`, or `alert`, or what another part of notifications calls its own."""
    title: Mapped[str]
    text: Mapped[str]
    link: Mapped[str | None]
    """Where a click leads: a path of the console, such as `/orders/<id>`."""
    dedupe_key: Mapped[str]
    count: Mapped[int] = mapped_column(default=1)
    """Of how many things it tells, such as samples of one import."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Receipt(Base):
    """That a member was told a notice, and when it was read."""

    __tablename__ = "notice_receipts"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    member_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    notice_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    told_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    read_at: Mapped[datetime | None]
    notice: Mapped[Notice] = relationship(
        primaryjoin="and_(Notice.tenant_id == Receipt.tenant_id, Notice.id == foreign(Receipt.notice_id))",
        lazy="joined",
        innerjoin=True,
        viewonly=True,
    )


class Mark(Base):
    """The moment until which a member has read everything, as it once said; one row instead of thousands."""

    __tablename__ = "notice_marks"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    member_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    read_until: Mapped[datetime]


class Alert(Base):
    """What went wrong from one cause; at most one of a cause is not resolved.

    Of a live alert its occurrences are counted when somebody looks; of a resolved one `count`, `remaining` and
    `last_at` say what they were.
    """

    __tablename__ = "alerts"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """`job_failed`, `circuit_opened`, `schedule_missed`, `reconciliation_stuck` or `dead_letters`."""
    cause: Mapped[str]
    service: Mapped[str]
    actor: Mapped[str | None]
    code: Mapped[str | None]
    provider: Mapped[str | None]
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Who can act, and so sees it."""
    what: Mapped[str]
    meaning: Mapped[str]
    doing: Mapped[str]
    action: Mapped[str]
    state: Mapped[str]
    count: Mapped[int]
    remaining: Mapped[int]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    acknowledged_by: Mapped[str | None]
    acknowledged_at: Mapped[datetime | None]
    retried_by: Mapped[str | None]
    retried_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None]
    resolved_at: Mapped[datetime | None]
    resolution: Mapped[str | None]
    """Why it is silent: `by_hand`, `circuit_closed`, `connected`, `mended`, `retried` or `quiet`."""


class Occurrence(Base):
    """One failure among those of an alert: a job, or the event that told of it."""

    __tablename__ = "alert_occurrences"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    alert_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    """The id of the job; of what is no job's failure, the id of the event."""
    subject: Mapped[str | None]
    at: Mapped[datetime]
    cleared_at: Mapped[datetime | None]
    """When what had failed came right after all."""


class Morning(Base):
    """When it is morning in a workspace, and the last day on which it was told what there is in the morning."""

    __tablename__ = "mornings"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    time_zone: Mapped[str]
    told_on: Mapped[date]
    """In its own time zone."""


class Outcome(Base):
    """What a label, an import or an order came to: which job failed for it, and when it came right after all."""

    __tablename__ = "outcomes"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """`label`, `import` or `order`."""
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    thing: Mapped[uuid.UUID]
    """What it was for: another label of the same order mends it, too."""
    failed_job: Mapped[str | None]
    succeeded_at: Mapped[datetime | None]
    noted_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
