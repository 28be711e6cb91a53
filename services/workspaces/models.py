"""The tables of workspaces. Every row belongs to one tenant; a tenant's id is its subdomain.

`version` grows with each change that is told to others; events carry it, so that who receives them late
can tell.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Integer, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, TenantRecord, metadata

__all__ = ["STATES", "Base", "Member", "Workspace"]

STATES: Final = ("active", "canceled", "frozen", "suspended", "archived")


class Base(DeclarativeBase):
    """Base of the tables of workspaces."""

    metadata = metadata()
    type_annotation_map = TYPES


class Workspace(TenantRecord, Base):
    """One company's environment; one row per tenant."""

    __tablename__ = "workspaces"

    name: Mapped[str]
    plan: Mapped[str]
    time_zone: Mapped[str] = mapped_column(default="UTC")
    state: Mapped[str] = mapped_column(default="active")
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Member(TenantRecord, Base):
    """A person in a workspace, in exactly one role."""

    __tablename__ = "members"

    email: Mapped[str]
    """As it was given; unique within the workspace without regard to case."""
    name: Mapped[str]
    role: Mapped[str]
    status: Mapped[str]
    """`invited`, `active` or `disabled`."""
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
