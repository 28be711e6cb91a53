"""The baseline: plain Dramatiq actors on the stock RabbitMQ broker, with confirms, and one effect per message.

Loaded by Dramatiq's command as `tests.benchmarks.plain:broker`; PLAIN_BROKER_URL and PLAIN_DATABASE_URL say where.
"""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from sqlalchemy import create_engine, text

broker = RabbitmqBroker(url=os.environ["PLAIN_BROKER_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)

_engine = create_engine(
    os.environ["PLAIN_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"), pool_size=32, max_overflow=0
)


@dramatiq.actor(queue_name="plain")
def write(key: str) -> None:
    """The same effect as `tests.sample.jobs.write`: one row, one commit."""
    with _engine.begin() as connection:
        connection.execute(
            text("INSERT INTO done (tenant_id, key, attempt) VALUES (:tenant, :key, :attempt)"),
            {"tenant": "acme", "key": key, "attempt": 1},
        )


@dramatiq.actor(queue_name="plain")
def stamp(key: str) -> None:
    """The same effect, and when it began."""
    began = time.time()
    with _engine.begin() as connection:
        connection.execute(
            text("INSERT INTO done (tenant_id, key, attempt, at) VALUES (:tenant, :key, 1, to_timestamp(:at))"),
            {"tenant": "acme", "key": key, "at": began},
        )
