"""A workspace full of people, for tests of who is told what."""

from __future__ import annotations

import uuid
from typing import Any

from shared.context import use
from shared.events.contracts import EventContract
from shared.events.contracts.jobs import JobFailed, of_service
from shared.events.contracts.workspaces import MemberChanged
from shared.testing.events import deliver
from shared.testing.service import ServiceUnderTest
from shared.web.testing import Client

ROLES = ("owner", "manager", "sales", "fulfillment")


class Office:
    """One member of each role and a second one in sales, `rival`; all active."""

    def __init__(self, notifications: ServiceUnderTest, tenant_id: str = "acme") -> None:
        self.service, self.tenant_id = notifications, tenant_id
        self.members: dict[str, uuid.UUID] = {}
        self._web: Any = None
        for name in (*ROLES, "rival"):
            self.join(name, "sales" if name == "rival" else name)
        notifications.drain()

    def join(self, name: str, role: str, status: str = "active", member_id: uuid.UUID | None = None) -> None:
        self.members[name] = member_id or self.members.get(name) or uuid.uuid4()
        member = MemberChanged.model_validate(
            {"member_id": self.members[name], "email": f"{name}@example.com", "name": name, "role": role,
             "status": status}
        )  # fmt: skip
        self.hear(member, sequence=len(self.members))

    def principal(self, name: str) -> str:
        return f"user:{self.members[name]}"

    def hear(self, event: EventContract | dict[str, Any], **attributes: Any) -> str:
        if not isinstance(event, dict):
            attributes.setdefault("tenant_id", self.tenant_id)
        return deliver(self.service, event, **attributes)

    def told(self, kind: str | None = None) -> dict[str, list[str]]:
        """Return the titles that each was told, by name."""
        rows = self.service.query(
            "SELECT r.member_id, n.title FROM notice_receipts r JOIN notices n ON n.id = r.notice_id "
            "WHERE r.tenant_id = :tenant AND n.kind = coalesce(:kind, n.kind) ORDER BY r.told_at",
            tenant=self.tenant_id,
            kind=kind,
        )
        names = {member: name for name, member in self.members.items()}
        found: dict[str, list[str]] = {}
        for member, title in rows:
            found.setdefault(names[member], []).append(title)
        return found

    def mailed(self, template: str | None = None) -> list[str]:
        """Return who is written to, by name."""
        rows = self.service.query(
            "SELECT recipient FROM mails WHERE tenant_id = :tenant AND template = coalesce(:template, template)",
            tenant=self.tenant_id,
            template=template,
        )
        return sorted(recipient.partition("@")[0] for (recipient,) in rows)

    def handle(self) -> None:
        """Have all events handled; mails stay queued."""
        self.service.drain(queues=["handlers", "default"])

    def client(self, name: str) -> Client:
        """Return a client signed in as this member."""
        if self._web is None:
            self._web = self.service.app.web()
        signer = self.service.app.secrets.signer
        assert signer is not None
        role = "sales" if name == "rival" else name
        return Client(self._web, signer, tenant_id=self.tenant_id, principal=self.principal(name), role=role)

    def close(self) -> None:
        if self._web is not None:
            self._web.extensions["backroom"].close()


def failed(service: str = "shipping", **changes: Any) -> JobFailed:
    """Return a job's failure, of a job of its own."""
    example = {**JobFailed.example().model_dump(), "job_id": str(uuid.uuid4()), **changes}
    return of_service(JobFailed, service).model_validate(example)


def as_tenant(tenant_id: str) -> use:
    return use(tenant_id=tenant_id)
