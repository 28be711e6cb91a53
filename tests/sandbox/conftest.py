"""A sandbox per test, a customer of its Shippo, and a receiver of webhooks. All over real HTTP."""

import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from shared.sandbox import Sandbox

ADDRESS = {
    "name": "Ada Example",
    "street1": "215 Clayton St.",
    "city": "San Francisco",
    "state": "CA",
    "zip": "94117",
    "country": "US",
}
PARCEL = {
    "length": "5",
    "width": "5",
    "height": "5",
    "distance_unit": "in",
    "weight": "2",
    "mass_unit": "lb",
}


class Customer:
    """One account of the sandbox's Shippo, and what one would do with it."""

    def __init__(self, sandbox: Sandbox, name: str = "acme", live: bool = False, timeout: float = 5.0):
        self.url = sandbox.url
        self.token = sandbox.token(name, live)
        self.timeout = timeout
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"ShippoToken {self.token}"

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.http.get(self.url + path, params=params, timeout=self.timeout)

    def post(self, path: str, body: Any = None, timeout: float | None = None) -> requests.Response:
        return self.http.post(self.url + path, json=body, timeout=timeout or self.timeout)

    def shipment(self, to: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        body = {"address_from": ADDRESS, "address_to": {**ADDRESS, **(to or {})}, "parcels": [PARCEL], **more}
        answer = self.post("/shipments", body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def rate(self, to: dict[str, Any] | None = None) -> str:
        return str(self.shipment(to)["rates"][0]["object_id"])

    def buy(self, rate: str, metadata: str = "", timeout: float | None = None, **more: Any) -> requests.Response:
        body = {"rate": rate, "async": False, "metadata": metadata, **more}
        return self.post("/transactions", body, timeout)

    def hook(self, url: str, event: str = "all") -> None:
        assert self.post("/webhooks", {"event": event, "url": url}).status_code == 201


class Receiver:
    """An endpoint for webhooks: `next()` is the next request; `answers` are statuses to give, then 200."""

    def __init__(self) -> None:
        self.received: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.put((dict(self.headers), body))
                self.send_response(outer.answers.pop(0) if outer.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def next(self) -> tuple[dict[str, str], bytes]:
        return self.received.get(timeout=5)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Without rate limits; purchases and refunds settle only when a test says so."""
    with Sandbox.start(seed=1, limits=0, settle_seconds=3600.0) as running:
        yield running


@pytest.fixture
def customer(sandbox: Sandbox) -> Customer:
    return Customer(sandbox)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def address() -> dict[str, str]:
    return dict(ADDRESS)


@pytest.fixture
def parcel() -> dict[str, str]:
    return dict(PARCEL)
