"""The tables of ERPs: connections, feeds that came in, the log."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Integer, func
from sqlalchemy.orm import Mapped, mapped_column

from services.imports.models import Base
from shared.db import TenantRecord, sealed

__all__ = ["SECRET", "TOKEN", "Entity", "ErpConnection", "ErpFeed", "ErpLog"]

# Purposes, with which what is sealed is bound to its use.
TOKEN: Final = "erp.token"  # noqa: S105
SECRET: Final = "erp.feed_secret"  # noqa: S105

Entity = Literal["samples", "stock"]


class ErpConnection(TenantRecord, Base):
    """A tenant's ERP: where it is, what lets us in, and what it signs its feed with."""

    __tablename__ = "erp_connections"

    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="rest")
    base_url: Mapped[str]
    """In its only spelling. The tenant's word, and so never to be trusted."""
    token_sealed: Mapped[str] = sealed(TOKEN)
    key_id: Mapped[str]
    secret_sealed: Mapped[str] = sealed(SECRET)
    previous_sealed: Mapped[str | None] = sealed(SECRET, default=None)
    previous_until: Mapped[datetime | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="active")
    cursor: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """{entity: {completed, and where an unfinished pass goes on}}; read and written by `passes`."""
    keep_days: Mapped[int | None] = mapped_column(Integer, default=None)
    """For how long its log is kept, where that is not as usual."""
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ErpFeed(TenantRecord, Base):
    """Items that an ERP sent, as they came."""

    __tablename__ = "erp_feeds"

    connection_id: Mapped[uuid.UUID]
    entity: Mapped[str]
    digest: Mapped[str]
    body: Mapped[bytes] = mapped_column(deferred=True)
    state: Mapped[str] = mapped_column(default="received")
    settled_at: Mapped[datetime | None] = mapped_column(default=None)


class ErpLog(TenantRecord, Base):
    """One page or feed that passed, or one item of it that failed (then with its `external_id`)."""

    __tablename__ = "erp_sync_log"

    connection_id: Mapped[uuid.UUID]
    direction: Mapped[str]
    """`in`: it was sent to us; `out`: we asked for it."""
    entity: Mapped[str]
    external_id: Mapped[str | None] = mapped_column(default=None)
    outcome: Mapped[str]
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    request: Mapped[str] = mapped_column(default="")
    response: Mapped[str] = mapped_column(default="")
