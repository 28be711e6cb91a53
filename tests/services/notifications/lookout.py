"""What a member who watches does, and what happens around: orders that come and go, time that passes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from werkzeug.test import TestResponse

from services.notifications.jobs import check_watches
from services.notifications.models import Order
from shared.context import SYSTEM, use
from shared.db import new_id, unit_of_work
from shared.testing.service import ServiceUnderTest
from shared.web.testing import Client
from tests.services.notifications.receiver import member

__all__ = ["Lookout", "order"]


def order(created_by: str = "user:somebody", *, tenant_id: str = "acme", **fields: Any) -> UUID:
    """An order as the projection has it; New and of this moment unless told otherwise."""
    now = datetime.now(UTC)
    values = {"number": "1042", "state": "New", "since": now, "ordered_at": now, **fields}
    made = new_id()
    with use(tenant_id=tenant_id), unit_of_work() as session:
        session.add(Order(tenant_id=tenant_id, id=made, created_by=created_by, sequence=1, **values))
    return made


class Lookout:
    """A member with watches."""

    def __init__(self, service: ServiceUnderTest, client: Client, role: str = "manager") -> None:
        self.service = service
        self.member_id = member(role)
        self.client = client.role(role, f"user:{self.member_id}")
        self.principal = f"user:{self.member_id}"

    def draft(self, text: str, frequency: int = 15) -> TestResponse:
        return self.client.post("/v1/watches", {"text": text, "frequency": frequency})

    def written(self, text: str, frequency: int = 15) -> dict[str, Any]:
        """Write a watch, and have its rule written; return it as it is shown then."""
        drafted = self.draft(text, frequency)
        assert drafted.status_code == 202, drafted.text
        job = self.service.run(UUID(drafted.json["job"]["id"]))
        assert job.state == "succeeded", job
        return self.read(drafted.json["watch"]["id"])

    def watch(self, text: str, frequency: int = 15) -> str:
        """Write a watch and confirm it; return its id. Its first check waits to be run."""
        written = self.written(text, frequency)
        assert self.act(written["id"], "confirm").status_code == 200
        return str(written["id"])

    def act(self, watch_id: str, what: str) -> TestResponse:
        return self.client.post(f"/v1/watches/{watch_id}/{what}")

    def read(self, watch_id: str) -> dict[str, Any]:
        answered = self.client.get(f"/v1/watches/{watch_id}")
        assert answered.status_code == 200, answered.text
        return dict(answered.json)

    def tick(self, minutes: float = 15) -> dict[str, int]:
        """Let time pass, and have what is due checked, as the schedule does; return the counts of the workspace."""
        ago = timedelta(minutes=minutes)
        self.service.execute("UPDATE watches SET next_run_at = next_run_at - :ago", ago=ago)
        self.service.execute("UPDATE orders SET since = since - :ago, ordered_at = ordered_at - :ago", ago=ago)
        return self.checked()

    def checked(self) -> dict[str, int]:
        self.service.run_job(check_watches, tenant_id=SYSTEM)
        self.service.drain()
        jobs = self.service.jobs(actor="check_watches_of_workspace")
        return dict(jobs[-1].result) if jobs else {}

    def told(self) -> list[Row[Any]]:
        """The notices that the member was told, oldest first."""
        return self.service.query(
            "SELECT n.* FROM notices n JOIN notice_receipts r ON r.notice_id = n.id AND r.tenant_id = n.tenant_id "
            "WHERE r.member_id = :member ORDER BY n.id",
            member=self.member_id,
        )
