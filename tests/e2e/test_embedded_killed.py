"""`backroom up`, killed with SIGKILL in the middle of its work: the next start goes on, and nothing is bought twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from shared.sandbox import SandboxClient
from shared.testing.service import wait_until

ROOT = Path(__file__).resolve().parents[2]
ORDERS = 24
SENDER = {
    "name": "Ada",
    "street1": "215 Clayton St",
    "city": "San Francisco",
    "state": "CA",
    "zip": "94117",
    "country": "US",
}


class Embedded:
    """A `backroom up` of its own, on a data directory that outlives it."""

    def __init__(self, data_dir: Path) -> None:
        self.port, self.sandbox_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.sandbox = SandboxClient(f"http://127.0.0.1:{self.sandbox_port}")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("BACKROOM_", "SHIPPING_"))},
            "PYTHONPATH": str(ROOT),
            "BACKROOM_DATA_DIR": str(data_dir),
            "BACKROOM_PORT": str(self.port),
            "BACKROOM_SERVICES": '["shipping"]',
            "BACKROOM_SANDBOX_PORT": str(self.sandbox_port),
            "BACKROOM_RETRY_SCALE": "0.02",
            "BACKROOM_LOG_LEVEL": "WARNING",
            "SHIPPING_SHIPPO_OWN_LIMITS": "false",
            "SHIPPING_SHIPPO_READ_SECONDS": "2",
            "SHIPPING_SHIPPO_TOTAL_SECONDS": "2.5",
            "SHIPPING_SETTLE_SECONDS": "5.5",
        }
        self.session = requests.Session()

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        """It runs for as long as the block lasts, or until somebody kills it."""
        running = subprocess.Popen([sys.executable, "-m", "shared.runtime.cli", "up"], env=self.environment, cwd=ROOT)
        try:
            wait_until(self._ready, 60, "backroom up")
            yield running
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait(60)

    def _ready(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/readyz", timeout=2).ok
        return False

    def token(self) -> str:
        arguments = [sys.executable, "-m", "shared.runtime.cli", "token", "--tenant", "acme"]
        answer = subprocess.run(arguments, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=True)
        return answer.stdout.strip()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.session.request(method, self.url + path, json=body, timeout=30)
        assert answer.ok, answer.text
        return answer.json()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _order(number: int) -> dict[str, Any]:
    return {
        "number": str(number),
        "recipient": {"name": "Bob Example"},
        "address": {"street1": "1 Broadway", "city": "New York", "state": "NY", "zip": "10004", "country": "US"},
        "lines": [{"name": "Kraft box"}],
        "parcels": [
            {"length": "5", "width": "5", "height": "5", "distance_unit": "in", "weight": "2", "mass_unit": "lb"}
        ],
    }


def test_a_kill_in_the_middle_loses_nothing_and_buys_nothing_twice(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path)

    # Given labels being bought from a slow carrier
    with embedded.up() as running:
        embedded.session.headers["Authorization"] = f"Bearer {embedded.token()}"
        embedded.sandbox.limits(0)
        body = {"token": embedded.sandbox.token("acme"), "sender": SENDER}
        job = embedded.call("PUT", "/v1/connections/shippo", body)["job"]
        wait_until(lambda: embedded.call("GET", f"/v1/jobs/{job['id']}")["done"])
        drafts = [_order(1000 + number) for number in range(ORDERS)]
        orders = [order["id"] for order in embedded.call("POST", "/v1/orders/bulk", {"orders": drafts})["items"]]
        embedded.sandbox.faults.add("latency", method="POST", path="/transactions", seconds=0.5)
        parent = embedded.call("POST", "/v1/labels/bulk", {"order_ids": orders})
        wait_until(lambda: len(embedded.sandbox.charges()) >= 3)

        # When the whole of it is killed
        running.send_signal(signal.SIGKILL)
        running.wait(30)

    # Then the next start goes on, until every order has its one label
    with embedded.up():
        embedded.sandbox.limits(0)
        wait_until(lambda: embedded.call("GET", f"/v1/jobs/{parent['id']}")["done"], 90)
        assert embedded.call("GET", f"/v1/jobs/{parent['id']}")["result"]["succeeded"] == ORDERS
        charged = {charge["transaction"] for charge in embedded.sandbox.charges()}
        labels = [embedded.call("GET", f"/v1/orders/{order}/labels")["items"] for order in orders]
        assert all([label["status"] for label in of_order] == ["purchased"] for of_order in labels)
        assert len(charged) == ORDERS
