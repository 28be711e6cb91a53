"""The tables of mails."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import BigInteger, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from services.notifications.models import Base
from shared.db import TenantRecord

__all__ = ["CHOSEN", "Kind", "Mail", "Preference", "Status", "Suppression", "Workspace"]

Kind = Literal["sign_in", "billing", "shipping", "alert", "bulk"]
Status = Literal["queued", "sending", "sent", "failed", "suppressed", "skipped"]

CHOSEN: Final = ("shipping", "alert", "bulk")
"""The kinds that a member may turn off."""


class Workspace(Base):
    """A workspace, as workspaces last told: in whose name its mails are written."""

    __tablename__ = "workspaces"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger)


class Mail(TenantRecord, Base):
    """One mail to one address. Its id is its Message-ID, however often it has to be tried."""

    __tablename__ = "mails"

    dedupe_key: Mapped[str]
    kind: Mapped[str]
    template: Mapped[str]
    recipient: Mapped[str]
    recipient_name: Mapped[str]
    member_id: Mapped[uuid.UUID | None]
    vars: Mapped[dict[str, Any]]
    """What fills the template; what is secret is sealed, under a name that ends with `_sealed`."""
    status: Mapped[str]
    code: Mapped[str | None]
    """Why it was not sent: a key of the failure texts, or the reason for which it was passed over."""
    reason: Mapped[str | None]
    """The words of the mail server."""
    unanswered: Mapped[int] = mapped_column(SmallInteger)
    """How often it was handed over whole and nothing said whether it was taken."""
    expires_at: Mapped[datetime | None]
    """When it is of no use any more, as the link in it."""
    sent_at: Mapped[datetime | None]


class Suppression(Base):
    """An address that is not written to; always in small letters."""

    __tablename__ = "suppressions"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    """`refused`: its mail server says that there is no such mailbox."""
    since: Mapped[datetime] = mapped_column(server_default=func.now())


class Preference(Base):
    """A kind of mail that a member does not want."""

    __tablename__ = "preferences"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    member_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=func.now())
