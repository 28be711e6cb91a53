"""What the harness has to know of a target, and what every service of Backroom has in common."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pika
import pika.exceptions
import psycopg

from shared.db.migrate import upgrade
from shared.runtime.service import Service
from tests.chaos.processes import Program

if TYPE_CHECKING:
    from tests.chaos.clients import Caller
    from tests.chaos.world import World

__all__ = ["AUDIT", "Answered", "BackroomTarget", "JobRecord", "Purchase", "Target"]

AUDIT = "chaos.audit"
"""A queue outside of the system that is bound to all events."""


@dataclass(slots=True)
class Purchase:
    """Something bought or to be bought, as the target's own records have it."""

    order_id: str
    reference: str
    """What identifies it in the metadata of a charge."""
    state: str
    """purchased, failed, needs_review, or open."""
    job_id: str | None
    transaction: str | None = None


@dataclass(slots=True)
class JobRecord:
    """A job as the target's own records have it."""

    id: str
    tenant: str
    actor: str
    state: str
    outcome: str | None
    code: str | None
    alerts: int
    """Events that say that it failed."""
    detail: str | None = None
    """What its last attempt said of itself."""


@dataclass(slots=True)
class Answered:
    """What a 2xx to a purchase promised: jobs, by the order that they are for. `None` where it names no job."""

    jobs: dict[str, str | None] = field(default_factory=dict)
    parent: str | None = None


class Target(Protocol):
    """A system under test."""

    name: str
    durable: bool
    """Whether it keeps records of jobs, by which we can ask what became of each."""
    bulk: bool
    """Whether many orders can be bought by one request."""

    def migrate(self, world: World) -> None:
        """Make its database."""

    def environment(self, world: World) -> Mapping[str, str]:
        """Return its own environment variables."""

    def programs(self, world: World) -> Sequence[Program]:
        """Return what to run; one has the role `api`."""

    def ready(self, world: World) -> None:
        """Called once when its API answers."""

    def enroll(self, world: World, caller: Caller) -> None:
        """Make a tenant ready to buy."""

    def create(self, caller: Caller, number: str, key: str | None) -> str | None:
        """Create an order; return its id, None when it was not accepted."""

    def purchase(self, caller: Caller, order_id: str, key: str | None) -> Answered | None:
        """Ask for a purchase until a definite answer comes; None when it was refused."""

    def purchase_many(self, caller: Caller, order_ids: Sequence[str], key: str | None) -> Answered | None:
        """The same for many orders by one request."""

    def progress(self, connection: psycopg.Connection[Any], world: World) -> tuple[int, Any]:
        """Return how much is still under way, and a value that changes whenever anything happens."""

    def situation(self, connection: psycopg.Connection[Any]) -> str:
        """Say in a line what is under way and why it waits."""

    def purchases(self, connection: psycopg.Connection[Any]) -> list[Purchase]:
        """Return its records of purchases."""

    def jobs(self, connection: psycopg.Connection[Any]) -> list[JobRecord]:
        """Return its records of jobs."""

    def reference_of(self, entry: Mapping[str, Any]) -> str:
        """Return the reference that a charge in the ledger bears."""


class BackroomTarget:
    """A service of Backroom: an API, two workers with their relays, a scheduler."""

    name = ""
    durable = True
    bulk = False
    service: Service
    argument: str
    """How the command line names the service."""

    def migrate(self, world: World) -> None:
        upgrade(world.database_url, self.service.migrations())

    def environment(self, world: World) -> Mapping[str, str]:
        return {}

    def programs(self, world: World) -> Sequence[Program]:
        command = [sys.executable, "-m", "shared.runtime.cli"]
        return [
            Program("api", "api", [*command, "api", self.argument]),
            Program("worker", "worker-1", [*command, "worker", self.argument]),
            Program("worker", "worker-2", [*command, "worker", self.argument]),
            Program("scheduler", "scheduler", [*command, "scheduler", self.argument]),
        ]

    def ready(self, world: World) -> None:
        """Wait for workers, and bind the queue of the audit to all events."""
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(pika.exceptions.AMQPError), world.connect() as connection:
                workers = connection.execute("SELECT count(*) FROM workers").fetchone()
                if workers and workers[0] >= 2:
                    broker = pika.BlockingConnection(pika.URLParameters(world.rabbit.url))
                    channel = broker.channel()
                    channel.exchange_declare("events", passive=True)
                    channel.queue_declare(AUDIT, durable=True, arguments={"x-queue-type": "quorum"})
                    channel.queue_bind(AUDIT, "events", "#")
                    broker.close()
                    break
            if time.monotonic() > deadline:
                raise TimeoutError(f"no two workers; the log of one:\n{world.log('worker-1')[-3000:]}")
            time.sleep(0.2)
        # RabbitMQ notes new quorum queues on disk with a delay; a kill before that would lose the queue itself.
        time.sleep(2.5)

    def progress(self, connection: psycopg.Connection[Any], world: World) -> tuple[int, Any]:
        row = connection.execute(
            """
            SELECT count(*) FILTER (WHERE state IN ('scheduled', 'queued', 'running')
                                    AND run_at < now() + interval '10 minutes'),
                   count(*), coalesce(sum(dispatch), 0), coalesce(sum(runs), 0), max(finished_at),
                   (SELECT count(*) FROM outbox WHERE published_at IS NULL)
            FROM jobs
            """
        ).fetchone()
        assert row is not None
        return row[0] + row[5], row

    def situation(self, connection: psycopg.Connection[Any]) -> str:
        rows = connection.execute(
            """
            SELECT queue || ' ' || coalesce(waiting_for, state)
                   || CASE WHEN state = 'scheduled' AND run_at > now() THEN ' later' ELSE '' END, count(*)
            FROM jobs WHERE state IN ('scheduled', 'queued', 'running') GROUP BY 1
            UNION ALL
            SELECT provider || ' circuit ' || state || ' ' || openings, count(*) FROM circuits
            WHERE state <> 'closed' OR openings > 0 GROUP BY 1
            ORDER BY 1
            """
        ).fetchall()
        return ", ".join(f"{what} {count}" for what, count in rows)

    def jobs(self, connection: psycopg.Connection[Any]) -> list[JobRecord]:
        rows = connection.execute(
            """
            SELECT j.id::text, j.tenant_id, j.actor, j.state, j.outcome, j.failure ->> 'code',
                   coalesce(told.times, 0),
                   (SELECT a.detail FROM job_attempts a WHERE a.job_id = j.id ORDER BY a.number DESC LIMIT 1)
            FROM jobs j LEFT JOIN (
                SELECT subject, count(*) AS times FROM outbox WHERE type LIKE '%.job.failed.v1' GROUP BY subject
            ) AS told ON told.subject = j.id::text
            WHERE NOT (j.state = 'scheduled' AND j.run_at > now() + interval '10 minutes')
            """
        ).fetchall()
        return [JobRecord(*row) for row in rows]
