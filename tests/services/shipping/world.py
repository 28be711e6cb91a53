"""A world for tests of shipping: the service running in this process, the carrier's stand-in, a client."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from flask import Flask
from sqlalchemy import text

from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.runtime.app import App
from shared.sandbox import Sandbox
from shared.web import Signer
from shared.web.testing import Client

T = TypeVar("T")

SENDER = {
    "name": "Ada Example",
    "street1": "215 Clayton St.",
    "city": "San Francisco",
    "state": "CA",
    "zip": "94117",
    "country": "US",
}
ADDRESS = {"street1": "1 Broadway", "city": "New York", "state": "NY", "zip": "10004", "country": "US"}
PARCEL = {
    "length": "5",
    "width": "5",
    "height": "5",
    "distance_unit": "in",
    "weight": "2",
    "mass_unit": "lb",
}


class World:
    """The service, its jobs running, and the carrier's stand-in; and what one would do with them."""

    def __init__(self, app: App, web: Flask, signer: Signer, sandbox: Sandbox) -> None:
        self.app, self.web, self.signer, self.sandbox = app, web, signer, sandbox
        self.tenant = ""
        self.numbers = 0

    def client(self, role: str = "owner", principal: str = "user:ada", tenant: str | None = None) -> Client:
        return Client(self.web, self.signer, tenant_id=tenant or self.tenant, principal=principal, role=role)

    def connect(self, tenant: str | None = None, **more: Any) -> dict[str, Any]:
        """Connect a Shippo account of the tenant's name, and wait until it is checked."""
        tenant = tenant or self.tenant
        body = {"token": self.sandbox.token(tenant), "sender": SENDER, **more}
        answer = self.client(tenant=tenant).put("/v1/connections/shippo", body)
        assert answer.status_code == 202, answer.text
        assert answer.json is not None
        self.ended(answer.json["job"]["id"], tenant=tenant)
        return dict(answer.json)

    def draft(self, **changes: Any) -> dict[str, Any]:
        """Return an order that can be entered."""
        self.numbers += 1
        order = {
            "number": f"{1000 + self.numbers}",
            "recipient": {"name": "Bob Example", "email": "bob@example.com"},
            "address": ADDRESS,
            "lines": [{"name": "Kraft box", "quantity": 2}],
            "parcels": [PARCEL],
        }
        return {**order, **changes}

    def order(self, client: Client | None = None, **changes: Any) -> dict[str, Any]:
        answer = (client or self.client()).post("/v1/orders", self.draft(**changes))
        assert answer.status_code == 201, answer.text
        assert answer.json is not None
        return dict(answer.json)

    def buy(self, order: Mapping[str, Any], **body: Any) -> dict[str, Any]:
        """Click on "buy label" and return the answer: the job, and the label in it."""
        answer = self.client("fulfillment").post(f"/v1/orders/{order['id']}/labels", body)
        assert answer.status_code == 202, answer.text
        assert answer.json is not None
        return dict(answer.json)

    def bought(self, order: Mapping[str, Any], **body: Any) -> dict[str, Any]:
        """Buy a label and wait until its job has ended; return the label."""
        accepted = self.buy(order, **body)
        self.ended(accepted["id"])
        return self.label(accepted["label"]["id"])

    def get(self, path: str, tenant: str | None = None) -> dict[str, Any]:
        answer = self.client(tenant=tenant).get(path)
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        return dict(answer.json)

    def label(self, label_id: str) -> dict[str, Any]:
        return self.get(f"/v1/labels/{label_id}")

    def rates(self, order: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Ask for rates, wait for them, and return them, cheapest first."""
        answer = self.client().post(f"/v1/orders/{order['id']}/rates", {})
        assert answer.status_code == 202, answer.text
        assert answer.json is not None
        self.ended(answer.json["id"])
        return list(self.get(f"/v1/orders/{order['id']}/rates")["items"])

    def job(self, job_id: str, tenant: str | None = None) -> dict[str, Any]:
        return self.get(f"/v1/jobs/{job_id}", tenant)

    def ended(self, job_id: str, tenant: str | None = None, timeout: float = 30) -> dict[str, Any]:
        """Wait until a job has ended, and return it."""

        def look() -> dict[str, Any] | None:
            job = self.job(job_id, tenant)
            return job if job["done"] else None

        return self.wait(look, timeout)

    def idle(self, timeout: float = 30) -> None:
        """Wait until nothing of the tenant is under way, but for what is due much later."""
        query = (
            "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running') "
            "OR (state = 'scheduled' AND run_at < clock_timestamp() + interval '10 minutes')"
        )
        self.wait(lambda: self.sql(query)[0][0] == 0, timeout)

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run a statement in the tenant."""
        with use(tenant_id=self.tenant), unit_of_work(database=self.app.database) as session:
            result = session.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Return the data of the tenant's events of these types (`label.purchased`), oldest first."""
        names = [f"backroom.shipping.{name}.v1" for name in types]
        rows = self.sql("SELECT data FROM outbox WHERE type = ANY(:names) ORDER BY id", names=names)
        return [row[0] for row in rows]

    def charges(self) -> list[dict[str, Any]]:
        """Return what the carrier's books say that the tenant was charged for."""
        return self.sandbox.charges(account=self.sandbox.token(self.tenant))

    def wait(self, look: Callable[[], T], timeout: float = 30) -> T:
        """Call `look` until it returns something true, and return that."""
        deadline = time.monotonic() + timeout
        while not (found := look()):
            if time.monotonic() > deadline:
                jobs = self.sql("SELECT actor, state, waiting_for, failure, outcome FROM jobs ORDER BY id DESC LIMIT 9")
                raise AssertionError(f"nothing after {timeout} s; jobs: {jobs}")
            time.sleep(0.02)
        return found

    def run(self, name: str) -> dict[str, Any]:
        """Run a scheduled job of the service now; return what it brought."""
        with use(tenant_id=SYSTEM), unit_of_work(system=True, database=self.app.database):
            job_id = uuid.UUID(self.app.actors[name].send().message_id)

        def look() -> Any:
            with use(tenant_id=SYSTEM), unit_of_work(system=True, database=self.app.database) as session:
                row = session.execute(
                    text("SELECT state, result, failure FROM jobs WHERE id = :id"), {"id": job_id}
                ).one()
            assert row.state != "failed", row.failure
            return row if row.state == "succeeded" else None

        return dict(self.wait(look).result)


@contextmanager
def running(app: App) -> Iterator[None]:
    """The app's worker and relay, in threads."""
    stop = threading.Event()
    relay = threading.Thread(target=app.relay().run, args=(stop,), daemon=True)
    worker = app.worker()
    worker.start()
    relay.start()
    try:
        yield
    finally:
        worker.stop(timeout=5000)
        stop.set()
        relay.join(5)
