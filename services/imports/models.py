"""The tables of imports that are read one by one. Every row belongs to one tenant; row-level security keeps it there.

What imports write in bulk goes by SQL made from a kind (`apply`); the classes here are for all else.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Integer, Numeric, SmallInteger, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, TenantRecord, metadata

__all__ = ["Base", "Category", "Image", "Import", "PlanLimits", "Sample", "Upload"]


class Base(DeclarativeBase):
    """Base of the tables of imports."""

    metadata = metadata()
    type_annotation_map = TYPES


class Upload(TenantRecord, Base):
    """A file as somebody sent it. `head` is its beginning, by which it is shown and judged."""

    __tablename__ = "uploads"

    created_by: Mapped[str]
    file_name: Mapped[str]
    blob_key: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    head: Mapped[bytes] = mapped_column(deferred=True)
    encoding: Mapped[str]
    """As `reading.detect` found it."""
    delimiter: Mapped[str]


class Import(TenantRecord, Base):
    """A file on its way into records. The four counts add up to `processed`."""

    __tablename__ = "imports"

    kind: Mapped[str]
    mode: Mapped[str]
    """`create`: what exists is left as it is; `update`: it is brought up to date."""
    upload_id: Mapped[uuid.UUID]
    file_name: Mapped[str]
    encoding: Mapped[str]
    delimiter: Mapped[str]
    mapping: Mapped[dict[str, Any]]
    """{field: index of its column}; `custom:<name>` for custom fields."""
    header: Mapped[list[Any]] = mapped_column(default=list)
    state: Mapped[str] = mapped_column(default="queued")
    requested_by: Mapped[str]
    job_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    total: Mapped[int | None] = mapped_column(Integer, default=None)
    """Rows of the file, the header apart; None until they were counted."""
    processed: Mapped[int] = mapped_column(Integer, default=0)
    created: Mapped[int] = mapped_column(Integer, default=0)
    updated: Mapped[int] = mapped_column(Integer, default=0)
    skipped: Mapped[int] = mapped_column(Integer, default=0)
    failed: Mapped[int] = mapped_column(Integer, default=0)
    failure: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """{code, fields} of what is wrong with the file as a whole, or of what the job failed with."""
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it last made progress."""


class Sample(TenantRecord, Base):
    """A product of which samples are sent."""

    __tablename__ = "samples"

    title: Mapped[str]
    title_key: Mapped[str]
    sku: Mapped[str | None] = mapped_column(default=None)
    sku_key: Mapped[str | None] = mapped_column(default=None)
    description: Mapped[str] = mapped_column(default="")
    status: Mapped[str] = mapped_column(default="active")
    unit_cost: Mapped[Decimal | None] = mapped_column(Numeric(16, 4), default=None)
    stock: Mapped[int | None] = mapped_column(Integer, default=None)
    categories: Mapped[list[Any]] = mapped_column(default=list)
    """Paths of categories, as their keys."""
    custom_fields: Mapped[dict[str, Any]] = mapped_column(default=dict)
    import_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    import_row: Mapped[int | None] = mapped_column(Integer, default=None)
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Category(TenantRecord, Base):
    """A node of the tenant's tree of categories."""

    __tablename__ = "categories"

    path_key: Mapped[str]
    """The keys of its parents and its own, joined by `>`."""
    name: Mapped[str]
    parent_key: Mapped[str | None] = mapped_column(default=None)


class Image(TenantRecord, Base):
    """The picture behind a URL that a sample asked for."""

    __tablename__ = "images"

    sample_id: Mapped[uuid.UUID]
    position: Mapped[int] = mapped_column(SmallInteger, default=1)
    url: Mapped[str]
    host: Mapped[str]
    """In lower case; at most two of a host are fetched at a time."""
    state: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    code: Mapped[str | None] = mapped_column(default=None)
    """Why it failed, or is to be tried again."""
    reason: Mapped[str | None] = mapped_column(default=None)
    """Where we gave up: what the last try failed with."""
    sha256: Mapped[str | None] = mapped_column(default=None)
    """Names the stored file, and its thumbnail."""
    media_type: Mapped[str | None] = mapped_column(default=None)
    width: Mapped[int | None] = mapped_column(Integer, default=None)
    height: Mapped[int | None] = mapped_column(Integer, default=None)
    size: Mapped[int | None] = mapped_column(Integer, default=None)
    import_id: Mapped[uuid.UUID | None] = mapped_column(default=None)
    settled_at: Mapped[datetime | None] = mapped_column(default=None)


class PlanLimits(Base):
    """What the workspace's plan allows, as workspaces last told: `{"samples": 2000}`."""

    __tablename__ = "plan_limits"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    limits: Mapped[dict[str, Any]]
    sequence: Mapped[int] = mapped_column(BigInteger)
