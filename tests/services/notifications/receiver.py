"""A tenant's own system, over real HTTP: it takes webhooks, or does not, as a test wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from standardwebhooks import Webhook

from services.notifications.models import Member
from shared.db import new_id, unit_of_work
from shared.events.contracts import EventContract
from shared.events.contracts.shipping import OrderCreated
from shared.testing.events import deliver
from shared.testing.service import ServiceUnderTest
from shared.web.testing import Client
from tests.outbound.raw_server import Server, answer

__all__ = ["Endpoint", "Receiver", "member"]


class Receiver(Server):
    """`answers` are given in order, then 200; `got` is what was taken, as (headers, body)."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Callable[..., None]] = []
        self.handler = self._answer

    def _answer(self, connection: Any, request: bytes) -> None:
        (self.answers.pop(0) if self.answers else answer(b"ok"))(connection, request)

    def says(self, status: str, body: bytes = b"", *headers: str, times: int = 1) -> None:
        """Give this answer next, so many times."""
        self.answers += [answer(body, status, *headers)] * times

    @property
    def got(self) -> list[tuple[dict[str, str], bytes]]:
        found = []
        for request in self.requests:
            head, _, body = request.partition(b"\r\n\r\n")
            lines = [line.decode().partition(": ") for line in head.split(b"\r\n")[1:]]
            found.append(({name.lower(): value for name, _, value in lines}, body))
        return found

    def verified(self, secret: str) -> list[dict[str, Any]]:
        """All that was taken, once the reference library has verified it."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.got]


class Endpoint:
    """An endpoint at a receiver, from its owner's side."""

    def __init__(self, service: ServiceUnderTest, owner: Client, url: str, *event_types: str) -> None:
        self.service, self.owner = service, owner
        body = {"url": url, "event_types": list(event_types or ("order.created",))}
        made = owner.post("/v1/webhook-endpoints", body)
        assert made.status_code == 201, made.text
        self.secret: str = made.json["secret"]
        self.id = UUID(made.json["endpoint"]["id"])
        self.path: str = made.headers["Location"]

    def happens(self, event: EventContract | None = None, *, tenant_id: str = "acme", **attributes: Any) -> str:
        """Let something happen that it is told of; return the event's id."""
        event_id = deliver(self.service, event or OrderCreated.example(), tenant_id=tenant_id, **attributes)
        self.service.drain(queues=["handlers"])
        return event_id

    def jobs(self) -> list[Row[Any]]:
        return self.service.jobs(actor="deliver_webhook")

    def attempt(self) -> Row[Any]:
        """Let the next attempt of the one delivery be made now; return its job."""
        (job,) = self.jobs()
        return self.service.run(job.id)

    def deliveries(self, **filters: str) -> list[dict[str, Any]]:
        """The log, the latest first."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())
        answered = self.owner.get(f"{self.path}/deliveries?{query}")
        assert answered.status_code == 200, answered.text
        return list(answered.json["items"])

    def delivery(self) -> dict[str, Any]:
        """The one delivery."""
        (only,) = self.deliveries()
        return only

    def view(self) -> dict[str, Any]:
        return dict(self.owner.get(self.path).json)

    def change(self, **fields: Any) -> dict[str, Any]:
        changed = self.owner.patch(self.path, fields)
        assert changed.status_code == 200, changed.text
        return dict(changed.json)

    def age(self, **columns: str) -> None:
        """Shift times of the endpoint into the past: `age(failing_since="6 days")`."""
        for name, ago in columns.items():
            self.service.execute(
                f"UPDATE webhook_endpoints SET {name} = {name} - CAST(:ago AS interval) WHERE id = :id",
                ago=ago,
                id=self.id,
            )


def member(role: str = "owner", status: str = "active", name: str = "Ada") -> UUID:
    """A member of the current tenant."""
    made = new_id()
    with unit_of_work() as session:
        session.add(
            Member(
                tenant_id="acme",
                id=made,
                email=f"{made}@example.com",
                name=name,
                role=role,
                status=status,
                sequence=1,
            )
        )
    return made
