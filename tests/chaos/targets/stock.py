"""Chaos on stock Dramatiq: to show that this harness sees losses where there are some."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pika
import pika.exceptions
import psycopg

from shared.db.migrate import create_database
from tests.chaos.processes import Program
from tests.chaos.targets.base import Answered, JobRecord, Purchase

if TYPE_CHECKING:
    from tests.chaos.clients import Caller
    from tests.chaos.world import World

__all__ = ["STOCK_KINDS", "StockTarget"]

STOCK_KINDS = {
    "drop broker connections": 4,
    "kill API process": 4,
    "kill worker": 2,
    "kill broker": 1,
}
"""Of the same faults those that stock Dramatiq does not survive: it acknowledges the wrong message after a reconnect,
publishes without confirms, and its API may die between commit and send."""

_QUIET = 12.0
"""Seconds without a change after which nothing more is to be expected: well above the longest wait for a retry and
the start of a worker."""


class StockTarget:
    """A Flask app and a plain actor on the stock RabbitmqBroker. There is no record of jobs to ask."""

    name = "stock Dramatiq"
    durable = False
    bulk = False

    def __init__(self) -> None:
        self._seen: tuple[Any, float] = (None, time.monotonic())

    def migrate(self, world: World) -> None:
        create_database(world.database_url)
        with world.connect() as connection:
            connection.execute(
                "CREATE TABLE orders (id uuid PRIMARY KEY, number text UNIQUE NOT NULL, "
                "state text NOT NULL DEFAULT 'new')"
            )

    def environment(self, world: World) -> Mapping[str, str]:
        from tests.chaos.world import TOTAL

        return {
            "STOCK_DATABASE_URL": world.proxies.urls["database"],
            "STOCK_BROKER_URL": world.proxies.urls["broker"],
            "STOCK_CARRIER_URL": world.sandbox_url,
            "STOCK_TIMEOUT_SECONDS": str(TOTAL),
        }

    def programs(self, world: World) -> Sequence[Program]:
        api = ["gunicorn", "--worker-class", "gthread", "--threads", "16", "--bind", f"127.0.0.1:{world.api_port}"]
        worker = ["dramatiq", "--processes", "1", "--threads", "8", "tests.chaos.stock"]
        return [
            Program("api", "api", [sys.executable, "-m", *api, "tests.chaos.stock:app"]),
            Program("worker", "worker-1", [sys.executable, "-m", *worker]),
            Program("worker", "worker-2", [sys.executable, "-m", *worker]),
        ]

    def ready(self, world: World) -> None:
        """The API answers; a worker that is late only finds more to do."""

    def enroll(self, world: World, caller: Caller) -> None:
        """All orders are one customer's."""

    def create(self, caller: Caller, number: str, key: str | None) -> str | None:
        answer = caller.post("/v1/orders", {"number": number}, key)
        return answer["id"] if answer else None

    def purchase(self, caller: Caller, order_id: str, key: str | None) -> Answered | None:
        answer = caller.post(f"/v1/orders/{order_id}/purchase", None, key)
        return Answered({order_id: None}) if answer else None

    def purchase_many(self, caller: Caller, order_ids: Sequence[str], key: str | None) -> Answered | None:
        raise NotImplementedError("there are no bulk purchases")

    def progress(self, connection: psycopg.Connection[Any], world: World) -> tuple[int, Any]:
        """Nothing can say what is under way, so it is over when nothing has moved for a while."""
        waiting = 0
        with contextlib.suppress(pika.exceptions.AMQPError):
            broker = pika.BlockingConnection(pika.URLParameters(world.rabbit.url))
            for queue in ("default", "default.DQ"):
                waiting += broker.channel().queue_declare(queue, passive=True).method.message_count
            broker.close()
        states = connection.execute("SELECT state, count(*) FROM orders GROUP BY state ORDER BY state").fetchall()
        mark = (waiting, world.ledger_path.stat().st_size, states)
        if mark != self._seen[0] or waiting:
            self._seen = mark, time.monotonic()
        return int(waiting or time.monotonic() - self._seen[1] < _QUIET), (mark, time.monotonic())

    def situation(self, connection: psycopg.Connection[Any]) -> str:
        return str(self._seen[0])

    def purchases(self, connection: psycopg.Connection[Any]) -> list[Purchase]:
        return [
            Purchase(str(order), f"order:{order}", "purchased" if state == "purchased" else "open", None)
            for order, state in connection.execute("SELECT id, state FROM orders WHERE state <> 'new'")
        ]

    def jobs(self, connection: psycopg.Connection[Any]) -> list[JobRecord]:
        return []

    def reference_of(self, entry: Mapping[str, Any]) -> str:
        return str(entry["metadata"])
