"""The tables of workspaces. Every row belongs to one tenant; a tenant's id is its subdomain.

`version` grows with each change that is told to others; events carry it, so that who receives them late
can tell.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Integer, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.db import TYPES, TenantRecord, metadata, sealed

__all__ = [
    "SIGNING_KEY",
    "STATES",
    "ApiKey",
    "AuditEntry",
    "Base",
    "Link",
    "Member",
    "SigningKey",
    "UserSession",
    "Workspace",
]

SIGNING_KEY: Final = "signing_key"
"""The purpose for which the private half of a signing key is sealed."""

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
    joined_at: Mapped[datetime | None]
    """When it signed in for the first time."""
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Link(TenantRecord, Base):
    """A link that lets a member in, once. Its token is in the mail alone; here is its hash."""

    __tablename__ = "links"

    member_id: Mapped[uuid.UUID]
    purpose: Mapped[str]
    """`sign_in` or `invitation`."""
    token_hash: Mapped[str]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class UserSession(TenantRecord, Base):
    """A member who is signed in, in one browser. Its refresh token has two halves; see `sessions`."""

    __tablename__ = "sessions"

    member_id: Mapped[uuid.UUID]
    family_hash: Mapped[str]
    refresh_hash: Mapped[str]
    user_agent: Mapped[str]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_because: Mapped[str | None]


class ApiKey(TenantRecord, Base):
    """What lets a program in: a role, within scopes. The secret was shown once; here is its hash."""

    __tablename__ = "api_keys"

    name: Mapped[str]
    role: Mapped[str]
    scopes: Mapped[list[Any]]
    secret_hash: Mapped[str]
    hint: Mapped[str]
    """The last characters of the secret, to tell keys apart."""
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class SigningKey(Base):
    """A key that signs access tokens, or did, or will. All of these are published."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    """The `kid` of its tokens."""
    tenant_id: Mapped[str]
    public: Mapped[dict[str, Any]]
    private_sealed: Mapped[str] = sealed(SIGNING_KEY)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    signs_from: Mapped[datetime]


class AuditEntry(TenantRecord, Base):
    """Who did what to whom. Nobody but the owner of the tables can change what was noted."""

    __tablename__ = "audit_log"

    principal: Mapped[str | None]
    """None for somebody who was not signed in."""
    action: Mapped[str]
    subject: Mapped[str]
    facts: Mapped[dict[str, Any]]
    request_id: Mapped[str | None]
