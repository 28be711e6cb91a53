"""The log of mails: what was sent to whom, and what was not, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.notifications.api.base import MANAGERS, api
from services.notifications.mail.models import Kind, Mail, Status
from shared.db import unit_of_work
from shared.jobs.models import Job
from shared.web import NotFound, Page, PageQuery, paginate

__all__: list[str] = []

_ACTORS: Final = ("send_mail", "send_account_mail")


class MailView(BaseModel):
    """A mail. What it says is not part of the log: it may let people in."""

    model_config = ConfigDict(title="Mail", from_attributes=True)

    id: UUID = Field(description="Also the first part of its Message-ID.")
    template: str
    kind: Kind
    to: str = Field(validation_alias=AliasChoices("recipient", "to"))
    member_id: UUID | None = Field(description="To whom, where it is to a member.")
    status: Status
    code: str | None = Field(description="Why it was not sent.")
    reason: str | None = Field(description="What the mail server said.")
    created_at: datetime
    sent_at: datetime | None


class WholeMail(MailView):
    """A mail and the job that sends it."""

    model_config = ConfigDict(title="WholeMail")

    job_id: UUID | None = Field(description="Its attempts are at `/v1/jobs/{job_id}/attempts`; null once cleaned up.")


class MailQuery(PageQuery):
    """Filters of the list; all that are given must hold."""

    status: Status | None = None
    to: str | None = Field(None, max_length=320, description="The address, without regard to capitals.")


@api.get("/v1/mails", role=MANAGERS)
def list_mails(query: MailQuery) -> Page[MailView]:
    """List mails, the latest first."""
    statement = select(Mail)
    if query.status is not None:
        statement = statement.where(Mail.status == query.status)
    if query.to is not None:
        statement = statement.where(func.lower(Mail.recipient) == query.to.lower())
    with unit_of_work() as session:
        return paginate(session, statement, (Mail.id,), query, view=MailView.model_validate)


@api.get("/v1/mails/<uuid:mail_id>", role=MANAGERS, raises=(NotFound,))
def read_mail(mail_id: UUID) -> WholeMail:
    """Read what became of a mail."""
    with unit_of_work() as session:
        row = session.get(Mail, mail_id)
        if row is None:
            raise NotFound(f"There is no mail {mail_id}.")
        return WholeMail(**MailView.model_validate(row).model_dump(), job_id=_job_of(session, row))


def _job_of(session: Session, mail: Mail) -> UUID | None:
    statement = select(Job.id).where(
        Job.actor.in_(_ACTORS), Job.tenant_id == mail.tenant_id, Job.once_key == f"mail:{mail.id}"
    )
    return session.scalar(statement)
