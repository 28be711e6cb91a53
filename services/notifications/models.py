"""The tables of notifications that several of its parts read: whom there is to tell, and about what.

Both are projections: handlers of events write them, and drop what is older than what is there.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, func
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from shared.context import current
from shared.db import TYPES, metadata

__all__ = ["Base", "Member", "Order", "member_of"]


class Base(DeclarativeBase):
    """Base of the tables of notifications."""

    metadata = metadata()
    type_annotation_map = TYPES


class Member(Base):
    """A member of the workspace, as workspaces last told. Principals call them `user:<id>`."""

    __tablename__ = "members"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    role: Mapped[str]
    status: Mapped[str]
    """`invited`, `active` or `disabled`; only the active are told anything but their invitation."""
    sequence: Mapped[int] = mapped_column(BigInteger)


class Order(Base):
    """An order, as shipping last told: enough to say whose it is and how long it has been where it is."""

    __tablename__ = "orders"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[str]
    created_by: Mapped[str]
    """A principal."""
    recipient_name: Mapped[str] = mapped_column(default="")
    recipient_company: Mapped[str] = mapped_column(default="")
    state: Mapped[str]
    since: Mapped[datetime]
    """When it came into this state."""
    ordered_at: Mapped[datetime] = mapped_column(server_default=func.now())
    delivery_status: Mapped[str] = mapped_column(server_default="unknown")
    """What a carrier last said about a parcel of it."""
    delivery_at: Mapped[datetime | None]
    sequence: Mapped[int] = mapped_column(BigInteger)


def member_of(session: Session, principal: str) -> Member | None:
    """Return the member of the current tenant whom a principal names, None where it names none that we know."""
    kind, _, text = principal.partition(":")
    try:
        member_id = uuid.UUID(text)
    except ValueError:
        return None
    return session.get(Member, (current().tenant_id, member_id)) if kind == "user" else None
