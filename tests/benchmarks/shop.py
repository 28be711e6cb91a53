"""A shop to measure: shipping with orders, labels, and the requests that people and the carrier make of them."""

from __future__ import annotations

import random
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from shared.sandbox import Sandbox
from tests.benchmarks.bench import Place, wait
from tests.benchmarks.load import Request, request

__all__ = ["Shop"]

_ADDRESS = {"street1": "1 Broadway", "city": "New York", "state": "NY", "zip": "10004", "country": "US"}
_PARCEL = {"length": "5", "width": "5", "height": "5", "distance_unit": "in", "weight": "2", "mass_unit": "lb"}
_SENDER = {**_ADDRESS, "name": "Ada Example", "street1": "215 Clayton St.", "city": "San Francisco", "state": "CA"}
_CONNECTION = {"token": "shippo_test_acme", "sender": {**_SENDER, "zip": "94117"}}

_CANCEL = """
UPDATE jobs SET state = 'cancelled', outcome = 'cancelled', finished_at = clock_timestamp()
WHERE id IN (SELECT id FROM jobs WHERE state = 'scheduled' FOR UPDATE SKIP LOCKED)
"""
_FLYING = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"


class Shop:
    """Orders, labels, and the requests that people and the carrier make of them."""

    def __init__(self, here: Place, sandbox: Sandbox, url: str) -> None:
        self.here, self.sandbox, self.url = here, sandbox, url
        self.stuck = 0
        self.numbers = 0
        signer = here.app.secrets.signer
        assert signer is not None
        self.token = signer.issue("acme", "user:ada", "owner", 7200)
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def open(self, orders: int, labels: int) -> None:
        """Connect the carrier, enter orders, buy labels for some, and wait until they are there."""
        answer = self.call("PUT", "/v1/connections/shippo", _CONNECTION)
        self.webhook_token = parse_qs(urlsplit(answer["webhook_url"]).query)["token"][0]
        wait(lambda: self.call("GET", "/v1/connections/shippo")["status"] == "connected", 60)
        entered: list[dict[str, Any]] = []
        while len(entered) < orders:
            entered += self.call("POST", "/v1/orders/bulk", {"orders": [self.draft() for _ in range(40)]})["items"]
        self.bought, self.fresh = [order["id"] for order in entered[:labels]], [order["id"] for order in entered[80:]]
        self.common = [order["id"] for order in entered[labels:80]]
        self.addresses = [order["address"]["id"] for order in entered[:80]]
        self.boxless: list[str] = []
        while len(self.boxless) < len(self.fresh):
            more = self.call("POST", "/v1/orders/bulk", {"orders": [self.draft() for _ in range(40)]})["items"]
            self.boxless += [order["id"] for order in more]
        # As imported orders are, which nobody has packed yet.
        self.here.execute("DELETE FROM parcels WHERE order_id = ANY(CAST(:orders AS uuid[]))", orders=self.boxless)
        for order_id in self.bought:
            self.call("POST", f"/v1/orders/{order_id}/labels", {})
            self.call("POST", f"/v1/orders/{order_id}/rates", {})
        ready = "SELECT id::text, tracking_number, carrier FROM labels WHERE file_key IS NOT NULL ORDER BY id"
        wait(lambda: len(self.here.query(ready)) == labels and not self.here.query(_FLYING)[0][0], 120)
        self.labels = self.here.query(ready)
        self.jobs = [str(row[0]) for row in self.here.query("SELECT id FROM jobs ORDER BY id LIMIT 50")]

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self.http.request(method, self.url + path, json=body, timeout=30)
        answer.raise_for_status()
        return dict(answer.json())

    def draft(self) -> dict[str, Any]:
        self.numbers += 1
        return {
            "number": f"B{self.numbers}",
            "recipient": {"name": "Bob Example", "email": "bob@example.com"},
            "address": _ADDRESS,
            "lines": [{"name": "Kraft box", "quantity": 2}],
            "parcels": [_PARCEL],
        }

    def calm(self) -> None:
        """Let the carrier be well, and nothing be left to do."""
        self.sandbox.faults.clear()
        deadline = time.monotonic() + 120
        while True:
            self.here.execute(_CANCEL)
            self.sandbox.release()
            if not self.here.query(_FLYING)[0][0] or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        self.here.execute("DELETE FROM circuits")
        self.here.execute("DELETE FROM queues")

    def pause(self) -> None:
        """Let nothing run."""
        for queue in self.here.app.queues:
            self.here.execute("INSERT INTO queues (name, paused_at) VALUES (:name, now())", name=queue.name)

    def hang(self, stuck: int) -> None:
        """Let every call of the carrier hang, and wait until the worker, of so many threads, is stuck in some."""
        self.sandbox.faults.add("hang", seconds=60)
        for address in self.addresses[:stuck]:
            self.call("POST", f"/v1/addresses/{address}/validate")
        wait(lambda: self.sandbox.state()["hanging"] > 0, 30, 0.02)

    def requests(self, samples: int) -> list[Request]:
        """Return so many requests of each endpoint, well mixed."""
        made = [one for _ in range(samples) for one in self._round()]
        random.Random(samples).shuffle(made)
        return made

    def _round(self) -> list[Request]:
        order, bought = random.choice(self.common), random.choice(self.bought)
        label, number, carrier = random.choice(self.labels)
        address = random.choice(self.addresses)
        many = {"order_ids": random.sample(self.common, min(20, len(self.common)))}
        scan = {
            "carrier": carrier,
            "tracking_number": number,
            "tracking_status": {
                "status": "TRANSIT",
                "status_date": f"2026-01-01T{random.randrange(24):02}:{random.randrange(60):02}:00Z",
            },
            "tracking_history": [],
        }
        one = f"/v1/orders/{order}"
        plans: list[tuple[str, str, Any]] = [
            ("GET /v1/connections/shippo", "/v1/connections/shippo", None),
            ("PUT /v1/connections/shippo", "/v1/connections/shippo", _CONNECTION),
            ("POST /v1/orders", "/v1/orders", self.draft()),
            ("POST /v1/orders/bulk", "/v1/orders/bulk", {"orders": [self.draft() for _ in range(3)]}),
            ("GET /v1/orders", "/v1/orders?limit=20", None),
            ("GET /v1/orders/{id}", one, None),
            ("PATCH /v1/orders/{id}", one, {"note": "by noon"}),
            ("POST /v1/orders/{id}/parcels", f"/v1/orders/{_next(self.boxless)}/parcels", {"parcels": [_PARCEL]}),
            ("POST /v1/orders/{id}/transitions", f"{one}/transitions", {"to": "Processing"}),
            ("GET /v1/orders/{id}/transitions", f"{one}/transitions", None),
            ("GET /v1/addresses/{id}", f"/v1/addresses/{address}", None),
            ("POST /v1/addresses/{id}/validate", f"/v1/addresses/{address}/validate", ""),
            ("POST /v1/addresses/validate", "/v1/addresses/validate", many),
            ("POST /v1/orders/{id}/rates", f"{one}/rates", {}),
            ("GET /v1/orders/{id}/rates", f"/v1/orders/{bought}/rates", None),
            ("POST /v1/orders/{id}/labels", f"/v1/orders/{_next(self.fresh)}/labels", {}),
            ("POST /v1/labels/bulk", "/v1/labels/bulk", many),
            ("GET /v1/orders/{id}/labels", f"/v1/orders/{bought}/labels", None),
            ("GET /v1/labels/{id}", f"/v1/labels/{label}", None),
            ("GET /v1/labels/{id}/file", f"/v1/labels/{label}/file", None),
            ("POST /v1/labels/{id}/refund", f"/v1/labels/{self.labels[0][0]}/refund", ""),
            ("GET /v1/orders/{id}/tracking", f"/v1/orders/{bought}/tracking", None),
            ("POST /v1/orders/{id}/tracking/refresh", f"/v1/orders/{bought}/tracking/refresh", ""),
            ("POST /v1/webhooks/shippo/{tenant}", f"/v1/webhooks/shippo/acme?token={self.webhook_token}",
             {"event": "track_updated", "test": True, "data": scan}),
            ("GET /v1/jobs", "/v1/jobs?limit=20", None),
            ("GET /v1/jobs/{id}", f"/v1/jobs/{random.choice(self.jobs)}", None),
        ]  # fmt: skip
        return [
            request(name, name.split()[0], path, None if body == "" else body, token=self.token)
            for name, path, body in plans
        ]


def _next(orders: list[str]) -> str:
    # The last one comes again rather than run out.
    return orders.pop() if len(orders) > 1 else orders[0]
