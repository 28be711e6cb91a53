"""The relay: the one that publishes.

One relay per service leads, by advisory lock; the others stand by. It publishes the outbox, takes over
the jobs of dead workers, and hands out due jobs within a small window per queue. It wakes on a hint, on
the next due time, and twice a second all the same.

A job is marked as handed out, then published, then known to be published. A crash in between is mended
by whoever leads next: what is handed out and not yet claimed is handed out anew under a new dispatch
number, and a message that did get through under the old one finds nothing to claim.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy.exc import DBAPIError

from shared.context import SYSTEM, use
from shared.db.database import SYSTEM_ROLE, Database
from shared.db.signals import RELAY
from shared.events.envelope import envelope
from shared.jobs.actor import Actor
from shared.jobs.conclusions import Conclusions
from shared.jobs.pick import HELD, WEIGHT, Gates, Picked, QueueLimits, Rows, in_flight, lines, next_due, pick_queue
from shared.jobs.publisher import EXCHANGE, Pending, PublishFailed, Transport
from shared.jobs.recovery import SUSPENDED, overdue, recover
from shared.jobs.runner import CHUNK
from shared.jobs.wire import (
    EVENTS_CONTENT_TYPE,
    EVENTS_QUEUE,
    JOBS_CONTENT_TYPE,
    Publication,
    encode_dispatch,
)
from shared.telemetry import get_logger, inject, metrics, publish_span

__all__ = ["QueueSettings", "Relay"]

_LEADER_LOCK = (0x6277, -1)
_IDLE = 0.5
"""Seconds after which the relay looks by itself, whatever hints came or got lost."""

_RECOVER_EVERY = 0.25
_LOST_EVERY = 5.0
_HELD_EVERY = 0.5
_BATCH = 500
_ON_THEIR_WAY = 8
_AHEAD = 0.05
"""Seconds of work, at the pace of the last second, that a window may hold where that is more than its base."""

_LATELY = 5.0
"""Seconds in which what a tenant was given fades from its account to a third."""

log = get_logger(__name__)

_PENDING_EVENTS = """
SELECT id, tenant_id, type, subject, sequence, data, principal, correlation_id, causation_id, traceparent, created_at,
       replay_of
FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT %s
"""

_MARK_PUBLISHED = "UPDATE outbox SET published_at = clock_timestamp() WHERE id = ANY(%s)"

_HAND_OUT_ANEW = """
UPDATE jobs SET state = 'scheduled', waiting_for = 'handed_out_anew', lost = least(lost + %(lost)s, 100),
                updated_at = clock_timestamp()
WHERE id IN (
    SELECT id FROM jobs
    WHERE state = 'queued' AND queued_at < clock_timestamp() - make_interval(secs => %(after)s * 2 ^ least(lost, 5))
    FOR UPDATE SKIP LOCKED
)
"""

_WORKERS = """
SELECT threads, queues, actors FROM workers
WHERE heartbeat_at > clock_timestamp() - interval '5 seconds' AND NOT draining
"""

_GATES = f"""
SELECT 'paused', name, NULL, NULL FROM queues WHERE paused_at IS NOT NULL
UNION ALL
SELECT CASE WHEN retry_at <= clock_timestamp() THEN 'probe' ELSE 'open' END, provider, tenant_id, NULL
FROM circuits WHERE state <> 'closed'
UNION ALL
SELECT 'limited', provider, tenant_id, NULL FROM rate_limits
WHERE blocked_until > clock_timestamp() AND bucket IN ('*', 'write')
UNION ALL
SELECT 'held', NULL, tenant_id, NULL FROM standings WHERE {HELD}
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a queue is handed out. All jobs of a queue with a `provider` depend on that third party."""

    name: str
    provider: str | None = None
    per_tenant: int | None = None
    concurrency: int | None = None


class _Account:
    """What each tenant was given of a queue lately, in weight."""

    def __init__(self) -> None:
        self.given: dict[str, float] = {}
        self._at = time.monotonic()

    def fade(self) -> None:
        now = time.monotonic()
        left = math.exp((self._at - now) / _LATELY)
        self.given = {tenant: weight * left for tenant, weight in self.given.items() if weight * left >= 1}
        self._at = now


class Relay:
    """The relay of one service; `run` it in a thread or process of its own."""

    def __init__(
        self,
        service: str,
        database: Database,
        transport: Transport,
        conclusions: Conclusions,
        actors: Mapping[str, Actor[Any, Any]],
        queues: Sequence[QueueSettings],
        event_types: Sequence[str] = (),
        *,
        suspended: float = SUSPENDED,
    ) -> None:
        self.service = service
        self.database = database
        self.transport = transport
        self.conclusions = conclusions
        self.actors = actors
        self.queues = {queue.name: queue for queue in queues}
        self.event_types = event_types
        self.suspended = suspended
        self._go_on = frozenset(name for name, actor in actors.items() if actor.goes_on_suspended)
        self.beat = lambda: None
        """Called in each round, for a liveness probe."""
        self._workers: tuple[float, dict[str, tuple[int, set[str]]]] = (0.0, {})
        self._on_their_way: deque[Pending] = deque()
        self._pace: dict[str, deque[tuple[float, int]]] = defaultdict(deque)
        self._lately: dict[str, _Account] = defaultdict(_Account)
        self._prepared = False
        self._next_recovery = 0.0
        self._next_lost = 0.0
        self._next_held = 0.0

    def run(self, stop: threading.Event) -> None:
        """Stand by, lead when it is our turn, until `stop` is set. Survives outages of database and broker."""
        token = self.database.bind()
        try:
            with use(service=self.service, tenant_id=SYSTEM):
                while not stop.is_set():
                    try:
                        self._lead(stop)
                    except (psycopg.Error, DBAPIError) as error:
                        metrics.relay_failed("database")
                        log.warning("the relay lost the database", error=str(error)[:200])
                    except PublishFailed as error:
                        # RabbitMQ may have lost its queues, too.
                        self._prepared = False
                        metrics.relay_failed("broker")
                        log.warning("the relay lost the broker", error=str(error)[:200])
                    except Exception:
                        metrics.relay_failed("unexpected")
                        log.exception("the relay failed unexpectedly and starts over")
                    metrics.relay_leads(False)
                    stop.wait(0.3)
        finally:
            self.transport.close()
            self.database.unbind(token)

    def _lead(self, stop: threading.Event) -> None:
        with self.database.connect(role=SYSTEM_ROLE) as leadership:
            # Standing by it is ready to publish, so that a change of leaders costs no time.
            if not self._prepared:
                self.transport.prepare([*self.queues, EVENTS_QUEUE], self.event_types)
                self._prepared = True
            while not self._try_lock(leadership):
                self.beat()
                if stop.wait(0.2):
                    return
            metrics.relay_leads(True)
            leadership.execute(f"LISTEN {RELAY}".encode())
            self._on_their_way.clear()
            with self.database.connect(role=SYSTEM_ROLE, prepare_threshold=2) as connection:
                # Marks of what is handed out need not wait for the disk: one that a crash undoes is made again.
                connection.execute("SET synchronous_commit = off")
                connection.execute("SET lock_timeout = '5s'")
                # Whoever led before may have marked and not published; RabbitMQ may have lost what was published.
                # A change of leaders is no sign that anything is wrong with the jobs, so it does not count as a loss.
                connection.execute(_HAND_OUT_ANEW, {"lost": 0, "after": 0})
                log.info("the relay leads")
                while not stop.is_set():
                    self.beat()
                    busy = self.round(connection)
                    self._wait(leadership, connection, busy)

    @staticmethod
    def _try_lock(connection: psycopg.Connection[Any]) -> bool:
        row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", _LEADER_LOCK).fetchone()
        return bool(row and row[0])

    def round(self, connection: Rows) -> bool:
        """Do all that is to be done now; return whether there may be more at once."""
        while self._on_their_way and self._on_their_way[0].settled():
            self._on_their_way.popleft()
        events = self._publish_events(connection)
        now = time.monotonic()
        if now >= self._next_recovery:
            self._next_recovery = now + _RECOVER_EVERY
            recover(self.database, connection, self.conclusions, self.actors, suspended=self.suspended)
        if now >= self._next_lost:
            self._next_lost = now + _LOST_EVERY
            lost = connection.execute(_HAND_OUT_ANEW, {"lost": 1, "after": 30}).rowcount
            if lost:
                log.warning("handed out anew what nobody claimed", jobs=lost)
            overdue(connection, self.conclusions, self.actors)
        self._hand_out(connection)
        return events == _BATCH

    # -- events ----------------------------------------------------------------------------------------

    def _publish_events(self, connection: Rows) -> int:
        rows: list[Any] = connection.cursor(row_factory=namedtuple_row).execute(_PENDING_EVENTS, (_BATCH,)).fetchall()
        if not rows:
            return 0
        began = time.perf_counter()
        publications = []
        for row in rows:
            event = envelope(self.service, row)
            with publish_span(EXCHANGE, row.type, str(row.id), traceparent=row.traceparent):
                traceparent = inject() or row.traceparent
            if traceparent:
                event["traceparent"] = traceparent
            publications.append(
                Publication(
                    exchange=EXCHANGE,
                    routing_key=row.type,
                    body=json.dumps(event, separators=(",", ":")).encode(),
                    content_type=EVENTS_CONTENT_TYPE,
                    message_id=str(row.id),
                    type=row.type,
                    headers={"traceparent": traceparent} if traceparent else None,
                )
            )
        self.transport.publish(publications)
        connection.execute(_MARK_PUBLISHED, ([row.id for row in rows],))
        for row in rows:
            metrics.event_published(row.type)
        metrics.relay_published(0, len(rows), time.perf_counter() - began)
        return len(rows)

    # -- jobs ------------------------------------------------------------------------------------------

    def _hand_out(self, connection: Rows) -> None:
        workers = self._live_workers(connection)
        if not workers:
            return
        existing = lines(connection)
        if not existing:
            return
        gates = self._gates(connection)
        flying = in_flight(connection)
        for name, settings in self.queues.items():
            if name not in existing:
                continue
            threads, known = workers.get(name, (0, set()))
            weights = {
                actor.actor_name: (1 if actor.job.transactional else WEIGHT)
                for actor in self.actors.values()
                if actor.queue_name == name and actor.actor_name in known
            }
            if not threads or not weights:
                continue
            window = self._window(name, threads)
            if settings.concurrency is not None:
                window = min(window, settings.concurrency * WEIGHT)
            limits = QueueLimits(window, settings.per_tenant)
            account = self._lately[name]
            account.fade()
            picked = pick_queue(
                connection,
                name,
                existing[name],
                limits,
                gates[name],
                flying.get(name, {}),
                weights,
                account.given,
            )
            if picked:
                for job in picked:
                    account.given[job.tenant_id] = account.given.get(job.tenant_id, 0.0) + weights[job.actor]
                handed = sum(weights[job.actor] for job in picked)
                self._pace[name].append((time.monotonic(), handed))
                self._publish_jobs(name, picked, threads, plenty=handed >= window // 4)

    def _window(self, queue: str, threads: int) -> int:
        """Return how much of a queue may be in flight: two jobs per thread; more only while jobs are so quick
        that two per thread would be gone before the next round, since what is handed out stands in nobody's line."""
        now = time.monotonic()
        pace = self._pace[queue]
        while pace and pace[0][0] < now - 1:
            pace.popleft()
        quick = int(_AHEAD * sum(weight for _, weight in pace))
        return max(2 * threads * WEIGHT, min(quick, 8 * threads * WEIGHT))

    def _publish_jobs(self, queue: str, picked: Sequence[Picked], threads: int, *, plenty: bool) -> None:
        began = time.perf_counter()
        groups: dict[tuple[str, bool], list[Picked]] = defaultdict(list)
        for job in picked:
            groups[job.actor, job.lost > 0].append(job)
        publications = []
        for (actor, careful), jobs in groups.items():
            size = 1
            if self.actors[actor].job.transactional and not careful:
                # A chunk per thread while there is little, full chunks when there is plenty.
                size = CHUNK if plenty else max(1, min(CHUNK, math.ceil(len(jobs) / threads)))
            for start in range(0, len(jobs), size):
                chunk = sorted(jobs[start : start + size], key=lambda job: job.tenant_id)
                publications.append(
                    Publication(
                        exchange="",
                        routing_key=self.transport.queue(queue),
                        body=encode_dispatch(
                            actor,
                            [(job.id, job.dispatch) for job in chunk],
                            careful=careful,
                            # In order of tenants: the first and the last tell.
                            tenant_id=chunk[0].tenant_id if chunk[0].tenant_id == chunk[-1].tenant_id else None,
                        ),
                        content_type=JOBS_CONTENT_TYPE,
                        message_id=str(chunk[0].id),
                    )
                )
        # Confirms are looked at in later rounds: if one fails, all that is handed out is handed out anew.
        self._on_their_way.append(self.transport.send(publications))
        while len(self._on_their_way) > _ON_THEIR_WAY:
            self._on_their_way.popleft().wait()
        metrics.relay_published(len(picked), 0, time.perf_counter() - began)

    def _live_workers(self, connection: Rows) -> dict[str, tuple[int, set[str]]]:
        """Return, by queue, how many threads consume it and which actors they all know; looked up twice a second."""
        read_at, found = self._workers
        if time.monotonic() - read_at < (0.5 if found else 0.05):
            return found
        fresh: dict[str, tuple[int, set[str]]] = {}
        for threads, queues, actors in connection.execute(_WORKERS):
            for queue in queues:
                count, known = fresh.get(queue, (0, None))
                fresh[queue] = (count + threads, set(actors) if known is None else known | set(actors))
        self._workers = (time.monotonic(), fresh)
        return fresh

    def _gates(self, connection: Rows) -> dict[str, Gates]:
        held: set[str] = set()
        look = time.monotonic() >= self._next_held
        if look:
            self._next_held = time.monotonic() + _HELD_EVERY
        gates = {name: Gates(held=held, go_on=self._go_on, look=look) for name in self.queues}
        for kind, name, tenant, _ in connection.execute(_GATES):
            if kind == "held":
                held.add(tenant)
                continue
            if kind == "paused":
                if name in gates:
                    gates[name].shut = True
                continue
            for queue in self.queues.values():
                if queue.provider != name:
                    continue
                gate = gates[queue.name]
                if kind == "probe":
                    if tenant == "*":
                        gate.probe = True
                    else:
                        gate.probing.add(tenant)
                elif tenant == "*":
                    gate.shut = True
                else:
                    gate.tenants.add(tenant)
        return gates

    # -- waiting ---------------------------------------------------------------------------------------

    def _wait(self, leadership: psycopg.Connection[Any], connection: Rows, busy: bool) -> None:
        if busy:
            return
        if self._drain(leadership, 0):
            # Under load hints come all the time; a breath in between lets each round do more.
            time.sleep(0.004)
            return
        timeout = min(_IDLE, _RECOVER_EVERY)
        now = datetime.now(UTC)
        due = next_due(connection, lines(connection))
        if due is not None:
            timeout = min(timeout, max(0.0, (due - now).total_seconds()))
        self._drain(leadership, timeout)

    @staticmethod
    def _drain(leadership: psycopg.Connection[Any], timeout: float) -> bool:
        """Wait for a hint; take all that have come; return whether there was one."""
        return any(True for _ in leadership.notifies(timeout=timeout, stop_after=1))
