"""Examining a service: its settings, wiring, database, broker, workers, schedules and backlog."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pika
import pika.exceptions
import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.runtime.app import App, WiringError, build
from shared.runtime.service import Service
from shared.runtime.settings import BadSettings, Settings

__all__ = ["Finding", "examine"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`level` is ok, warning or wrong; `mend` says what to do."""

    level: str
    what: str
    mend: str = ""


def examine(service: Service, settings: Settings) -> Iterator[Finding]:
    """Yield findings, from the ground up; stops at what everything later would stumble over."""
    if settings.database_url is None:
        yield Finding("ok", "embedded: everything runs in `backroom up`, which looks after itself")
        return
    for name in ("secret_key", "encryption_keys", "jwks"):
        if getattr(settings, name) is None:
            yield Finding(
                "warning",
                f"BACKROOM_{name.upper()} is not set: each machine makes its own, and they will not agree",
                "give all processes of the installation the same one",
            )
    try:
        app = build(service, settings)
    except (WiringError, BadSettings, ValueError) as error:
        yield Finding("wrong", f"cannot be built: {error}", "correct the declaration or the setting named")
        return
    schedules = [actor for actor in app.actors.values() if actor.job.periodic is not None]
    yield Finding(
        "ok", f"{len(app.actors)} jobs, {len(schedules)} schedules, {len(app.handlers)} types of events handled"
    )
    try:
        current = app.migrated()
    except (DBAPIError, psycopg.Error) as error:
        yield Finding(
            "wrong", f"database: {str(error).splitlines()[0]}", "is BACKROOM_DATABASE_URL right, and is it up?"
        )
        return
    if not current:
        yield Finding("wrong", "database: behind this code", f"backroom db upgrade {service.name}")
        return
    yield Finding("ok", "database: reachable, up to date")
    yield from _broker(app)
    yield from _rows(app)


def _broker(app: App) -> Iterator[Finding]:
    if app.settings.broker_url is None:
        yield Finding("ok", "broker: in this process (no BACKROOM_BROKER_URL)")
        return
    try:
        connection = pika.BlockingConnection(pika.URLParameters(app.settings.broker_url))
        connection.close()
    except (pika.exceptions.AMQPError, OSError) as error:
        yield Finding("wrong", f"broker: {error!r}", "is BACKROOM_BROKER_URL right, and is RabbitMQ up?")
        return
    yield Finding("ok", "broker: reachable")


_UNKNOWN = """
SELECT actor, count(*) FROM (SELECT actor FROM jobs WHERE state = 'scheduled' LIMIT 100000) AS waiting
WHERE actor <> ALL(:known) GROUP BY actor
"""

_WORKERS = """
SELECT count(*) FILTER (WHERE heartbeat_at > clock_timestamp() - interval '5 seconds'), count(*) FROM workers
"""

_OLDEST = """
SELECT queue, extract(epoch FROM clock_timestamp() - min(run_at))::int FROM jobs
WHERE state = 'scheduled' AND run_at < clock_timestamp() GROUP BY queue
"""


def _rows(app: App) -> Iterator[Finding]:
    with app.database.system.connect() as connection:
        for actor, count in connection.execute(text(_UNKNOWN), {"known": list(app.actors)}):
            yield Finding(
                "wrong",
                f"{count} jobs wait for {actor!r}, which this code does not know",
                "deploy the code that knows it, or cancel them",
            )
        live, listed = connection.execute(text(_WORKERS)).one()
        if not live:
            yield Finding("warning", "workers: none is running", f"backroom worker {app.service.name}")
        else:
            yield Finding("ok", f"workers: {live} running" + (f", {listed - live} silent" if listed > live else ""))
        for queue, seconds in connection.execute(text(_OLDEST)):
            level = "warning" if seconds > 60 else "ok"
            yield Finding(level, f"queue {queue}: the oldest due job waits for {seconds} s")
        for name, reason in connection.execute(text("SELECT name, reason FROM queues WHERE paused_at IS NOT NULL")):
            yield Finding(
                "warning",
                f"queue {name} is paused: {reason or 'no reason given'}",
                f"backroom queues resume --service {app.service.name} {name}",
            )
        for provider, tenant, error in connection.execute(
            text("SELECT provider, tenant_id, last_error FROM circuits WHERE state <> 'closed'")
        ):
            yield Finding("warning", f"{provider} ({tenant}) is down: {error}", "its jobs wait; it is probed by itself")
        pending = connection.execute(
            text("SELECT count(*) FROM outbox WHERE published_at IS NULL AND created_at < now() - interval '1 minute'")
        ).scalar_one()
        if pending:
            yield Finding("wrong", f"{pending} events are not published", "is a worker (with its relay) running?")
