"""What is sent of a mail's row, or why nothing is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jinja2
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from services.notifications.mail import templates, unsubscribing
from services.notifications.mail.message import Message, parse_sender
from services.notifications.mail.models import Mail, Preference, Suppression, Workspace
from services.notifications.models import Member
from services.notifications.settings import settings
from shared.jobs import GiveUp
from shared.outbound import vault

__all__ = ["Parcel", "compose", "take"]

_UNSUBSCRIBABLE: Final = ("alert", "bulk")
"""Kinds that nobody waits for: mail programs offer to end them with one click."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A mail that is to be sent, and in whose name."""

    mail: Mail
    workspace: str


def take(session: Session, mail_id: uuid.UUID) -> Parcel | str:
    """Mark a mail as being sent and return it; or mark it as not to be sent and return why, as a code."""
    found = session.execute(
        select(
            Mail,
            Member.status.label("status"),
            Workspace.name.label("workspace"),
            exists()
            .where(
                Preference.tenant_id == Mail.tenant_id,
                Preference.member_id == Mail.member_id,
                Preference.kind == Mail.kind,
            )
            .label("turned_off"),
            select(Suppression.reason)
            .where(
                Suppression.tenant_id == Mail.tenant_id,
                Suppression.address == func.lower(Mail.recipient),
            )
            .scalar_subquery()
            .label("suppressed"),
        )
        .join(Member, (Member.tenant_id == Mail.tenant_id) & (Member.id == Mail.member_id), isouter=True)
        .join(Workspace, Workspace.tenant_id == Mail.tenant_id, isouter=True)
        .where(Mail.id == mail_id)
        .with_for_update(of=Mail)
    ).one_or_none()
    if found is None:
        return "mail_gone"
    mail: Mail = found.Mail
    if mail.status == "sent":
        return "already_sent"
    status, code = "skipped", None
    if mail.expires_at is not None and mail.expires_at <= datetime.now(UTC):
        code = "expired"
    elif mail.kind != "sign_in":
        # Whoever asks for a link is there: neither a switch nor a mailbox that was once full keeps it from him.
        if mail.member_id is not None and found.status not in (None, "active"):
            code = "member_inactive"
        elif found.turned_off:
            code = "turned_off"
        elif found.suppressed is not None:
            status, code = "suppressed", f"address_{found.suppressed}"
    if code is not None:
        mail.status, mail.code = status, code
        return code
    mail.status, mail.code, mail.reason = "sending", None, None
    return Parcel(mail, found.workspace or mail.tenant_id)


def compose(parcel: Parcel) -> Message:
    """Render a mail. Raises GiveUp for one that cannot be, which no retry would mend."""
    mail = parcel.mail
    headers: dict[str, str] = {}
    url = ""
    if mail.kind in _UNSUBSCRIBABLE and mail.member_id is not None:
        url = unsubscribing.url(mail.tenant_id, mail.member_id, mail.kind)
        headers = {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    try:
        rendered = templates.render(
            mail.template,
            {
                **_opened(mail.tenant_id, mail.vars),
                "workspace": mail.vars.get("workspace_name") or parcel.workspace,
                "recipient": mail.recipient_name or mail.recipient,
                "is_member": mail.member_id is not None,
                "console_url": settings().console_url.rstrip("/"),
                "unsubscribe_url": url,
            },
        )
    except (jinja2.TemplateError, LookupError, TypeError, ValueError, vault.VaultError) as error:
        raise GiveUp("mail_unreadable", f"{mail.template}: {type(error).__name__}: {error}") from error
    name, address = parse_sender(settings().mail_sender)
    return Message(
        id=mail.id,
        sender=address,
        sender_name=name,
        recipient=mail.recipient,
        recipient_name=mail.recipient_name,
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        date=datetime.now(UTC),
        headers=headers,
    )


def _opened(tenant_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removesuffix("_sealed"): vault.open_(tenant_id, "link.url", value) if name.endswith("_sealed") else value
        for name, value in values.items()
    }
