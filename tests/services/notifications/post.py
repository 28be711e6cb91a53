"""What tests of mails do: have members, queue mails, look at what arrived."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flask import Flask
from sqlalchemy import Row

from services.notifications import mail
from services.notifications.models import Member
from shared.db import new_id, unit_of_work
from shared.sandbox import Sandbox
from shared.testing.service import ServiceUnderTest
from shared.web.testing import Client

__all__ = ["ALERT", "Post"]

ALERT = {
    "title": "Labels could not be bought",
    "what": "The carrier did not answer.",
    "meaning": "No label was bought.",
    "doing": "We tried four times.",
    "action": "Press Retry.",
    "count": 3,
    "url": "http://127.0.0.1:8000/alerts/1",
}


@dataclass
class Post:
    """Notifications, and the mail server that they send to."""

    service: ServiceUnderTest
    sandbox: Sandbox

    def member(self, email: str = "eve@example.com", **fields: Any) -> Member:
        """Return a new member, known to notifications."""
        values = {"name": "Eve Example", "role": "fulfillment", "status": "active", "sequence": 1, **fields}
        with unit_of_work() as session:
            member = Member(tenant_id=self.service.tenant_id, id=new_id(), email=email, **values)
            session.add(member)
            session.flush()
        return member

    def queue(
        self,
        to: mail.Address | Member | None = None,
        key: str | None = None,
        *,
        template: str = "alert",
        kind: mail.Kind = "alert",
        **options: Any,
    ) -> uuid.UUID | None:
        """Queue a mail; an alert to somebody, unless told otherwise."""
        to = to or mail.Address("bob@example.com", "Bob Example")
        options.setdefault("values", ALERT)
        with unit_of_work() as session:
            return mail.queue(session, template, to, dedupe_key=key or str(new_id()), kind=kind, **options)

    def mail(self, mail_id: uuid.UUID | None) -> Row[Any]:
        """Return the row of a mail."""
        return self.service.query("SELECT * FROM mails WHERE id = :id", id=mail_id)[0]

    def job(self, mail_id: uuid.UUID | None) -> Row[Any]:
        """Return the row of the job that sends a mail."""
        return self.service.query("SELECT * FROM jobs WHERE once_key = :key", key=f"mail:{mail_id}")[0]

    def run(self, mail_id: uuid.UUID | None) -> Row[Any]:
        """Run the job of a mail once; return its row."""
        return self.service.run(self.job(mail_id).id)

    @cached_property
    def web(self) -> Flask:
        """The API; made when it is first asked."""
        return self.service.app.web()

    def client(self, role: str = "owner", principal: str = "user:ada") -> Client:
        """Return a client of the API."""
        signer = self.service.app.secrets.signer
        assert signer is not None
        return Client(self.web, signer, role=role, principal=principal)

    def close(self) -> None:
        """Close the API, if anybody asked it."""
        if "web" in vars(self):
            self.web.extensions["backroom"].close()
