"""Sending mails, one job each, and forgetting them.

A mail is queued until its job runs, then sending, then sent, failed, suppressed or skipped. It is handed to the mail
server under the same Message-ID in every try, and it is never lost: what is not known to have been taken is sent
again. So one may arrive twice,

- when its worker dies between the server's yes and our commit: at most one per connection, and
- when the server takes it whole and does not answer: it is sent once more, and put before a person after the second
  silence, since a third copy helps nobody.

Mail programs and servers that look at the Message-ID show it once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.notifications.mail.delivery import compose, take
from services.notifications.mail.models import Mail, Suppression
from services.notifications.providers.smtp import mailer
from shared.context import current
from shared.db import unit_of_work, uuid7_floor
from shared.events import publish
from shared.events.contracts.notifications import MailFailed, MailSent
from shared.jobs import GiveUp, Priority, Skip, Verdict, actor, completion, cron
from shared.jobs.library.cleaning import delete_in_batches
from shared.outbound import UnknownOutcome

__all__ = ["prune_mails", "send_account_mail", "send_mail"]


@actor(queue_name="mail", unique="mail_id", subject="Mail to {to}", time_limit=480)
def send_mail(mail_id: UUID, to: str) -> None:
    """Send one mail."""
    send(mail_id)


@actor(
    queue_name="mail",
    priority=Priority.URGENT,
    unique="mail_id",
    subject="Mail to {to}",
    time_limit=480,
    standing="any",
)
def send_account_mail(mail_id: UUID, to: str) -> None:
    """Send one mail about signing in or paying, whatever the state of the workspace."""
    send(mail_id)


@send_mail.failed
def _not_sent(verdict: Verdict, mail_id: UUID, to: str) -> None:
    ended(verdict, mail_id)


@send_account_mail.failed
def _account_mail_not_sent(verdict: Verdict, mail_id: UUID, to: str) -> None:
    ended(verdict, mail_id)


def send(mail_id: UUID) -> None:
    """Send one mail; completes the job that runs. Raises Skip when it is not to be sent, GiveUp and errors of SMTP."""
    with unit_of_work() as session:
        parcel = take(session, mail_id)
    if isinstance(parcel, str):
        raise Skip(parcel)
    message = compose(parcel)
    try:
        answer = mailer().send(message.sender, message.recipient, message.as_bytes())
    except UnknownOutcome as error:
        if _unanswered(mail_id) > 1:
            raise GiveUp("mail_outcome_unknown", error.detail) from error
        raise
    with completion({"answer": answer[:200]}) as session:
        mail = session.get_one(Mail, mail_id)
        mail.status, mail.sent_at = "sent", datetime.now(UTC)
        mail.vars = {name: value for name, value in mail.vars.items() if not name.endswith("_sealed")}
        if mail.kind == "sign_in":
            # It was tried although the address had been refused; now we know better.
            session.execute(_suppression(mail.recipient, "refused"))
        publish(session, MailSent(mail_id=mail.id, template=mail.template, member_id=mail.member_id), subject=mail.id)


def ended(verdict: Verdict, mail_id: UUID) -> None:
    """Note why a mail will not be sent, and that its address is refused where that is why."""
    with unit_of_work() as session:
        mail = session.get(Mail, mail_id)
        if mail is None:
            return
        if verdict.state == "cancelled":
            mail.status, mail.code = "skipped", "cancelled"
            return
        mail.status, mail.code = "failed", verdict.code
        if verdict.code.startswith("mail_"):
            mail.reason = verdict.detail.removeprefix(f"smtp: {verdict.code}: ")[:500]
        if verdict.code == "mail_recipient_refused":
            _suppress(session, mail.recipient)
        event = MailFailed(mail_id=mail.id, template=mail.template, member_id=mail.member_id, code=verdict.code)
        publish(session, event, subject=mail.id)


def _unanswered(mail_id: UUID) -> int:
    with unit_of_work() as session:
        mail = session.get_one(Mail, mail_id, with_for_update=True)
        mail.unanswered += 1
        return mail.unanswered


def _suppress(session: Session, address: str) -> None:
    values = {"tenant_id": current().tenant_id, "address": address.lower(), "reason": "refused"}
    session.execute(insert(Suppression).values(values).on_conflict_do_nothing())


def _suppression(address: str, reason: str) -> Any:
    return delete(Suppression).where(Suppression.address == address.lower(), Suppression.reason == reason)


_KEEP_SENT: Final = timedelta(days=90)
_KEEP_FAILED: Final = timedelta(days=180)
_KEEP_VALUES: Final = timedelta(days=30)

_DELETE: Final = """
DELETE FROM mails WHERE id IN (
    SELECT id FROM mails WHERE id < :floor AND status = ANY(:statuses) ORDER BY id LIMIT :batch)
"""
_EMPTY: Final = """
UPDATE mails SET vars = '{}' WHERE id IN (
    SELECT id FROM mails WHERE id < :floor AND vars <> '{}' AND status NOT IN ('queued', 'sending')
    ORDER BY id LIMIT :batch)
"""


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Prune the log of mails",
    periodic=cron("25 3 * * *"),
)
def prune_mails() -> dict[str, int]:
    """Delete mails 90 days after they were queued, failed ones after 180, and after 30 days what they said."""
    now = datetime.now(UTC)
    done = {"floor": uuid7_floor(now - _KEEP_SENT), "statuses": ["sent", "suppressed", "skipped"]}
    failed = {"floor": uuid7_floor(now - _KEEP_FAILED), "statuses": ["failed"]}
    return {
        "emptied": delete_in_batches(_EMPTY, {"floor": uuid7_floor(now - _KEEP_VALUES)}),
        "deleted": delete_in_batches(_DELETE, done) + delete_in_batches(_DELETE, failed),
    }
