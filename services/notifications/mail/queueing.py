"""Queueing mails: rows and their jobs, in the open transaction."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.notifications.mail import templates
from services.notifications.mail.address import Address, BadAddress, normalized
from services.notifications.mail.models import Kind
from services.notifications.models import Member
from shared.context import current
from shared.db import new_id
from shared.events.contracts.notifications import MailFailed
from shared.events.publish import Occurrence, publish_many
from shared.jobs import Priority, enqueue_many

__all__ = ["NewMail", "queue", "queue_many"]

_PRIORITIES: Final[Mapping[str, Priority]] = {
    "sign_in": Priority.URGENT,
    "shipping": Priority.HIGH,
    "alert": Priority.NORMAL,
    "bulk": Priority.BULK,
    "billing": Priority.BULK,  # by the day, not by the minute
}

_ACCOUNT: Final = ("sign_in", "billing")
"""Kinds that are about being a customer at all: they go out whatever the state of the workspace."""

_INSERT: Final = """
INSERT INTO mails (tenant_id, kind, template, id, dedupe_key, recipient, recipient_name, member_id, vars, expires_at,
                   status, code)
SELECT :tenant, :kind, :template, id, dedupe_key, recipient, name, member_id, vars::jsonb, expires_at,
       CASE WHEN code IS NULL THEN 'queued' ELSE 'failed' END, code
FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:recipients AS text[]), CAST(:names AS text[]),
            CAST(:members AS uuid[]), CAST(:vars AS text[]), CAST(:expirations AS timestamptz[]),
            CAST(:codes AS text[]))
     AS mail(id, dedupe_key, recipient, name, member_id, vars, expires_at, code)
ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
RETURNING id, recipient, member_id, code
"""


@dataclass(frozen=True, slots=True)
class NewMail:
    """A mail to be: see `queue` for what each field is."""

    to: Address | Member
    values: Mapping[str, Any]
    dedupe_key: str
    expires_at: datetime | None = None


def queue(
    session: Session,
    template: str,
    to: Address | Member,
    values: Mapping[str, Any],
    *,
    dedupe_key: str,
    kind: Kind,
    expires_at: datetime | None = None,
) -> uuid.UUID | None:
    """Write a mail and its job in the open transaction; return its id, None when it was there already.

    `template` names files of `templates/`; `values` (JSON) has every name that they use, secrets sealed for the
    tenant with the purpose `link.url` under a name that ends with `_sealed`, and nothing secret besides. With
    `workspace_name` it is written in that name rather than in the one that workspaces told.
    `dedupe_key` makes it one mail for ever, such as `ship:{order}:delivered:rep`. `kind` decides how soon it goes
    (sign_in, shipping, alert, bulk), whether a member can turn it off (shipping, alert, bulk) and whether it goes
    while the workspace is suspended (sign_in, billing). After `expires_at` it is not sent any more.

    To whom is settled when it is sent: a member who is not active, or who has turned the kind off, and an address
    that is suppressed get nothing, and the mail's row says so. An address that no mail server would take makes a
    row that has failed, so that a stranger's typing mistake never fails the caller.

    Raises LookupError for a template that there is not, ValueError for values that it lacks.
    """
    ids = queue_many(session, template, [NewMail(to, values, dedupe_key, expires_at)], kind=kind)
    return ids[0] if ids else None


def queue_many(session: Session, template: str, mails: Sequence[NewMail], *, kind: Kind) -> list[uuid.UUID]:
    """Write many mails of one template and their jobs in two statements, as `queue` does; return the ids of the new."""
    if not mails:
        return []
    for one in mails:
        templates.check(template, one.values)
    recipients = [_recipient(one.to) for one in mails]
    rows = session.execute(
        text(_INSERT),
        {
            "tenant": current().tenant_id,
            "kind": kind,
            "template": template,
            "ids": [new_id() for _ in mails],
            "keys": [one.dedupe_key for one in mails],
            "recipients": [address for address, _ in recipients],
            "names": [one.to.name for one in mails],
            "members": [one.to.id if isinstance(one.to, Member) else one.to.member_id for one in mails],
            "vars": [json.dumps(dict(one.values)) for one in mails],
            "expirations": [one.expires_at for one in mails],
            "codes": [code for _, code in recipients],
        },
    ).all()
    _send(kind, [(row.id, row.recipient) for row in rows if row.code is None])
    publish_many(
        session,
        [
            Occurrence(MailFailed(mail_id=row.id, template=template, member_id=row.member_id, code=row.code), row.id)
            for row in rows
            if row.code is not None
        ],
    )
    return [row.id for row in rows]


def _recipient(to: Address | Member) -> tuple[str, str | None]:
    """Return the address as it is sent to, and why nothing can be."""
    try:
        return normalized(to.email), None
    except BadAddress as error:
        return to.email[:320], error.code


def _send(kind: Kind, mails: Sequence[tuple[uuid.UUID, str]]) -> None:
    # Here, since jobs queue mails as well and would meet this module half made.
    from services.notifications.jobs.mail import send_account_mail, send_mail

    enqueue_many(
        send_account_mail if kind in _ACCOUNT else send_mail,
        [{"mail_id": mail_id, "to": recipient} for mail_id, recipient in mails],
        once_keys=[f"mail:{mail_id}" for mail_id, _ in mails],
        priority=_PRIORITIES[kind],
    )
