"""What notifications tells the others."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.events.contracts.contract import EventContract, example

__all__ = ["MailFailed", "MailSent", "RetryRequested", "WatchTriggered"]

_MAIL = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0d1a"


class MailSent(EventContract):
    """The mail server has taken a mail."""

    type: ClassVar[str] = "backroom.notifications.mail.sent.v1"
    model_config = example(mail_id=_MAIL, template="shipping.label_created", member_id=None)

    mail_id: UUID
    template: str
    member_id: UUID | None = Field(description="To whom, where it went to a member.")


class MailFailed(EventContract):
    """A mail will not be sent: it was refused for good, or tried in vain."""

    type: ClassVar[str] = "backroom.notifications.mail.failed.v1"
    model_config = example(mail_id=_MAIL, template="shipping.label_created", member_id=None, code="mail_refused")

    mail_id: UUID
    template: str
    member_id: UUID | None
    code: str


class WatchTriggered(EventContract):
    """What a member watches for has come about."""

    type: ClassVar[str] = "backroom.notifications.watch.triggered.v1"
    model_config = example(
        watch_id="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0d2b",
        member_id="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0c1a",
        title="Orders in Processing for more than 3 days",
        matched=2,
        checked_at="2026-03-01T12:15:00Z",
    )

    watch_id: UUID
    member_id: UUID
    title: str
    matched: int = Field(ge=1, description="How many things are new among those that match.")
    checked_at: AwareDatetime


class RetryRequested(EventContract):
    """Somebody wants the failed jobs of one cause tried again; the service whose jobs they are does it."""

    type: ClassVar[str] = "backroom.notifications.retry.requested.v1"
    model_config = example(
        service="shipping",
        actor="purchase_label",
        code="provider_unavailable",
        failed_before="2026-03-01T12:00:00Z",
        requested_by="user:eve",
        alert_id="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0d3c",
    )

    service: str
    actor: str
    code: str | None
    failed_before: AwareDatetime = Field(description="Jobs that failed later are no part of it.")
    requested_by: str = Field(description="The principal.")
    alert_id: UUID | None = None
