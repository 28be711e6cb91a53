"""One table: an order, and what became of its purchase."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, TenantRecord, metadata


class Base(DeclarativeBase):
    metadata = metadata()
    type_annotation_map = TYPES


class Order(TenantRecord, Base):
    """`state` is new, requested, purchased, failed or needs_review."""

    __tablename__ = "orders"

    number: Mapped[str]
    state: Mapped[str] = mapped_column(default="new")
    job_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    rate: Mapped[str | None] = mapped_column(default=None)
    transaction: Mapped[str | None] = mapped_column(default=None)
